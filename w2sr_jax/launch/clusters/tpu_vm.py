"""TPU-VM: gcloud commands that ask for a queued resource, prepare all of its workers and run on all of them, again where they are
taken away."""

import dataclasses
from collections.abc import Sequence

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import exits
from w2sr_jax.launch import job as jobs
from w2sr_jax.launch import settings as own_settings
from w2sr_jax.launch.cluster import Written
from w2sr_jax.launch.job import Job
from w2sr_jax.launch.packages import Packages, check_travels
from w2sr_jax.launch.rendering import Raw, rendered
from w2sr_jax.launch.settings import setting

RUNTIMES = {"v4": "tpu-ubuntu2204-base", "v5e": "v2-alpha-tpuv5-lite", "v5p": "v2-alpha-tpuv5", "v6e": "v2-alpha-tpuv6e"}
"""Runtime versions by kind of chip. Source: Google's page "TPU software versions" (cloud.google.com/tpu/docs/runtimes)."""
SHIFT = 200
"""What a worker adds to a final exit code: gcloud ends with the first worker's code, and with 1 where it fails itself."""


@dataclasses.dataclass(frozen=True)
class Settings:
    zone: str = setting("the zone of the TPU", required=True)
    project: str = setting("the project that pays")
    runtime: str = setting("runtime version, where that of the chip's kind is not right")
    capacity: str = setting("on-demand, spot, reserved or guaranteed", "on-demand")
    service_account: str = setting("service account that may read and write the bucket")
    worker: str = setting("workers that run it: all", "all")
    internal_ip: str = setting("reach workers by internal addresses: yes or no", "no")
    keep: str = setting("keep the TPU, and pay for it, when all is done: yes or no", "no")


@dataclasses.dataclass(frozen=True)
class _Values:
    job: Job
    settings: Settings
    kind: str
    runtime: str
    install: str
    command: tuple[str, ...]
    program: str
    final: str
    shift: int
    lost: int
    internal: bool
    keep: bool


class TpuVm:
    about = "gcloud commands for all workers of a queued resource"
    tools = ("gcloud", "bash")
    disks = "own"
    settings = Settings
    options = frozenset({"topology", "install", "logs"})

    def written(self, job: Job, assigned: Sequence[str]) -> Written:
        settings = own_settings.parsed(Settings, "tpu-vm", assigned)
        tpu = job.hosts.tpu
        if tpu is None:
            raise UserError("tpu-vm needs --topology, such as v5p:2x2x4: a slice whose workers are its hosts")
        if job.hosts.nodes != tpu.hosts[0]:
            own = f"{tpu.hosts[0]} host{'s'[: tpu.hosts[0] > 1]}"
            raise UserError(f"a TPU-VM {tpu} has {own}, not {job.hosts.nodes}; leave --nodes out (jobset and xpk take --slices)")
        if settings.worker != "all":
            raise UserError(
                f"--set worker={settings.worker} would start the run on part of the {job.hosts.nodes} hosts of {tpu}, where it "
                f"waits for the others in vain; leave it out"
                if job.hosts.nodes > 1
                else f"--set worker={settings.worker}: {tpu} has one host, which `all` names; leave it out"
            )
        if settings.capacity not in ("on-demand", "spot", "reserved", "guaranteed"):
            raise UserError(f"--set capacity={settings.capacity}: there are on-demand, spot, reserved and guaranteed")
        check_travels(job.config, "tpu-vm")
        packages = Packages.of(job)
        values = _Values(
            job=job,
            settings=settings,
            kind=tpu.accelerator_type,
            runtime=settings.runtime or RUNTIMES[tpu.chip.name],
            install=Raw(packages.script().rstrip("\n")),
            command=job.detected()[1:],
            program=Raw(packages.program),
            final=" | ".join(map(str, (code for code in jobs.FINAL if code < 4))),
            shift=SHIFT,
            lost=exits.LOST,
            internal=own_settings.yes(settings.internal_ip, "internal-ip"),
            keep=own_settings.yes(settings.keep, "keep"),
        )
        return Written(rendered("tpu_vm.sh", values), ".sh")

    def submission(self, path: str) -> tuple[str, ...]:
        return ("bash", path)
