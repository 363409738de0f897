"""SkyPilot: a task for its managed jobs, which start again elsewhere when hosts are taken away."""

import dataclasses
import re
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

AGAIN = (exits.LOST, 129, 134, 135, 139, 143)
"""Exit codes after which SkyPilot starts a job again, as often as it takes. Not 137: by that it marks the hosts that it ends
itself when another one has failed, also of a mistake."""


@dataclasses.dataclass(frozen=True)
class Settings:
    accelerator: str = setting("kind of GPU as SkyPilot calls it, such as H100")
    infra: str = setting("where: gcp, aws/us-east-1, k8s/CONTEXT, …")
    spot: str = setting("spot hosts: yes or no", "yes")
    runtime: str = setting("runtime version of a TPU, where SkyPilot's own choice is not right")


@dataclasses.dataclass(frozen=True)
class _Values:
    job: Job
    settings: Settings
    accelerators: str
    nodes: int
    spot: bool
    again: tuple[int, ...]
    setup: str
    run: str


@dataclasses.dataclass(frozen=True)
class _Run:
    job: Job
    packages: Packages
    command: tuple[str, ...]
    meets: bool
    lost: int
    port: int


class SkyPilot:
    about = "a SkyPilot task"
    tools = ("sky",)
    disks = "own"
    settings = Settings
    options = frozenset({"topology", "gpus", "install"})

    def written(self, job: Job, assigned: Sequence[str]) -> Written:
        settings = own_settings.parsed(Settings, "skypilot", assigned)
        if job.hosts.gpus and not settings.accelerator:
            raise UserError("skypilot needs --set accelerator=…: the kind of GPU, such as H100")
        if settings.accelerator and not re.fullmatch(r"[\w-]+", settings.accelerator):
            raise UserError(f"--set accelerator={settings.accelerator}: write the kind alone, such as H100; --gpus counts them")
        check_travels(job.config, "SkyPilot")
        packages = Packages.of(job)
        tpu = job.hosts.tpu
        meets = job.hosts.nodes > 1 and tpu is None
        command = job.run(packages.program) if meets else job.detected(packages.program)
        run = _Run(job, packages, command[1:], meets, exits.LOST, jobs.PORT)
        accelerators = f"tpu-{tpu.accelerator_type}:1" if tpu else ""
        values = _Values(
            job=job,
            settings=settings,
            accelerators=accelerators or (f"{settings.accelerator}:{job.hosts.gpus}" if job.hosts.gpus else ""),
            nodes=1 if tpu else job.hosts.nodes,
            spot=own_settings.yes(settings.spot, "spot"),
            again=AGAIN,
            setup=_block(packages.script()),
            run=_block(rendered("skypilot_run.sh", run)),
        )
        return Written(rendered("skypilot.yaml", values), ".yaml")

    def submission(self, path: str) -> tuple[str, ...]:
        return ("sky", "jobs", "launch", "--yes", "--detach-run", path)


def _block(script: str) -> str:
    """A script as the lines of a literal block. No value spans lines in it, and none holds what does not print."""
    return Raw("\n".join(f"  {line}".rstrip() for line in script.rstrip("\n").split("\n")))
