"""The one exception that means "the user can mend this". The command line prints its sentence and exits with code 2."""


class UserError(Exception):
    """A mistake in what the user gave: one sentence that says what was wrong, where, and what would be right."""
