"""xpk, which writes and submits a JobSet of its own on GKE."""

import dataclasses
from collections.abc import Sequence

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import exits
from w2sr_jax.launch import quoting
from w2sr_jax.launch import settings as own_settings
from w2sr_jax.launch.cluster import Written
from w2sr_jax.launch.job import Job
from w2sr_jax.launch.rendering import rendered
from w2sr_jax.launch.settings import setting

GRACE = 60
"""Seconds between SIGTERM and SIGKILL."""


@dataclasses.dataclass(frozen=True)
class Settings:
    cluster: str = setting("the cluster, as xpk knows it", required=True)
    zone: str = setting("its zone")
    project: str = setting("its project")
    priority: str = setting("very-low, low, medium, high or very-high", "medium")
    capacity: str = setting("on-demand, spot or flex, where the cluster has several")
    storage: str = setting("storage that was attached to the cluster by xpk, mounted at its own path")


@dataclasses.dataclass(frozen=True)
class _Values:
    job: Job
    settings: Settings
    kind: str
    line: str
    lost: int
    grace: int


class Xpk:
    about = "an xpk command"
    tools = ("xpk",)
    disks = "own"
    settings = Settings
    options = frozenset({"topology", "slices", "image"})

    def written(self, job: Job, assigned: Sequence[str]) -> Written:
        settings = own_settings.parsed(Settings, "xpk", assigned)
        if job.hosts.tpu is None:
            raise UserError("xpk is used for TPU slices here; give --topology, or --on jobset for other nodes")
        if not job.environment.image:
            raise UserError("xpk runs a container; give --image IMAGE, one that holds w2sr and the configuration")
        if settings.capacity not in ("", "on-demand", "spot", "flex"):
            raise UserError(f"--set capacity={settings.capacity}: there are on-demand, spot and flex")
        # `exec`: xpk signals the shell that it starts, which must be the run itself.
        line = "exec " + quoting.words(job.detected())
        values = _Values(job, settings, job.hosts.tpu.accelerator_type, quoting.kubernetes(line), exits.LOST, GRACE)
        return Written(rendered("xpk.sh", values), ".sh")

    def submission(self, path: str) -> tuple[str, ...]:
        return ("bash", path)
