"""What libraries would print of a write that the disk refused, which is said once, in a sentence of ours."""

import functools
import logging
import sys
from typing import Any

from w2sr_jax.core import files


class _DiskRefusals(logging.Filter):
    """Drops records about errors in which the disk refused. Orbax, tensorstore and asyncio log the errors that they raise, up to
    ten times each; who gets the error says it once, in words."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return error is None or files.refusal(error) is None


@functools.cache
def hush() -> None:
    """Filter what is logged of a refused write; for the whole process, since some of it is logged when garbage is collected."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_DiskRefusals())
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # tensorstore reports to an event loop that Orbax closed at the first error.
        if unraisable.object is None and str(unraisable.exc_value) == "Event loop is closed":
            return
        before(unraisable)

    sys.unraisablehook = hook
