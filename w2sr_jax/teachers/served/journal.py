"""Answers that were paid for, one line each, on disk as soon as they arrive.

    {"problem": …, "sample": …, "request": DIGEST, "asked": MODEL, "text": …, …, "check": DIGEST}

Lines are only ever appended. One that a killed process tore off, or that was damaged since, is left aside and counted; its
request is sent again. Lines from before servers' finish reasons were kept have none; they are read like all others.
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
    """The file as a mapping; of the texts only their places are held in memory. `torn` counts lines that are left aside."""

    def __init__(self, path: Path) -> None:
        self.path, self.torn = path, 0
        self._places: dict[Key, int] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b")
        self._file.seek(0)
        place, whole = 0, True
        for line in self._file:
            whole = line.endswith(b"\n")
            row = _row(line)
            if row is None:
                self.torn += 1
            else:
                self._places.setdefault((row["problem"], row["sample"], row["request"]), place)
            place += len(line)
        if not whole:
            self._write(b"\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, key: Key, asked: str, answer: Answer) -> None:
        """Keep an answer of the model that was asked for as `asked`. It is on disk when this returns."""
        problem, sample, digest = key
        row = {"problem": problem, "sample": sample, "request": digest, "asked": asked, **answer._asdict()}
        line = files.canonical_json({**row, "check": _check(row)}).encode() + b"\n"
        self._places[key] = self._write(line)

    def get(self, key: Key) -> tuple[str, Answer] | None:
        """The model that was asked, and its answer."""
        place = self._places.get(key)
        if place is None:
            return None
        file = self._opened()
        file.seek(place)
        row = _row(file.readline())
        if row is None or (row["problem"], row["sample"], row["request"]) != key:
            raise UserError(f"{self.path} was changed by another program; leave it alone and run the same command again")
        outcome: Outcome = row["outcome"]
        finish: Finish = row["finish"]
        tokens = row["prompt_tokens"], row["completion_tokens"]
        more = row["mean_logprob"], row["model"], row.get("reason")
        return row["asked"], Answer(row["text"], outcome, finish, *tokens, *more)

    def _write(self, data: bytes) -> int:
        """Append, and give the place."""
        file = self._opened()
        try:
            place = file.seek(0, os.SEEK_END)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise UserError(files.refusal(error, self.path) or f"{self.path} cannot be written: {error}") from None
        return place

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise ValueError("the journal is used outside its with statement")
        return self._file


def _row(line: bytes) -> dict[str, Any] | None:
    """A line's values; None where it is not as it was written."""
    try:
        row = json.loads(line)
        check = row.pop("check")
        sound = check == _check(row) and row["outcome"] in OUTCOMES
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None
    return row if sound else None


def _check(row: dict[str, Any]) -> str:
    return files.digest_json(row)[:_CHECK]
