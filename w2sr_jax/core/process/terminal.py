"""Text for a terminal: what comes from files, models, servers and hosts cannot control it, hide in it, or look like a line of
ours.

`guard` is for a whole program such as `w2sr`: afterwards all that is written to the standard streams (a log, a warning, a
traceback, a library's progress bar) goes through `escaped`. Code that controls the terminal on purpose takes the `unguarded`
stream and escapes foreign text itself.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

_LINES = "\n\t"
_ASCII = re.compile(r"[\n\t\x20-\x7e]*")
_BAR = re.compile(r"\r(?: *\r?|[^\r\n]*\[[^\r\n]*[,<?][^\r\n]*\] *)")
"""How tqdm, in which the Hub's and other libraries' bars are drawn, goes back to the start of its line."""
_CURSOR = re.compile(r"\n+|(?:\x1b\[A)+")
"""How tqdm goes to another of its lines."""
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


def escaped(text: str) -> str:
    """Text in which control, bidirectional, invisible and broken characters are escapes; line ends, tabs and the spaces of other
    scripts stay."""
    if _ASCII.fullmatch(text) or text.isprintable():
        return text
    return "".join(c if c in _LINES or c.isprintable() or _wide(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def say(text: str) -> None:
    """Print text, escaped."""
    print(escaped(text))


def guard() -> None:
    """Let the standard streams of this process escape what would control a terminal."""
    os.environ.setdefault("PYTHON_COLORS", "0")  # tracebacks of Python 3.13 would be coloured, and the colours escaped
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None:  # a process without a console has none
            setattr(sys, name, cast(TextIO, _Escaping(stream)))


def unguarded(stream: TextIO) -> TextIO:
    """The stream behind `guard`'s, which writes everything as it is."""
    return unguarded(stream.stream) if isinstance(stream, _Escaping) else stream


@contextlib.contextmanager
def coloured() -> Iterator[None]:
    """Inside, colours are not escaped, for a library that prints them."""
    streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    try:
        for name, stream in streams.items():
            if isinstance(stream, _Escaping):
                setattr(sys, name, cast(TextIO, _Escaping(stream.stream, colours=True)))
        yield
    finally:
        for name, stream in streams.items():
            setattr(sys, name, stream)


class _Escaping:
    """A text stream that escapes what is written to it; all else it leaves to `stream`."""

    def __init__(self, stream: TextIO, colours: bool = False) -> None:
        self.stream, self._colours = stream, colours

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        if self._colours:
            self.stream.write("".join(part if index % 2 else escaped(part) for index, part in enumerate(_COLOUR.split(text))))
        elif _BAR.fullmatch(text):
            self.stream.write("\r".join(map(escaped, text.split("\r"))))
        else:
            self.stream.write(text if _CURSOR.fullmatch(text) else escaped(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)


def _wide(character: str) -> bool:
    return character.isspace() and character not in "\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"
