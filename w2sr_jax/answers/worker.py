"""A grading worker: a process of its own that compares answers with `math-verify` and can be killed at any moment.

Run as a script with the bytes of address space it may take. It imports math-verify once and then forks a child that does the
comparing, so that a child which dies costs milliseconds, not the import. JSON lines in on standard input, JSON lines out on what
was standard output:

- out `{"ready": true}` from every child as it begins, or `{"failed": reason}` where it cannot begin;
- in `[id, answer, gold, processor seconds, wall seconds]`, out `{"id": id, "equal": bool}` or `{"id": id, "failed": error}`;
- in `null`: the child makes room for one in which nothing has been compared yet;
- out `{"lost": reason}` where a child died over its item: "timeout", "memory", "recursion" or "crash".

The kernel ends a child at its budget of processor seconds, whatever it is doing, and at its wall seconds should it sleep. All
ends with the input or with the parent.
"""

import contextlib
import ctypes
import gc
import json
import logging
import os
import re
import resource
import signal
import sys
from typing import Any, BinaryIO

MEMORY, RECURSION, RENEWED = 3, 5, 4  # exit codes of a child
_SET_PARENT_DEATH_SIGNAL = 1
_WARMING = (  # what loads grammars and fills caches, once for all children
    ("\\frac{1}{2}+x", "x+0.5"),
    ("(1,2]", "1<x\\leq 2"),
    ("x^2+y^2=1", "y^2=1-x^2"),
    ("(a, b)", "(1, \\sqrt{2})"),
    ("\\{1, 2\\}", "1, 3"),
    ("12", "\\text{twelve}"),
    ("x^2+x-6", "(x-2)(x+3)"),
    ("2y/3", "\\frac{2y}{3}"),
)
_ROOT = re.compile(r"√\s*(\d+|[a-zA-Z])")


class _Exhausted(logging.Handler):
    """Ends the process where math-verify caught a lack of memory and would call the answers unequal."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        if kind is not None and issubclass(kind, MemoryError):
            os._exit(MEMORY)


def main() -> None:
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    parent = os.getppid()
    _end_with(parent)
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Not settable on macOS; there the time limits are what remains.
    if memory > 0 and sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        import math_verify

        logger = logging.getLogger("math_verify")
        logger.handlers, logger.propagate = [_Exhausted()], False
        for gold, answer in _WARMING:
            _equal(math_verify, gold, answer)
        logger.setLevel(logging.DEBUG)
    except Exception as error:
        _reply(replies, {"failed": f"{type(error).__name__}: {error}"})
        return
    gc.collect()
    gc.freeze()  # what is there by now stays shared between the children
    with contextlib.suppress(BrokenPipeError):
        while reason := _child(math_verify, replies):
            if reason != "renewed":
                _reply(replies, {"lost": reason})


def _child(math_verify: Any, replies: BinaryIO) -> str | None:
    """Let a forked child compare until it ends. Why it ended; None where the input has closed."""
    own = os.getpid()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _end_with(own)
            _serve(math_verify, replies)
            code = 0
        except MemoryError:
            code = MEMORY
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return "timeout" if os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM) else "crash"
    return {0: None, MEMORY: "memory", RECURSION: "recursion", RENEWED: "renewed"}.get(os.WEXITSTATUS(status), "crash")


def _serve(math_verify: Any, replies: BinaryIO) -> None:
    _reply(replies, {"ready": True})
    for line in open(0, "rb", closefd=False):  # noqa: SIM115 (nothing to close: the descriptor is the next child's too)
        item = json.loads(line)
        if item is None:
            os._exit(RENEWED)
        number, answer, gold, processor, wall = item
        signal.setitimer(signal.ITIMER_REAL, wall)
        signal.setitimer(signal.ITIMER_PROF, processor)
        try:
            result: dict[str, Any] = {"equal": _equal(math_verify, gold, answer)}
        except MemoryError:
            os._exit(MEMORY)
        except RecursionError:
            os._exit(RECURSION)
        except Exception as error:
            result = {"failed": type(error).__name__}
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _reply(replies, {"id": number, **result})


def _reply(replies: BinaryIO, value: dict[str, Any]) -> None:
    replies.write(json.dumps(value).encode() + b"\n")


def _end_with(parent: int) -> None:
    """Have the kernel end this process with its parent, where the kernel can."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _equal(math_verify: Any, gold: str, answer: str) -> bool:
    # math-verify's own time limits would catch the signals that end this process.
    left = math_verify.parse(_formula(gold), parsing_timeout=None)
    right = math_verify.parse(_formula(answer), parsing_timeout=None)
    return bool(math_verify.verify(left, right, timeout_seconds=None))


def _formula(text: str) -> str:
    text = _ROOT.sub(r"\\sqrt{\1}", text)
    return text if "$" in text or "\\(" in text or "\\[" in text else f"${text}$"


if __name__ == "__main__":
    main()
