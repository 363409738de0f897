"""Keep what trackers print in their own threads from the terminal, which is the console's."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO, cast

_SILENT = threading.local()


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Inside `muting`, what the present thread prints goes nowhere."""
    _SILENT.on = True
    try:
        yield
    finally:
        _SILENT.on = False


@contextlib.contextmanager
def muting() -> Iterator[None]:
    """Inside, threads that are `muted` print nothing, and all others as before."""
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in before.items():
        if stream is not None:  # a process without a console has none
            setattr(sys, name, cast(TextIO, _Muting(stream)))
    try:
        yield
    finally:
        for name, stream in before.items():
            if isinstance(getattr(sys, name), _Muting):
                setattr(sys, name, stream)


class _Muting:
    """A text stream that takes nothing from muted threads; all else it leaves to the stream itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return len(text) if getattr(_SILENT, "on", False) else self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)
