"""Exceptions that the command line turns into one sentence and an exit code."""


class UserError(Exception):
    """A mistake in what the user gave: one sentence that says what was wrong, where, and what would be right. Exit code 2."""


class Absent(UserError):
    """Another process of the same work is not there. Nothing need be mended: the same command may work another time. Exit code
    75."""


class Stopped(Exception):
    """Work that was asked to stop has saved what it had, and says where. Exit code 143 (SIGTERM) or 130 (SIGINT)."""


class Unsavable(UserError):
    """A setting cannot be saved with a run so that it can be read back as what it is."""


class NothingToTrain(UserError):
    """A model has nothing to learn from. A student of one arm is then skipped, with this sentence as the reason; anything else
    cannot go on."""
