"""Answers of a model to many problems, divided among the processes of a run: each draws and grades those to its own part, and the
first one gathers them from files."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from w2sr_jax.core import files, records
from w2sr_jax.core.records import Rollout, Trace
from w2sr_jax.core.sharing import ON_ONE_DISK, Sharing
from w2sr_jax.parallel import processes
from w2sr_jax.sampling.shards import draws_apart, on_own_devices
from w2sr_jax.sampling.traces import Author

T = TypeVar("T")
A = TypeVar("A", Trace, Rollout)


@dataclasses.dataclass(frozen=True)
class Division:
    """How the answers of one author are divided: into `ways` parts, of which this process draws number `part`. `folder` is where
    parts lie until they are gathered, which all processes see as `sharing` says."""

    author: Author
    ways: int
    part: int
    folder: Path
    sharing: Sharing = ON_ONE_DISK

    @classmethod
    def of(cls, author: Author, folder: Path, sharing: Sharing = ON_ONE_DISK) -> "Division":
        """Each process draws with parameters on its own devices; all draw everything together where one copy of the model spans
        processes. All processes must call it."""
        if processes.count() == 1 or not draws_apart(author.mesh):
            return cls(author, 1, 0, folder, sharing)
        return cls(on_own_devices(author), processes.count(), processes.index(), folder, sharing)

    def own(self, rows: Sequence[T]) -> list[T]:
        """Those of some problems, or of other rows, that this process is to answer."""
        return list(rows[self.part :: self.ways])

    def gather(self, name: str, answers: Sequence[A], order: Sequence[str], kind: type[A]) -> list[A]:
        """What all processes drew, at the first process, in the order of the problems whose ids are `order`; nothing at the
        others."""
        if self.ways == 1:
            return list(answers) if processes.is_first() else []
        path = self._path(name, self.part)
        records.write(path, kind, answers)
        self.sharing.publish([path])
        processes.barrier(f"answers {self.folder.name} {name}")
        if not processes.is_first():
            if not self.sharing.one_disk:
                files.remove(path)  # the first process has it from where it was published
            return []
        row: Mapping[str, int] = {problem: index for index, problem in enumerate(order)}
        paths = [self._path(name, part) for part in range(self.ways)]
        for path in paths[1:]:
            self.sharing.obtain(path)
        every = [answer for path in paths for answer in records.read(path, kind)]
        for path in paths:
            files.remove(path)
        return sorted(every, key=lambda answer: (row[answer.problem_id], answer.sample))

    def _path(self, name: str, part: int) -> Path:
        return self.folder / f".{name}-{part}.parquet"
