"""Installing the package on hosts that are bare: a virtual environment of uv's, from the lock file where there is one."""

import dataclasses
from pathlib import PurePosixPath

from w2sr_jax import __version__
from w2sr_jax.core.errors import UserError
from w2sr_jax.launch.job import Job
from w2sr_jax.launch.rendering import rendered

PYTHON = ">=3.11"


@dataclasses.dataclass(frozen=True)
class Packages:
    """What is installed, in this order: the locked packages (a file in the working directory, "" for none), then `wanted`."""

    lock: str
    wanted: str
    extra: str
    python: str = PYTHON
    program: str = "~/w2sr-environment/bin/w2sr"

    @classmethod
    def of(cls, job: Job) -> "Packages":
        """Those of a job: what `--install` says, with the extras of the job's accelerator and bucket where it names none."""
        extras = [extra for extra in (job.hosts.extra, job.root.extra) if extra]
        extra = f"[{','.join(extras)}]" if extras else ""
        wanted = job.environment.install or f"w2sr-jax{extra}=={__version__}"
        if wanted in (".", "w2sr-jax"):
            wanted += extra
        if wanted.startswith("-"):
            raise UserError(f"--install {wanted} is an option of pip; name a package, a wheel or a directory")
        return cls(job.environment.lock, wanted, job.hosts.extra)

    def script(self) -> str:
        """Lines of bash that install them."""
        return rendered("packages.sh", self)


def check_travels(config: str, cluster: str) -> None:
    """`UserError` where a configuration is not below the working directory, which is what hosts get."""
    path = PurePosixPath(config)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"{config} is outside of the working directory, which {cluster} copies to the hosts; name a file below it"
        )
