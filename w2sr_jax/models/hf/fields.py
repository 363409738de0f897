"""Access to the fields of a `config.json`, with sentences for what is missing, mistyped or not supported. No jax."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError

_NO_DEFAULT: Any = object()
_LONGEST = 80


@dataclass(frozen=True)
class Fields:
    """The fields of a `config.json`, with the defaults of its family."""

    raw: Mapping[str, Any]
    path: Path
    defaults: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """The value as it is written, else the default, else None."""
        return self.raw[name] if name in self.raw else self.defaults.get(name)

    def integer(self, name: str, default: Any = _NO_DEFAULT) -> Any:
        """A whole number. An absent field is the family's default, else `default`; a null is `default`."""
        return self._typed(name, default, int, "a whole number")

    def size(self, name: str, most: int) -> int:
        """A whole number from 1 to `most`."""
        value = self.integer(name)
        if not 1 <= value <= most:
            raise UserError(f"{self.path}: {name} is {_shown(value)}; it must be 1 to {most:,}")
        return int(value)

    def number(self, name: str) -> float:
        """A number that must be there or have a default."""
        return float(self._typed(name, _NO_DEFAULT, (int, float), "a number"))

    def optional(self, name: str) -> float | None:
        """A number or, absent or null, None."""
        value = self._typed(name, None, (int, float), "a number")
        return None if value is None else float(value)

    def refusal(self, name: str, right: str) -> UserError:
        """The sentence for a field whose value is not supported."""
        return self.refused(name, self.raw.get(name), right)

    def refused(self, what: str, value: Any, right: str) -> UserError:
        """The sentence for a value that is not supported."""
        return UserError(f"{self.path}: {what} {_shown(value)} is not supported; {right}")

    def _typed(self, name: str, default: Any, kind: Any, words: str) -> Any:
        value = self.get(name)
        if value is None:
            if default is not _NO_DEFAULT:
                return default
            raise UserError(f"{self.path}: the field {name} is missing")
        if not isinstance(value, kind) or isinstance(value, bool) or not _sane(value):
            raise UserError(f"{self.path}: {name} is {_shown(value)}; it should be {words}")
        return value


def _sane(value: int | float) -> bool:
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63


def _shown(value: Any) -> str:
    try:
        return sentences.shown(json.dumps(value, ensure_ascii=False), _LONGEST)
    except (RecursionError, ValueError):  # too deep, or more digits than Python writes
        return sentences.value(value, _LONGEST)
