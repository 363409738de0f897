"""Encoded examples kept in a file instead of in memory, so that a data set may be larger than that."""

import os
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from w2sr_jax.batches.encode import Encoded

_BYTES = 4 + 4 + 1 + 1
"""A token's id, log-probability, span and whether it is imitated."""


class StoredExamples(Sequence[Encoded]):
    """A sequence of examples whose tokens lie in a file without a name in `directory`, which goes with this object or with its
    process; in memory are some twenty bytes of each."""

    def __init__(self, directory: Path, examples: Iterable[Encoded]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed with the object
        self.sizes = array("i")
        """Tokens of each example."""
        self._ends, self._verdicts, self._weights = array("q", [0]), array("b"), array("d")
        for example in examples:
            for part in (example.tokens, example.teacher_logprob, example.span, example.supervised):
                self._file.write(part.tobytes())
            self.sizes.append(len(example.tokens))
            self._ends.append(self._ends[-1] + _BYTES * len(example.tokens))
            self._verdicts.append(example.verdict)
            self._weights.append(example.weight)
        self._file.flush()

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...
    @overload
    def __getitem__(self, index: slice) -> list[Encoded]: ...
    def __getitem__(self, index: int | slice) -> Encoded | list[Encoded]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        size = self.sizes[index]
        stored = os.pread(self._file.fileno(), _BYTES * size, self._ends[index])
        return Encoded(
            tokens=np.frombuffer(stored, np.int32, size),
            teacher_logprob=np.frombuffer(stored, np.float32, size, 4 * size),
            span=np.frombuffer(stored, np.int8, size, 8 * size),
            supervised=np.frombuffer(stored, bool, size, 9 * size),
            verdict=self._verdicts[index],
            weight=self._weights[index],
        )


def sizes(examples: Sequence[Encoded]) -> Sequence[int]:
    """Tokens of each example."""
    return examples.sizes if isinstance(examples, StoredExamples) else [len(example.tokens) for example in examples]
