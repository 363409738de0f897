"""Encoded examples in a file instead of in memory, so that a data set may be larger than that."""

import os
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from w2sr_jax.batches.encode import Encoded
from w2sr_jax.core.topk import TopK

_BYTES = 4 + 4 + 1 + 1
"""A token's id, log-probability, span and whether it is imitated."""
_LISTED, _REST = 4 + 4, 4
"""What is recorded of a distribution: id and log-probability of each token that is listed, and the mass of the others."""


class StoredExamples(Sequence[Encoded]):
    """A sequence of examples whose tokens lie in a file without a name in `directory`, which goes with this object or with its
    process; in memory are some twenty bytes of each."""

    def __init__(self, directory: Path, examples: Iterable[Encoded]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed with the object
        self.sizes = array("i")
        """Tokens of each example."""
        self.listed = array("i")
        """How many tokens are listed at every position of an example; 0 where nothing was recorded."""
        self._ends, self._verdicts, self._weights = array("q", [0]), array("b"), array("d")
        for example in examples:
            for part in (example.tokens, example.teacher_logprob, example.span, example.supervised):
                self._file.write(part.tobytes())
            for recorded in () if example.top is None else example.top[:3]:
                self._file.write(np.asarray(recorded).tobytes())
            self.sizes.append(len(example.tokens))
            self.listed.append(listed([example]))
            self._ends.append(self._ends[-1] + self._bytes(-1))
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
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        size, count = self.sizes[index], self.listed[index]
        stored = os.pread(self._file.fileno(), self._bytes(index), self._ends[index])
        top = None
        if count:
            ids = np.frombuffer(stored, np.int32, size * count, _BYTES * size)
            logprobs = np.frombuffer(stored, np.float32, size * count, _BYTES * size + ids.nbytes)
            rest = np.frombuffer(stored, np.float32, size, _BYTES * size + ids.nbytes + logprobs.nbytes)
            top = TopK(ids.reshape(size, count), logprobs.reshape(size, count), rest)
        return Encoded(
            tokens=np.frombuffer(stored, np.int32, size),
            teacher_logprob=np.frombuffer(stored, np.float32, size, 4 * size),
            span=np.frombuffer(stored, np.int8, size, 8 * size),
            supervised=np.frombuffer(stored, bool, size, 9 * size),
            verdict=self._verdicts[index],
            weight=self._weights[index],
            top=top,
        )

    def _bytes(self, index: int) -> int:
        count = self.listed[index]
        return self.sizes[index] * (_BYTES + (count * _LISTED + _REST if count else 0))


def sizes(examples: Sequence[Encoded]) -> Sequence[int]:
    """Tokens of each example."""
    return examples.sizes if isinstance(examples, StoredExamples) else [len(example.tokens) for example in examples]


def listed(examples: Sequence[Encoded]) -> int:
    """The most tokens that are listed at a position of any example; 0 where nothing was recorded of their distributions."""
    counts = examples.listed if isinstance(examples, StoredExamples) else [_listed(example.top) for example in examples]
    return max(counts, default=0)


def _listed(top: TopK | None) -> int:
    return 0 if top is None else int(top.ids.shape[1])
