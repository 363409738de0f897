"""Why a piece of work failed that others go on without."""

import traceback

from w2sr_jax.core.code import usercode
from w2sr_jax.core.process import exits


def cause_of_failure(error: BaseException, number: int | None) -> str:
    """Why, in a sentence; a fault of the program's own leaves its traceback on the standard error. `number` is the signal that
    has arrived (None: none)."""
    ended = exits.exit_for(usercode.called_back(error) or error, number, "")
    if ended is not None:
        return ended.words
    traceback.print_exception(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
