"""The standard streams of this process: they take whatever is printed, and whether somebody reads them."""

import contextlib
import io
import os
import select
import sys


def prepare() -> None:
    """Make the standard streams take whatever is printed: characters that their encoding does not have become escapes, and a
    closed stream is replaced by the null device (otherwise the next file that is opened would be printed into)."""
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            with contextlib.suppress(OSError):
                opened = os.open(os.devnull, os.O_RDWR)
                if opened != handle:
                    os.dup2(opened, handle)
                    os.close(opened)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8", errors="replace"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def listened(handle: int) -> bool:
    """Whether somebody can still read what is written to a pipe or socket; True for anything else."""
    with contextlib.suppress(OSError):
        poll = select.poll()
        poll.register(handle, 0)
        return not any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))
    return True


def flushed() -> OSError | None:
    """Write out what was printed; the first error in doing so. After an error the stream goes to the null device, so that the
    interpreter does not try again at its end."""
    failure = None
    for stream, handle in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except OSError as error:
            failure = failure or error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, handle)
            os.close(nowhere)
    return failure
