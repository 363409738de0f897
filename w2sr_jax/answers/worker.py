"""A grading worker: a process of its own that compares answers with `math-verify` and can be killed at any moment.

Run as a script with the bytes of address space it may take (and `relations_as_sets`). It imports math-verify once and then forks
a child that does the comparing, so that a child which dies costs milliseconds, not the import. JSON lines in on standard input,
JSON lines out on what was standard output:

- out `{"ready": true}` from every child as it begins, or `{"failed": reason}` where it cannot begin;
- in `[id, answer, gold, processor seconds, wall seconds]`, out `{"id": id, "equal": bool}` or `{"id": id, "failed": error}`;
- in `null`: the child ends, and another one, in which nothing has been compared yet, takes over;
- out `{"lost": reason}` where a child died over its item: "timeout", "memory", "recursion" or "crash".

The kernel ends a child when its processor seconds are spent, whatever it is doing, and when its wall seconds are over, should it
sleep. All processes end when the input or the parent does.
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
EXACT, DECIMAL = 1e-12, 1e-4  # by which share numbers may differ: where both are exact, where one is a decimal
_SET_PARENT_DEATH_SIGNAL = 1
_WARMING = (  # comparisons that load grammars and fill caches, once for all children
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
    """Ends the process where math-verify has caught a MemoryError, since it would call the answers unequal."""

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
    """Let a forked child compare until it ends, and return why it ended; None where the input was closed."""
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
    """Have the kernel end this process when its parent ends, where it can (on Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _equal(math_verify: Any, gold: str, answer: str) -> bool:
    # math-verify's own time limits would catch the signals that end this process.
    left = math_verify.parse(_formula(gold), parsing_timeout=None)
    right = math_verify.parse(_formula(answer), parsing_timeout=None)
    options = {"allow_set_relation_comp": True} if "relations_as_sets" in sys.argv[2:] else {}
    if not math_verify.verify(left, right, timeout_seconds=None, **options):
        return False
    return "%" in gold + answer or not _differ(left, right)


def _differ(gold: Any, answer: Any) -> bool:
    """Whether two answers that math-verify calls equal are different numbers: it rounds to six decimals, and so calls all tiny
    numbers equal."""
    if not (isinstance(gold, list) and isinstance(answer, list) and gold and answer):
        return False
    try:
        left, right = _values(gold[0]), _values(answer[0])
        return len(left) == len(right) > 0 and any(_far(*pair) for pair in zip(left, right, strict=True))
    except (ArithmeticError, AttributeError, TypeError, ValueError, NotImplementedError):
        return False


def _values(expression: Any) -> list[tuple[complex, bool]]:
    """The numbers that an expression consists of, as far as they can be computed, and whether each is exact. Sets are sorted, and
    unknowns have fixed values."""
    import sympy

    if isinstance(expression, str):
        return []
    if isinstance(expression, sympy.Interval):
        return [*_values(expression.start), *_values(expression.end)]
    if isinstance(expression, sympy.Tuple):
        return [value for part in expression.args for value in _values(part)]
    if isinstance(expression, sympy.FiniteSet):
        return sorted((value for part in expression.args for value in _values(part)), key=lambda v: (v[0].real, v[0].imag))
    if isinstance(expression, sympy.Eq):
        return _values(expression.rhs) if isinstance(expression.lhs, sympy.Symbol) else []
    if isinstance(expression, sympy.core.relational.Relational | sympy.Set | sympy.MatrixBase) or not expression.is_number:
        symbols = sorted(getattr(expression, "free_symbols", ()), key=str)
        if not symbols or not isinstance(expression, sympy.Expr):
            return []
        expression = expression.subs({s: sympy.Rational(100 + 7 * sum(map(ord, str(s).lower())) % 83, 101) for s in symbols})
    exact = not expression.has(sympy.Float)
    value = sympy.N(expression, 30)
    if not value.is_number or value.has(sympy.oo, sympy.zoo, sympy.nan):
        return []
    scale = sympy.Abs(value)
    # Python's complex numbers hold no 1e-400; what they cannot hold is compared by its logarithm.
    if scale != 0 and not 1e-300 < scale < 1e300:
        return [(complex(sympy.log(scale)), exact)]
    return [(complex(value), exact)]


def _far(left: tuple[complex, bool], right: tuple[complex, bool]) -> bool:
    tolerance = EXACT if left[1] and right[1] else DECIMAL
    return abs(left[0] - right[0]) > tolerance * max(abs(left[0]), abs(right[0]))


def _formula(text: str) -> str:
    text = _ROOT.sub(r"\\sqrt{\1}", text)
    return text if "$" in text or "\\(" in text or "\\[" in text else f"${text}$"


if __name__ == "__main__":
    main()
