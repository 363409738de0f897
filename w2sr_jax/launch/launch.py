"""All clusters by name, and what holds for a job on any of them."""

import difflib
import importlib
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.launch import job as jobs
from w2sr_jax.launch import quoting
from w2sr_jax.launch.cluster import Cluster, Written
from w2sr_jax.launch.job import Job

CLUSTERS = {
    "slurm": "w2sr_jax.launch.clusters.slurm:Slurm",
    "jobset": "w2sr_jax.launch.clusters.jobset:JobSet",
    "tpu-vm": "w2sr_jax.launch.clusters.tpu_vm:TpuVm",
    "skypilot": "w2sr_jax.launch.clusters.skypilot:SkyPilot",
    "xpk": "w2sr_jax.launch.clusters.xpk:Xpk",
}
"""A new one is a line here and a file of its own."""


def cluster(name: str) -> Cluster:
    """The cluster of a name. `UserError` where there is none, which lists them."""
    if name not in CLUSTERS:
        near = difflib.get_close_matches(name, CLUSTERS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"--on {sentences.value(name)} is no kind of cluster; {hint}there are {', '.join(CLUSTERS)}")
    module, _, kind = CLUSTERS[name].partition(":")
    kind_of: type[Cluster] = getattr(importlib.import_module(module), kind)
    return kind_of()


def check_options(name: str, options: Mapping[str, object]) -> None:
    """`UserError` where an option was given (its value is not empty) that a cluster has no use for."""
    useful = cluster(name).options
    for option, value in options.items():
        if value and option not in useful:
            raise UserError(
                f"--on {name} has no use for --{option}; it takes {', '.join(f'--{each}' for each in sorted(useful))}"
            )


def written(name: str, job: Job, assigned: Sequence[str]) -> Written:
    """The job for a cluster, with its settings as `NAME=VALUE`. `UserError` where it would not run on all of its hosts, or not be
    found again."""
    jobs.check_name(job.name)
    if not 0 <= job.restarts <= 10_000:
        raise UserError(f"--restarts is {job.restarts:,}; it must lie in 0 … 10,000")
    environment = job.environment
    texts = (job.config, *job.arguments, job.root.path, job.scratch, job.logs, environment.image, environment.install)
    for text in texts:
        quoting.checked(text, "the argument")
    jobs.check_root(job.root, job.hosts, cluster(name).disks)
    return cluster(name).written(job, assigned)


def submit(name: str, job: Written) -> int:
    """Hand a job to the cluster's own tool, which prints what it has to say. The tool's exit code; `UserError` where the tool is
    missing."""
    kind = cluster(name)
    for tool in kind.tools:
        if shutil.which(tool) is None:
            raise UserError(
                f"--submit hands the job to {tool}, which is not on this machine's path; install it, or leave --submit out"
            )
    with tempfile.TemporaryDirectory(prefix="w2sr-launch-") as folder:
        file = Path(folder) / f"job{job.suffix}"
        file.write_text(job.text, encoding="utf-8")
        return subprocess.run(kind.submission(str(file)), check=False).returncode
