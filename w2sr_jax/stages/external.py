"""What a run is given from outside."""

import dataclasses

from w2sr_jax.core import files, hub
from w2sr_jax.graph.manifest import file_digest
from w2sr_jax.graph.stage import ExternalInput
from w2sr_jax.problems import datasets


@dataclasses.dataclass(frozen=True)
class Weights(ExternalInput):
    """A checkpoint, a Hugging Face directory or a Hub id."""

    def at_hand(self) -> bool:
        return hub.at_hand(self.name, "weights") is not None

    def digest(self) -> str:
        from w2sr_jax.training import checkpoints

        return checkpoints.mark(self.name)[1]


@dataclasses.dataclass(frozen=True)
class DataSet(ExternalInput):
    """A file or a data set: `PATH`, `hf:…`, `tfds:…`."""

    def at_hand(self) -> bool:
        return datasets.at_hand(self.name)

    def digest(self) -> str:
        paths = datasets.source_files(self.name)
        if len(paths) == 1:
            return file_digest(paths[0])
        return files.digest_json([[path.name, file_digest(path)] for path in paths])


def weights(reference: str | None) -> tuple[Weights, ...]:
    """The parameters that a user gave by name, if any."""
    return () if reference is None else (Weights(reference),)


def data_sets(paths: "list[str]") -> tuple[DataSet, ...]:
    """The files and data sets that a user gave, each once."""
    return tuple(DataSet(path) for path in dict.fromkeys(paths) if path)
