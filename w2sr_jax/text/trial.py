"""Opens a tokenizer.json and encodes a few texts with it, in a process of its own, since a tokenizer came with a download: its
rules may search without end, or make a gigabyte of a word.

Run as a script. JSON on standard input, `{"path": …, "texts": […]}`; JSON on standard output: null, or what is wrong, in words.
The kernel ends the process after `SECONDS` of processor time or at `MEMORY` bytes of address space, and refuses every write to a
file. Imports nothing of this package.
"""

import json
import os
import resource
import sys
from typing import Any

SECONDS = 30
MEMORY = 3 * 2**30
PER_CHARACTER = 16
"""Tokens that a rule may make of each character of a text."""


def main() -> None:
    job = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # Not settable on macOS; there the time limit is what remains.
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import tokenizers

    try:
        opened = tokenizers.Tokenizer.from_file(job["path"])
        opened.no_padding()
        opened.no_truncation()
        excessive = next((text for text in job["texts"] if _many(opened, text)), None)
        words = (
            None if excessive is None else f"it makes more than {PER_CHARACTER} tokens of each character of {excessive[:20]!r}"
        )
    except BaseException as error:  # a panic of the library is no Exception
        words = str(error)[:300]
    json.dump(words, sys.stdout)


def _many(opened: Any, text: str) -> bool:
    return len(opened.encode(text, add_special_tokens=False).ids) > PER_CHARACTER * len(text)


if __name__ == "__main__":
    main()
