"""The exit code and the sentence with which a command ends that could not do its work, for whatever was raised."""

import contextlib
import errno
import resource
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import Absent, Stopped, UserError
from w2sr_jax.core.process import streams
from w2sr_jax.core.process.stopping import Terminated

PIPE = 128 + signal.SIGPIPE
LOST = 75
"""The exit code where another process of the same work is gone, or did not come; the same command may work another time."""
UNHARMED = "what was finished before is kept, and the same command goes on from there"


class Exit(NamedTuple):
    """The exit code, and the sentence for the standard error; empty where nobody reads it any more."""

    code: int
    words: str


def exit_for(error: BaseException, number: int | None, afterwards: str) -> Exit | None:
    """How to end after an exception; None for one that shows a fault of the program, which its traceback explains best. `number`
    is the signal that has arrived (None: none), `afterwards` says in words what an interruption leaves."""
    code = 128 + (number or signal.SIGTERM)
    if number is not None:
        error = _signalled(error) or error
    if isinstance(error, UserError):
        return Exit(LOST if isinstance(error, Absent) else 2, sentences.printable(str(error)))
    if isinstance(error, Stopped):
        return Exit(code, f"{sentences.printable(str(error))}; the same command goes on from there")
    if isinstance(error, KeyboardInterrupt):
        return Exit(128 + signal.SIGINT, f"interrupted; {afterwards}")
    if isinstance(error, Terminated):
        return Exit(code, f"terminated; {afterwards}")
    if isinstance(error, BrokenPipeError) and not (streams.listened(1) and streams.listened(2)):
        return Exit(PIPE, "")
    if not isinstance(error, Exception):
        return None
    refused = _exhausted(error) or no_devices(error) or files.refusal(error) or _refused(error)
    return None if refused is None else Exit(2, f"{sentences.printable(refused)}; {UNHARMED}")


def _signalled(error: BaseException) -> BaseException | None:
    """The exception by which a signal ended the work, where another one hides it: compiled code makes a SystemError of one that
    is raised where it expects none."""
    seen: list[BaseException] = []
    rest: BaseException | None = error
    while rest is not None and rest not in seen:
        if isinstance(rest, Terminated | KeyboardInterrupt):
            return rest
        seen.append(rest)
        rest = rest.__cause__ or rest.__context__
    return None


def no_devices(error: BaseException) -> str | None:
    """A sentence where jax could not begin with the devices that it was told to use; None for any other error."""
    seen: list[BaseException] = []
    rest: BaseException | None = error
    while rest is not None and rest not in seen:
        if "Unable to initialize backend" in str(rest):
            return f"jax cannot use its devices ({sentences.cause(rest)}); see JAX_PLATFORMS, and the driver of what it asks for"
        seen.append(rest)
        rest = rest.__cause__ or rest.__context__
    return None


def say(exit_: Exit) -> None:
    """Print the sentence on the standard error, where there still is one."""
    if exit_.words:
        with contextlib.suppress(OSError):
            print(f"w2sr: {exit_.words}", file=sys.stderr, flush=True)


def after_printing(code: int) -> int:
    """Write out all that a command printed; `code`, or the exit code that says that this failed."""
    error = streams.flushed()
    if error is None:
        return code
    if isinstance(error, BrokenPipeError):
        return code or PIPE
    say(Exit(2, files.refusal(error, Path("the output")) or f"the output cannot be written: {error.strerror}"))
    return code or 2


def _exhausted(error: BaseException | None) -> str | None:
    """A sentence where memory, threads or processes have run out, also where an exception says so that another one hides."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        words = str(error)
        if isinstance(error, MemoryError) or "std::bad_alloc" in words:
            return f"there is not enough memory{_limit('RLIMIT_AS', 'ulimit -v')}; use smaller settings or a larger machine"
        if "RESOURCE_EXHAUSTED" in words:
            first = sentences.shown(words.partition("\n")[0], 200)
            return (
                f"the device has not enough memory ({first}); lower rows, batch or lengths, or spread the model over more devices"
            )
        if "can't start new thread" in words or (isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.ENOMEM)):
            return f"no further thread or process can be started{_limit('RLIMIT_NPROC', 'ulimit -u')}; raise the limits"
        if isinstance(error, ImportError) and "cannot allocate memory" in words.lower():
            return f"a library cannot be loaded, there is not enough memory{_limit('RLIMIT_AS', 'ulimit -v')}; raise the limit"
        error = error.__cause__ or error.__context__
    return None


def _limit(name: str, words: str) -> str:
    limit = resource.getrlimit(getattr(resource, name))[0]
    return "" if limit == resource.RLIM_INFINITY or limit >= sys.maxsize else f" (the limit is {limit:,}, {words})"


def _refused(error: BaseException) -> str | None:
    """A sentence for what the operating system answers otherwise, and for names that are not text."""
    if isinstance(error, UnicodeEncodeError) and any(0xD800 <= ord(c) < 0xE000 for c in error.object[error.start : error.end]):
        return f"{sentences.value(error.object)} holds what is no text (bytes that are not UTF-8), which cannot be written"
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        names = [sentences.shown(str(name), 300) for name in (error.filename, error.filename2) if name is not None]
        return f"{' and '.join(names) or 'the operating system says'}: {error.strerror}"
    return None
