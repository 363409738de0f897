"""What a run is given from outside, and the digests that stand for it in the run's lineage."""

from w2sr_jax.core import files
from w2sr_jax.graph.manifest import Given, file_digest
from w2sr_jax.problems.sources import origin
from w2sr_jax.training import checkpoints


def weights(reference: str) -> Given:
    """A checkpoint, a Hugging Face directory or a Hub id."""
    return Given(reference, lambda: checkpoints.mark(reference)[1])


def data(path: str) -> Given:
    """A file or a data set: `PATH`, `hf:…`, `tfds:…`."""

    def digest() -> str:
        found = origin(path)
        if len(found) == 1:
            return file_digest(found[0])
        return files.digest_json([[file.name, file_digest(file)] for file in found])

    return Given(path, digest)
