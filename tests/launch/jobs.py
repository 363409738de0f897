"""Jobs to be written, and stand-ins of the programs that read them."""

import subprocess
from pathlib import Path

from w2sr_jax.launch import hosts, launch
from w2sr_jax.launch.job import Environment, Job, Root

HOSTILE = 'configs/it\'s "$(touch executed)" `id` {x} $$ $(JOB_COMPLETION_INDEX) %j\n- a:\u2028b\x85 é 🦊\x07.py'
TPU = hosts.resolved(None, "v5p:2x2x4", 1, 0)
GPUS = hosts.resolved(2, None, 1, 8)
SETTINGS = {
    "slurm": (),
    "jobset": (),
    "tpu-vm": ("zone=z",),
    "skypilot": ("accelerator=H100",),
    "xpk": ("cluster=c",),
}


def job(cluster: str, config: str = "configs/quickstart.py", arguments: tuple[str, ...] = (), **changes: object) -> Job:
    """A job that a cluster takes, on four hosts of TPUs or two with GPUs."""
    environment = Environment(image="image:1") if cluster in ("jobset", "xpk") else Environment(install="w2sr-jax")
    values = {
        "hosts": TPU if cluster in ("tpu-vm", "xpk") else GPUS,
        "root": Root("gs://bucket/runs"),
        "scratch": "/scratch",
        "environment": environment,
        **changes,
    }
    return Job("name", config, arguments, **values)  # type: ignore[arg-type]


def text(cluster: str, job: Job, *settings: str) -> str:
    return launch.written(cluster, job, (*SETTINGS[cluster], *settings)).text


def program(folder: Path, name: str, lines: str) -> None:
    """A program of this name in `folder`/bin."""
    file = folder / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/usr/bin/env bash\n{lines}\n", encoding="utf-8")
    file.chmod(0o755)


def run(script: str, folder: Path, variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A script in `folder`, where only its stand-ins and the system's programs are on the path."""
    file = folder / "script.sh"
    file.write_text(script, encoding="utf-8")
    environment = {"PATH": f"{folder}/bin:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", **(variables or {})}
    return subprocess.run(["bash", file], cwd=folder, env=environment, capture_output=True, text=True, check=False)
