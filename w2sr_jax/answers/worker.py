"""A grading worker: a process of its own that compares answers with `math-verify` and can be killed at any moment.

Run as a script; JSON lines in on standard input, JSON lines out on what was standard output. The first line out is
`{"ready": true}` or `{"failed": reason}`. Then, per line in, `[answer, gold, seconds]`, one line out: `{"equal": bool}` or
`{"failed": reason}`. The process ends itself when an item takes `seconds` (should its parent be gone), when memory runs out
(exit code 3), and when its input closes.
"""

import json
import os
import signal
import sys
from typing import Any

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def reply(value: dict[str, Any]) -> None:
        replies.write(json.dumps(value) + "\n")
        replies.flush()

    if resource is not None:
        memory = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Not settable on macOS; there the parent's time limit is what remains.
        if memory > 0 and sys.platform.startswith("linux"):
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        import math_verify

        _equal(math_verify, "\\frac{1}{2}+x", "x+0.5")  # the first comparison loads grammars
    except Exception as error:
        reply({"failed": f"{type(error).__name__}: {error}"})
        return
    reply({"ready": True})
    for line in sys.stdin:
        answer, gold, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            result: dict[str, Any] = {"equal": _equal(math_verify, gold, answer)}
        except MemoryError:
            os._exit(3)
        except RecursionError:
            result = {"failed": "recursion"}
        except Exception as error:
            result = {"failed": type(error).__name__}
        signal.setitimer(signal.ITIMER_REAL, 0)
        reply(result)


def _equal(math_verify: Any, gold: str, answer: str) -> bool:
    # math-verify's own time limits swallow the alarm that ends this process; the parent keeps time.
    left = math_verify.parse(_formula(gold), parsing_timeout=None)
    right = math_verify.parse(_formula(answer), parsing_timeout=None)
    return bool(math_verify.verify(left, right, timeout_seconds=None))


def _formula(text: str) -> str:
    return text if "$" in text or "\\(" in text or "\\[" in text else f"${text}$"


if __name__ == "__main__":
    main()
