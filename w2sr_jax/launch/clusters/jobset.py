"""Kubernetes: a JobSet, one pod on every host, all started again together when one is lost."""

import dataclasses
from collections.abc import Sequence

from w2sr_jax.core.errors import UserError
from w2sr_jax.launch import job as jobs
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
    namespace: str = setting("namespace")
    queue: str = setting("local queue of Kueue")
    service_account: str = setting("service account of Kubernetes that may read and write the bucket")
    accelerator: str = setting("node label cloud.google.com/gke-accelerator of GPUs, such as nvidia-h100-80gb")
    spot: str = setting("spot nodes: yes or no", "no")
    claim: str = setting("persistent volume claim that is mounted at the root")
    cpu: str = setting("cores that a pod asks for")
    memory: str = setting("memory that a pod asks for, such as 200Gi")


@dataclasses.dataclass(frozen=True)
class _Values:
    job: Job
    settings: Settings
    command: tuple[str, ...]
    spot: bool
    accelerator: str
    topology: str
    final: tuple[int, ...]
    grace: int
    limits: tuple[tuple[str, str], ...]
    volumes: bool


class JobSet:
    about = "Kubernetes JobSet YAML"
    tools = ("kubectl",)
    disks = "own"
    settings = Settings
    options = frozenset({"topology", "slices", "gpus", "image"})

    def written(self, job: Job, assigned: Sequence[str]) -> Written:
        settings = own_settings.parsed(Settings, "jobset", assigned)
        if not job.environment.image:
            raise UserError("a pod runs a container; give --image IMAGE, one that holds w2sr and the configuration")
        if not settings.claim and not job.root.bucket:
            raise UserError(f"--root {job.root.path} is a directory; say with --set claim=… which volume is mounted there")
        for option, path in (("--scratch", job.scratch), ("--root", "" if job.root.bucket else job.root.path)):
            if path and not path.startswith("/"):
                raise UserError(f"{option} {path} is no absolute path, which is where a pod mounts it")
        if settings.claim and job.root.bucket:
            raise UserError(
                f"--set claim={settings.claim} mounts a directory, and --root {job.root.path} is a bucket; leave one out"
            )
        tpu = job.hosts.tpu
        values = _Values(
            job=job,
            settings=settings,
            command=tuple(map(quoting.kubernetes, job.detected() if tpu else job.run())) + _meeting(job),
            spot=own_settings.yes(settings.spot, "spot"),
            accelerator=tpu.chip.gke if tpu else "",
            topology=tpu.topology if tpu else "",
            final=jobs.FINAL,
            grace=GRACE,
            limits=_limits(job, settings),
            volumes=bool(job.scratch or settings.claim or job.hosts.gpus),
        )
        return Written(rendered("jobset.yaml", values), ".yaml")

    def submission(self, path: str) -> tuple[str, ...]:
        return ("kubectl", "create", "-f", path)


def _meeting(job: Job) -> tuple[str, ...]:
    """How pods without TPUs meet: at the first one, by its name. jax asks Kubernetes itself only where it has a
    package and rights for that."""
    if job.hosts.nodes == 1 or job.hosts.tpu:
        return ()
    first = f"{job.name}-hosts-0-0.{job.name}:{jobs.PORT}"
    return ("--coordinator", first, "--processes", str(job.hosts.nodes), "--process", "$(JOB_COMPLETION_INDEX)")


def _limits(job: Job, settings: Settings) -> tuple[tuple[str, str], ...]:
    amounts = {
        "google.com/tpu": str(job.hosts.chips or ""),
        "nvidia.com/gpu": str(job.hosts.gpus or ""),
        "cpu": settings.cpu,
        "memory": settings.memory,
    }
    return tuple((name, amount) for name, amount in amounts.items() if amount)
