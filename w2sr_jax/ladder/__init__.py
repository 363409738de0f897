"""Composes the stages into an experiment: `plan` lays out the tasks, `run` does what is not done."""
