"""What a kind of cluster is: one file in `clusters/`, one template or two, and one line in `launch.py`."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

from w2sr_jax.launch.job import Job


class Written(NamedTuple):
    """A job as its cluster's tool reads it."""

    text: str
    suffix: str
    """Of a file that holds it, such as `.yaml`."""


class Cluster(Protocol):
    """A kind of cluster."""

    about: ClassVar[str]
    tools: ClassVar[tuple[str, ...]]
    """Programs that `--submit` needs on this machine."""
    disks: ClassVar[str]
    """"shared" where hosts of such a cluster share file systems, "own" where each has its own; see `job.check_root`."""
    settings: ClassVar[type]
    """Its own settings: a frozen dataclass of texts, see `settings.setting`."""
    options: ClassVar[frozenset[str]]
    """Which of the options topology, slices, gpus, image, environment, install and logs it has a use for."""

    def written(self, job: Job, assigned: Sequence[str]) -> Written:
        """The job, with settings given as `NAME=VALUE`. `UserError` where it cannot be had of such a cluster."""
        ...

    def submission(self, path: str) -> tuple[str, ...]:
        """The command that takes the job from a file."""
        ...
