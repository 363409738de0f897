"""Jobs of `w2sr launch` before the eyes of the programs that will read them, without a cluster: the schemas of JobSet and of
Kubernetes, xpk's dry run, SkyPilot's reader, gcloud's parser of arguments, bash. What is not here is said, and left out.

    pip install -r tools/launch/requirements.txt         # into an environment of its own; xpk and SkyPilot do not share one
    python tools/launch/validate.py --schemas ENVIRONMENT --crd FILE --xpk ENVIRONMENT --sky ENVIRONMENT

ENVIRONMENT is a virtual environment that has these packages; FILE is the JobSet project's
`config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml`. Exit code 0: nothing objects; 1: something does, it is said what.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from w2sr_jax.launch import hosts, launch
from w2sr_jax.launch.job import Environment, Job, Root

HOSTILE = 'configs/it\'s "$(touch /tmp/w2sr-hostile)" `id` {x} $$ %j\n- a: é.py'
HERE = Path(__file__).resolve().parent


def jobs() -> Iterator[tuple[str, str, str, Job, tuple[str, ...]]]:
    """Jobs with a name, for every cluster: cluster, name, configuration, job, settings."""
    pods, image = Root("gs://bucket/runs"), Environment(image="image:1")
    slices = hosts.resolved(None, "v5p:2x2x4", 2, 0)
    tpu, gpus, cpus = hosts.resolved(None, "v5e:4x4", 1, 0), hosts.resolved(2, None, 1, 8), hosts.resolved(2, None, 1, 0)
    everything = ("namespace=n", "queue=q", "service-account=s", "spot=yes", "claim=c", "cpu=8", "memory=10Gi")
    for kind, config in (("plain", "configs/quickstart.py"), ("hostile", HOSTILE)):
        more = () if kind == "plain" else ("--name", config)

        def job(where: hosts.Hosts, root: Root = pods, scratch: str = "/scratch", environment: Environment = image) -> Job:
            return Job("name", config, more, where, root, scratch, environment)  # noqa: B023 - called at once

        yield (
            "slurm",
            f"{kind}, GPUs",
            config,
            job(gpus, Root("/shared/runs"), "", Environment()),
            ("partition=p", "time=1:00:00"),
        )
        yield "jobset", f"{kind}, two TPU slices", config, job(slices), ()
        yield "jobset", f"{kind}, GPUs", config, job(gpus, Root("/runs", True)), (*everything, "accelerator=nvidia-h100-80gb")
        yield "jobset", f"{kind}, CPUs", config, job(cpus), ()
        yield (
            "xpk",
            f"{kind}, two TPU slices",
            config,
            job(slices),
            ("cluster=c", "zone=us-east5-a", "project=p", "capacity=spot"),
        )
        yield "skypilot", f"{kind}, GPUs", config, job(gpus, environment=Environment()), ("accelerator=H100", "infra=gcp")
        yield "skypilot", f"{kind}, TPUs", config, job(tpu, environment=Environment(install=".")), ()
        settings = ("zone=us-east5-a", "project=p", "capacity=spot", "service-account=a@b", "internal-ip=yes")
        yield (
            "tpu-vm",
            f"{kind}, TPUs",
            config,
            job(tpu, environment=Environment(install=".", lock="requirements.lock")),
            settings,
        )


def ran(*command: str | Path, home: Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A program's answer, with a home directory of its own and no account of anybody."""
    environment = {**os.environ, "HOME": str(home), "CLOUDSDK_CONFIG": str(home / "gcloud")}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def bash(file: Path, home: Path) -> str:
    return ran("bash", "-n", file, home=home).stderr


def gcloud(file: Path, home: Path) -> str:
    """What gcloud says against the arguments of each of its calls in a script: it ends with 2 where it does not know them, and
    with 1 where it has no account."""
    if shutil.which("gcloud") is None:
        return "not looked at: gcloud is not here"
    stand_in = home / "bin" / "gcloud"
    stand_in.parent.mkdir(exist_ok=True)
    calls = home / "calls"
    calls.unlink(missing_ok=True)
    real = shutil.which("gcloud")
    answers = 'case "$*" in *describe*) echo "$state"; [ -n "$state" ];; esac'
    stand_in.write_text(
        f'#!/usr/bin/env bash\n{real} "$@" >{home}/said 2>&1; echo "$? $*" >>{calls}; state=$(cat {home}/state)\n'
        f'case "$*" in *create*) echo ACTIVE >{home}/state;; esac\n{answers}\n'
    )
    stand_in.chmod(0o755)
    (home / "state").write_text("")
    run = f"PATH={shlex.quote(str(stand_in.parent))}:$PATH bash {shlex.quote(str(file))}"
    work = home / "work"
    work.mkdir(exist_ok=True)
    ran("bash", "-c", run, home=home, folder=work)
    lines = [line for line in calls.read_text().splitlines() if re.match(r"\d+ compute", line)]
    wrong = [line for line in lines if not line.startswith("1 ")]
    kinds = {word for line in lines for word in ("create", "describe", "ssh", "scp", "delete") if f" {word} " in line}
    if wrong or len(kinds) < 5:
        return f"gcloud refuses {wrong[:1]}, and was asked for {sorted(kinds)}"
    return ""


def schemas(file: Path, home: Path, python: Path, crd: Path) -> str:
    done = ran(python, HERE / "jobset_schema.py", crd, file, home=home)
    return "" if done.returncode == 0 else done.stdout + done.stderr[-300:]


def xpk(file: Path, home: Path, program: Path, job: Job) -> str:
    """The manifest that xpk would submit must start the line that the job asks for."""
    manifest = home / "manifest.yaml"
    path = f"PATH={shlex.quote(str(program.parent))}:$PATH"
    options = f"--dry-run --skip-validation --output-manifest-file={shlex.quote(str(manifest))}"
    done = ran("bash", "-c", f"{path} bash {shlex.quote(str(file))} {options}", home=home)
    if done.returncode or not manifest.exists():
        return done.stdout[-300:] + done.stderr[-300:]
    line = re.search(r"^ *\((exec w2sr .*)\) & PID", manifest.read_text(encoding="utf-8"), re.M)
    if line is None:
        return "its manifest does not hold the command on one line"
    words = bashed(line[1].removeprefix("exec w2sr ").replace("$$", "$"))
    return "" if words == list(job.detected()[1:]) else f"its manifest starts {words}"


def bashed(words: str) -> list[str]:
    """The words of a line, as bash reads them."""
    return subprocess.run(["bash", "-c", f"printf '%s\\0' {words}"], capture_output=True, text=True, check=True).stdout.split(
        "\0"
    )[:-1]


def sky(file: Path, home: Path, python: Path) -> str:
    read = "import sky, sys; task = sky.Task.from_yaml(sys.argv[1]); print('READ', task.name, task.num_nodes, len(task.run))"
    work = home / "work"
    work.mkdir(exist_ok=True)
    done = ran(python, "-c", read, file, home=home, folder=work)
    return "" if "READ name" in done.stdout else done.stdout[-200:] + done.stderr[-300:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crd", type=Path, help="the JobSet's custom resource definition")
    parser.add_argument("--schemas", type=Path, help="virtual environment with kubernetes-validate, jsonschema and pyyaml")
    parser.add_argument("--xpk", type=Path, help="virtual environment with xpk")
    parser.add_argument("--sky", type=Path, help="virtual environment with skypilot")
    options = parser.parse_args()
    bad = 0
    for cluster, name, _, job, settings in jobs():
        with tempfile.TemporaryDirectory(prefix="w2sr-launch-") as folder:
            home = Path(folder).resolve()
            written = launch.written(cluster, job, settings)
            file = home / f"job{written.suffix}"
            file.write_text(written.text, encoding="utf-8")
            said = [bash(file, home)] if written.suffix == ".sh" else []
            if cluster == "tpu-vm":
                said.append(gcloud(file, home))
            if cluster == "jobset":
                there = options.crd and options.schemas
                said.append(schemas(file, home, options.schemas / "bin/python", options.crd) if there else "not looked at")
            if cluster == "xpk":
                said.append(xpk(file, home, options.xpk / "bin/xpk", job) if options.xpk else "not looked at")
            if cluster == "skypilot":
                said.append(sky(file, home, options.sky / "bin/python") if options.sky else "not looked at")
        words = [each for each in said if each]
        bad += any(not each.startswith("not looked at") for each in words)
        print(f"{cluster}, {name}: {'; '.join(words) or 'nothing objects'}", flush=True)
    if Path("/tmp/w2sr-hostile").exists():
        bad += 1
        print("a hostile name was executed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
