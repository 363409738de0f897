"""Composes the stages into an experiment: `plan` lays out the tasks, `run` does those that are not done, the others are their work."""
