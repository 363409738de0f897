"""Experiments as files: read from configurations, changed on the command line, saved with a run."""
