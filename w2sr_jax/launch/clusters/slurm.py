"""Slurm: a batch script, one task on every node."""

import dataclasses
import re
from collections.abc import Sequence

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import exits
from w2sr_jax.launch import job as jobs
from w2sr_jax.launch import settings as own_settings
from w2sr_jax.launch.cluster import Written
from w2sr_jax.launch.job import Job
from w2sr_jax.launch.rendering import rendered
from w2sr_jax.launch.settings import setting

SHIFT = 240
"""What a task adds to a final exit code: srun returns the highest of its tasks' codes, and those that it kills have 137 or 143.
Slurm itself means something by 253 and above."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Passed on to sbatch under their own names, but for the last two."""

    partition: str = setting("partition")
    account: str = setting("account that pays")
    qos: str = setting("quality of service")
    time: str = setting("time limit of one start, such as 24:00:00; the job goes on in a next one")
    constraint: str = setting("features that nodes must have")
    reservation: str = setting("reservation")
    exclude: str = setting("nodes to leave out")
    nodelist: str = setting("nodes to use")
    mem: str = setting("memory of a node; 0: all")
    exclusive: str = setting("whole nodes, with all of their cores: yes or no", "yes")
    notice: str = setting("seconds before the time limit in which the run is told to save", "180")


@dataclasses.dataclass(frozen=True)
class _Values:
    job: Job
    options: tuple[tuple[str, str], ...]
    exclusive: bool
    notice: int
    program: tuple[str, ...]
    several: bool
    log: str
    final: str
    shift: int
    port: int
    lost: int


class Slurm:
    about = "a batch script for sbatch"
    tools = ("sbatch",)
    disks = "shared"
    settings = Settings
    options = frozenset({"gpus", "environment", "logs"})

    def written(self, job: Job, assigned: Sequence[str]) -> Written:
        settings = own_settings.parsed(Settings, "slurm", assigned)
        if not re.fullmatch(r"\d{1,5}", settings.notice):
            raise UserError(f"--set notice={settings.notice}: write seconds")
        passed = [field.name for field in dataclasses.fields(Settings) if field.name not in ("exclusive", "notice")]
        program = f"{job.environment.virtual.rstrip('/')}/bin/w2sr" if job.environment.virtual else "w2sr"
        values = _Values(
            job=job,
            options=tuple((name, getattr(settings, name)) for name in passed if getattr(settings, name)),
            exclusive=own_settings.yes(settings.exclusive, "exclusive"),
            notice=int(settings.notice),
            program=job.run(program),
            several=job.hosts.nodes > 1,
            log=f"{job.logs.replace('%', '%%')}/%x-%j-%t.log",
            final="|".join(map(str, (code for code in jobs.FINAL if code < 4))),
            shift=SHIFT,
            port=jobs.PORT,
            lost=exits.LOST,
        )
        return Written(rendered("slurm.sh", values), ".sh")

    def submission(self, path: str) -> tuple[str, ...]:
        return ("sbatch", path)
