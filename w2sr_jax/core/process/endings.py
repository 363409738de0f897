"""How a command ends that could not do its work: a sentence and an exit code for whatever was raised."""

import contextlib
import errno
import resource
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.process import surroundings
from w2sr_jax.core.process.stopping import Terminated

PIPE = 128 + signal.SIGPIPE
KEPT = "what was finished before is kept, and the same command goes on from there"


class Ending(NamedTuple):
    """The exit code, and what is said on the standard error (nothing, where nobody listens any more)."""

    code: int
    words: str


def ending(error: BaseException, number: int | None, afterwards: str) -> Ending | None:
    """What to say of an exception; None for one that shows a fault of the program, which its traceback explains best. `number` is
    the signal that has arrived, `afterwards` what an interruption leaves."""
    code = 128 + (number or signal.SIGTERM)
    if number is not None:
        error = _signalled(error) or error
    if isinstance(error, UserError):
        return Ending(2, sentences.printable(str(error)))
    if isinstance(error, Stopped):
        return Ending(code, f"{sentences.printable(str(error))}; the same command goes on from there")
    if isinstance(error, KeyboardInterrupt):
        return Ending(128 + signal.SIGINT, f"interrupted; {afterwards}")
    if isinstance(error, Terminated):
        return Ending(code, f"terminated; {afterwards}")
    if isinstance(error, BrokenPipeError) and not (surroundings.listened(1) and surroundings.listened(2)):
        return Ending(PIPE, "")
    if not isinstance(error, Exception):
        return None
    refused = _exhausted(error) or no_devices(error) or files.refusal(error) or _refused(error)
    return None if refused is None else Ending(2, f"{sentences.printable(refused)}; {KEPT}")


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


def say(ended: Ending) -> None:
    """On the standard error, where there still is one."""
    if ended.words:
        with contextlib.suppress(OSError):
            print(f"w2sr: {ended.words}", file=sys.stderr, flush=True)


def printed(code: int) -> int:
    """The exit code of a command that ends with `code`, once all that it printed is written out; another one where that fails."""
    error = surroundings.flushed()
    if error is None:
        return code
    if isinstance(error, BrokenPipeError):
        return code or PIPE
    say(Ending(2, files.refusal(error, Path("the output")) or f"the output cannot be written: {error.strerror}"))
    return code or 2


def _exhausted(error: BaseException | None) -> str | None:
    """A sentence where memory, threads or processes have run out, also where an exception says so that another one hides."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        said = str(error)
        if isinstance(error, MemoryError) or "std::bad_alloc" in said:
            return f"there is not enough memory{_limit('RLIMIT_AS', 'ulimit -v')}; use smaller settings or a larger machine"
        if "RESOURCE_EXHAUSTED" in said:
            first = sentences.shown(said.partition("\n")[0], 200)
            return (
                f"the device has not enough memory ({first}); lower rows, batch or lengths, or spread the model over more devices"
            )
        if "can't start new thread" in said or (isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.ENOMEM)):
            return f"no further thread or process can be started{_limit('RLIMIT_NPROC', 'ulimit -u')}; raise the limits"
        if isinstance(error, ImportError) and "cannot allocate memory" in said.lower():
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
