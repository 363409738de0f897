"""The answers of a server, one line each, on disk as soon as they arrive.

    {"problem": …, "sample": …, "request": DIGEST, "asked": MODEL, "text": …, …, "check": DIGEST}

Lines are only ever appended. A line that a killed process left incomplete, or that was damaged since, is skipped and counted; its
request is sent again. Older journals have no finish reasons; their lines are read like all others.
"""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Finish
from w2sr_jax.teachers.served.answer import OUTCOMES, Answer, Outcome

Key = tuple[str, int, str]
"""Problem id, sample, digest of the request."""

_CHECK = 16  # digits of a line's digest


class Journal:
    """The file as a mapping from a request's key to its answer. Only the lines' offsets are in memory. `torn` counts the lines
    that were skipped."""

    def __init__(self, path: Path) -> None:
        self.path, self.torn = path, 0
        self._offsets: dict[Key, int] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b")
        self._file.seek(0)
        offset, whole = 0, True
        for line in self._file:
            whole = line.endswith(b"\n")
            row = _row(line)
            if row is None:
                self.torn += 1
            else:
                self._offsets.setdefault((row["problem"], row["sample"], row["request"]), offset)
            offset += len(line)
        if not whole:
            self._write(b"\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __contains__(self, key: Key) -> bool:
        return key in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, key: Key, asked: str, answer: Answer) -> None:
        """Append the answer of the model that the request named `asked`. It is on disk when this returns."""
        problem, sample, digest = key
        row = {"problem": problem, "sample": sample, "request": digest, "asked": asked, **answer._asdict()}
        if answer.top is None:
            del row["top"]
        line = files.canonical_json({**row, "check": _check(row)}).encode() + b"\n"
        self._offsets[key] = self._write(line)

    def get(self, key: Key) -> tuple[str, Answer] | None:
        """The name of the model that was asked, and its answer; None where there is none for the key."""
        offset = self._offsets.get(key)
        if offset is None:
            return None
        file = self._opened()
        file.seek(offset)
        row = _row(file.readline())
        if row is None or (row["problem"], row["sample"], row["request"]) != key:
            raise UserError(f"{self.path} was changed by another program; leave it alone and run the same command again")
        outcome: Outcome = row["outcome"]
        finish: Finish = row["finish"]
        tokens = row["prompt_tokens"], row["completion_tokens"]
        more = row.get("reason"), row.get("top")
        return row["asked"], Answer(row["text"], outcome, finish, *tokens, row["mean_logprob"], row["model"], *more)

    def _write(self, data: bytes) -> int:
        """Append data; the offset at which it begins."""
        file = self._opened()
        try:
            offset = file.seek(0, os.SEEK_END)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise UserError(files.refusal(error, self.path) or f"{self.path} cannot be written: {error}") from None
        return offset

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise ValueError("the journal is used outside its with statement")
        return self._file


def _row(line: bytes) -> dict[str, Any] | None:
    """A line's values; None where it is incomplete or damaged."""
    try:
        row = json.loads(line)
        check = row.pop("check")
        sound = check == _check(row) and row["outcome"] in OUTCOMES
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None
    return row if sound else None


def _check(row: dict[str, Any]) -> str:
    return files.digest_json(row)[:_CHECK]
