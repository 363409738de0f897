"""Keeps one failed write from being told ten times: Orbax, tensorstore and asyncio also log the error that they raise."""

import functools
import logging
import sys
from typing import Any

from w2sr_jax.core import files


class _Raised(logging.Filter):
    """Drops records about errors in which the disk refused; who gets the error says it once, in words."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return error is None or files.refusal(error) is None


@functools.cache
def hush() -> None:
    """Once for the process: some of it is logged when garbage is collected, long after."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_Raised())
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # tensorstore reports to an event loop that Orbax closed at the first error.
        if unraisable.object is None and str(unraisable.exc_value) == "Event loop is closed":
            return
        before(unraisable)

    sys.unraisablehook = hook
