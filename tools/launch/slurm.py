"""Jobs of `w2sr launch --on slurm` on a Slurm cluster of two nodes on this machine: do they meet, are logs where they should be,
and are they started again after what is worth it, and after nothing else?

    python tools/launch/slurm.py                 as root, with Debian's slurmctld, slurmd, slurm-client and munge: 3 minutes
    python tools/launch/slurm.py --real          besides, a miniature ladder in two processes, stopped, started again, finished

The jobs of the short part run a stand-in of `w2sr` that does what a case says. Exit code 0: all cases went as they should; 1: one
did not, it is said which and how.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """#!/usr/bin/env bash
# Says how it was called, and does what the case says for this start and process.
process=${@: -1}
echo "start ${SLURM_RESTART_COUNT:-0} process $process: $*"
trap 'echo "told to stop"; exit 143' TERM
start=${SLURM_RESTART_COUNT:-0}
{ACTS}
exit 0
"""
WAIT = "for _ in $(seq 1200); do sleep 0.1; done"
LIMIT = ("--set", "time=1", "--set", "notice=20")
PATIENCE = 150.0


class Case(NamedTuple):
    """What processes do (bash, with $start and $process), what is done to the job, and what must come of it: the job's state, its
    exit code, how often it was started, and a text in the log of process 0."""

    name: str
    acts: str
    state: str
    code: int
    starts: int
    text: str = ""
    strike: Callable[[str], None] = lambda job: None
    options: tuple[str, ...] = ()


def signalled(job: str) -> None:
    """What Slurm does before the time limit: SIGTERM for the steps, not for the job's own shell."""
    subprocess.run(["scancel", "--signal=TERM", job], check=True)


def cancelled(job: str) -> None:
    subprocess.run(["scancel", job], check=True)


def preempted(job: str) -> None:
    """Another job that goes first takes the nodes."""
    wrapped = ["--wrap", "sleep 3", "--output", "/dev/null"]
    subprocess.run(["sbatch", "--partition=first", "--nodes=2", "--exclusive", *wrapped], check=True, stdout=subprocess.DEVNULL)


CASES = (
    Case("all processes finish", "", "COMPLETED", 0, 1, "--processes 2 --process 0"),
    Case("a mistake on one host", f"[ $process = 1 ] && exit 2\n{WAIT}", "FAILED", 2, 1),
    Case("a requirement is not met", "exit 3", "FAILED", 3, 1),
    Case("a fault of the program", "exit 1", "FAILED", 1, 1),
    Case("a program that is not there", "exit 127", "FAILED", 127, 1),
    Case("a killed process", f"[ $start = 0 ] && {{ [ $process = 1 ] && kill -9 $$; {WAIT}; }}", "COMPLETED", 0, 2),
    Case("jax's abort", f"[ $start = 0 ] && {{ [ $process = 1 ] && exit 134; {WAIT}; }}", "COMPLETED", 0, 2),
    Case("lost at every start", "exit 75", "FAILED", 75, 3, options=("--restarts", "2")),
    Case("told to stop before the time limit", f"[ $start = 0 ] && {{ {WAIT}; }}", "COMPLETED", 0, 2, "told to stop", signalled),
    Case("preempted", f"[ $start = 0 ] && {{ {WAIT}; }}", "COMPLETED", 0, 2, "told to stop", preempted),
    Case("a time limit", f"[ $start = 0 ] && {{ {WAIT}; }}", "COMPLETED", 0, 2, "told to stop", options=LIMIT),
    Case("cancelled", WAIT, "CANCELLED", -1, 1, "told to stop", cancelled),
)


def launch(folder: Path, config: str, *options: str) -> str:
    """Submit a job of two nodes through `w2sr launch`; its number."""
    command = [sys.executable, "-m", "w2sr_jax.cli", "launch", config, "--on", "slurm", "--nodes", "2", "--submit", *options]
    # The nodes' names lead nowhere; the port is any that is free.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_COORDINATOR_ADDRESS": "127.0.0.1:17999"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    number = re.search(r"Submitted batch job (\d+)", done.stdout)
    if number is None:
        raise SystemExit(f"sbatch did not take the job: {done.stdout}{done.stderr}")
    return number[1]


def shown(job: str) -> dict[str, str]:
    """What Slurm says of a job."""
    words = subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True, check=True).stdout.split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def until(job: str, states: tuple[str, ...], patience: float) -> dict[str, str]:
    """What Slurm says of a job once it is in one of these states, or when the time is over."""
    end = time.monotonic() + patience
    while (seen := shown(job))["JobState"] not in states and time.monotonic() < end:
        time.sleep(0.5)
    return seen


def faults(case: Case, folder: Path) -> list[str]:
    """What went otherwise than it should, in words."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "w2sr"
    program.write_text(STAND_IN.replace("{ACTS}", case.acts))
    program.chmod(0o755)
    root = ("--root", str(folder / "runs"), "--shared", "--environment", str(folder))
    job = launch(folder, str(ROOT / "configs" / "quickstart.py"), *root, *case.options)
    until(job, ("RUNNING", "COMPLETED", "FAILED"), PATIENCE)
    time.sleep(1.5)
    case.strike(job)
    over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
    seen = until(job, over, PATIENCE)
    if seen["JobState"] == "FAILED" or case.state == "CANCELLED":  # it would be queued again only a moment later
        time.sleep(8)
        seen = until(job, over, PATIENCE)
    code = int(seen["ExitCode"].partition(":")[0])
    logs = {path.name: path.read_text() for path in sorted((folder / "logs").glob("*"))}
    names = sorted(f"quickstart-{job}-{process}.log" for process in (0, 1))
    first = logs.get(names[0], "")
    # Where one process ends at once, Slurm may end the other one before it has said a word.
    starts = max([text.count("start ") for text in logs.values()], default=0)
    findings = {
        f"its state is {seen['JobState']} and not {case.state}": seen["JobState"] != case.state,
        f"its exit code is {code} and not {case.code}": case.code >= 0 and code != case.code,
        f"it was started {starts} times and not {case.starts}": starts != case.starts,
        f"its logs are {list(logs)} and not {names}": sorted(logs) != names,
        f"the log of process 0 does not say {case.text!r}": case.text not in first,
    }
    return [words for words, true in findings.items() if true]


def real(folder: Path) -> list[str]:
    """A miniature ladder in two processes: told to stop amid its work, started again, finished."""
    folder.mkdir()
    virtual = Path(sys.executable).parent.parent
    program = folder / "bin" / "w2sr"
    program.parent.mkdir()
    program.write_text(f'#!/usr/bin/env bash\nexec {virtual}/bin/python -m w2sr_jax.cli "$@"\n')
    program.chmod(0o755)
    options = ("--root", str(folder / "runs"), "--shared", "--environment", str(folder), "--shrink", "--mesh.data", "2")
    job = launch(folder, str(ROOT / "configs" / "quickstart.py"), *options)
    began = time.monotonic()
    started = folder / "logs" / f"quickstart-{job}-0.log"
    while not (started.exists() and "train" in started.read_text()) and time.monotonic() - began < 240:
        time.sleep(1)
    signalled(job)
    until(job, ("PENDING", "COMPLETED", "FAILED"), PATIENCE)
    seen = until(job, ("COMPLETED", "FAILED"), 400)
    pages = list((folder / "runs").glob("*/report/index.html"))
    print(f"  {time.monotonic() - began:.0f} s, {seen['JobState']}, restarts {seen['Restarts']}, {len(pages)} report")
    findings = {
        f"its state is {seen['JobState']}": seen["JobState"] != "COMPLETED",
        f"it was started again {seen['Restarts']} times and not once": seen["Restarts"] != "1",
        "there is no report": not pages,
    }
    return [words for words, true in findings.items() if true]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true", help="run a miniature ladder, too")
    parser.add_argument("--only", default="", help="the cases whose name holds this")
    parser.add_argument("--keep", action="store_true", help="leave the directory of all files")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="w2sr-slurm-"))
    folder.chmod(0o755)  # munge has a user of its own
    script = ["bash", str(ROOT / "tools" / "launch" / "cluster.sh")]
    bad = 0
    try:
        subprocess.run([*script, "start", str(folder / "cluster")], check=True)
        os.environ["SLURM_CONF"] = str(folder / "cluster" / "slurm.conf")
        for number, case in enumerate(each for each in CASES if options.only in each.name):
            began = time.monotonic()
            wrong = faults(case, folder / str(number))
            bad += bool(wrong)
            print(f"{case.name}: {'; '.join(wrong) or 'as it should be'} ({time.monotonic() - began:.0f} s)", flush=True)
        if options.real:
            wrong = real(folder / "real")
            bad += bool(wrong)
            print(f"a miniature ladder, stopped once: {'; '.join(wrong) or 'as it should be'}", flush=True)
    finally:
        subprocess.run([*script, "stop", str(folder / "cluster")], check=False)
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
