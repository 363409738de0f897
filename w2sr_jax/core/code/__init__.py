"""Python of the user's own: finding it, copying it into a run, deciding whether to execute it, and executing it."""
