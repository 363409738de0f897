"""What a job does: the same `w2sr run` on every host."""

import dataclasses
import re
from pathlib import PurePosixPath

from w2sr_jax.core import sentences
from w2sr_jax.core.bucket import EXTRAS
from w2sr_jax.core.errors import UserError
from w2sr_jax.launch.hosts import Hosts

PORT = 4000
"""Where process 0 is met, on hosts that nobody shares with this job."""
WAIT = 900
"""Seconds in which all hosts must come (some pull an image while others are there), and in which what is left of an earlier start
must have given up the lease on a bucket."""
GRACE = 25
"""Seconds in which a run saves after SIGTERM: Kubernetes and Slurm give 30 where nothing else is set."""
RESTARTS = 30
FINAL = (1, 2, 3, 126, 127)
"""Exit codes after which a job is not started again: a fault of the program, a user's mistake, a requirement that is not met, a
program that is not there. Others are of hosts that were lost or stopped: 75, and 128 + the number of a signal."""
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_BUCKET = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


@dataclasses.dataclass(frozen=True)
class Root:
    """Where runs are written: a directory or a bucket. `shared` states that all hosts see the directory."""

    path: str
    shared: bool = False

    @property
    def bucket(self) -> bool:
        return bool(_BUCKET.match(self.path)) and not self.path.startswith("file://")

    @property
    def extra(self) -> str:
        """The extra of the package that brings what the bucket needs; "" for a directory."""
        return EXTRAS.get(self.path.partition("://")[0], "") if self.bucket else ""


@dataclasses.dataclass(frozen=True)
class Environment:
    """How the hosts get the package: a container image that holds it, the virtual environment of a disk that all see, or packages
    for pip, which are installed from the lock file first where the working directory has one."""

    image: str = ""
    virtual: str = ""
    install: str = ""
    lock: str = ""


@dataclasses.dataclass(frozen=True)
class Job:
    """One experiment on all hosts of a cluster. `arguments` are those of `w2sr run` but for the root, and for what says which of
    the hosts one is."""

    name: str
    config: str
    arguments: tuple[str, ...]
    hosts: Hosts
    root: Root
    scratch: str = ""
    environment: Environment = Environment()
    restarts: int = RESTARTS
    logs: str = "logs"

    def run(self, program: str = "w2sr") -> tuple[str, ...]:
        """The command of every host, which does not say yet which of them one is."""
        scratch = ("--scratch", self.scratch) if self.scratch else ()
        wait = ("--wait", str(WAIT)) if self.hosts.nodes > 1 or self.root.bucket else ()
        grace = ("--grace", str(GRACE))  # before the user's own arguments, of which the last one counts
        return (program, "run", self.config, *grace, *self.arguments, "--root", self.root.path, *scratch, "--plain", *wait)

    def detected(self, program: str = "w2sr") -> tuple[str, ...]:
        """The command of every host where the cluster says which it is, as it does on TPUs."""
        return (*self.run(program), *(("--processes", "0") if self.hosts.nodes > 1 else ()))


def name_from(experiment: str) -> str:
    """A job's name from an experiment's, which may hold any characters."""
    plain = re.sub(r"[^a-z0-9]+", "-", experiment.lower()).strip("-")
    return (plain if plain[:1].isalpha() else f"w2sr-{plain}")[:40].rstrip("-")


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--job {sentences.value(name)} names no job everywhere: at most 40 of a-z, 0-9 and -, beginning with a letter"
        )


def check_root(root: Root, hosts: Hosts, disks: str) -> None:
    """`UserError` where the hosts would not write to the same root, or what they write would go with them. `disks` says whose the
    disks of hosts are in a cluster: "shared" where clusters of its kind share file systems, "own" where each host has its own."""
    if root.bucket and not root.extra:
        schemes = " or ".join(f"{scheme}://" for scheme in EXTRAS)
        raise UserError(f"--root {root.path}: runs lie in a directory, or in a bucket of {schemes}")
    if root.bucket and root.extra != EXTRAS["gs"] and hosts.nodes > 1:
        raise UserError(
            f"--root {root.path}: {hosts.nodes:,} hosts write one checkpoint together, which this kind of bucket does not allow; "
            "give one of gs://, or mount this one on every host and give that directory with --shared"
        )
    if root.bucket or root.shared:
        return
    path = PurePosixPath(root.path)
    several = hosts.nodes > 1
    if several and not path.is_absolute():
        raise UserError(
            f"--root {root.path} is a directory of this machine, and {hosts.nodes:,} hosts need one that all see; give a bucket "
            f"(gs://…), an absolute path on a shared disk, or say with --shared that it is one"
        )
    if several and (disks == "own" or path.is_relative_to("/tmp") or path.is_relative_to("/dev")):
        raise UserError(
            f"--root {root.path} would be another directory on each of the {hosts.nodes:,} hosts; give a bucket "
            f"(gs://…), or say with --shared that it is mounted on all of them"
        )
    if disks == "own":
        raise UserError(
            f"--root {root.path} is on the host's own disk and goes with it; give a bucket (gs://…), or say with "
            f"--shared that it is mounted"
        )
