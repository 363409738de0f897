"""Measures programs beside each other: a fresh process for every measurement, on one core, the variants in turn, round by round.

A subject (training, sampling, …) says which jobs there are, how a process does one, and which of the numbers are compared. A job
is done by `python tools/bench/SUBJECT.py --job JSON` in a process of its own, which prints its metrics; all are written to one
JSON file as they come, so that an interrupted measurement can be continued. `compare` says what the numbers mean.
"""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compare import limits, number, table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "benchmarks"
SCHEMA = 1
STARTED = "BENCH_STARTED"  # in a job's environment: when its process was started, in seconds since the epoch
SCRATCH = "BENCH_SCRATCH"  # in a job's environment: a folder that all jobs of a measurement share
_MARK = "BENCH-RESULT "
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers", "trl", "accelerate", "datasets", "tokenizers")

HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""The environment of w2sr_jax's jobs, as its start scripts set it. Torch is slower with it, and goes without."""

Metrics = dict[str, float]
Found = dict[str, Metrics]
"""What a process has measured: case → metric → value."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One process: `work` names the subject's function that does it, with `options`, and `variant` what it measures."""

    variant: str
    work: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cache: str = ""
    """Name of the folder with compiled programs that it shares with other jobs of that name; "{round}" in it is replaced."""
    once: bool = False
    """Only in the first round, as for what varies little and takes long."""
    timeout: float = 600.0
    """Seconds after which the process is ended and the job counts as failed."""

    @property
    def key(self) -> str:
        return json.dumps([self.variant, self.work, dict(self.options)], sort_keys=True)


@dataclasses.dataclass(frozen=True)
class Line:
    """One comparison of the table: `ours` against the best of `peers`. Without peers it states a value, which a target bounds
    from above or below as `better` says."""

    name: str
    case: str
    metric: str
    unit: str
    better: str = "higher"
    """Or "lower"."""
    ours: str = "w2sr_jax"
    peers: tuple[str, ...] = ()
    target: float | None = None
    """The ratio to reach: at least where higher is better, at most where lower is."""
    limit: str = ""
    """Which of the machine's measured limits (of `limits.py`) the value is stated in percent of."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """Everything about one file of measurements. `jobs` and `lines` take whether it is a quick look with tiny sizes."""

    name: str
    title: str
    about: tuple[str, ...]
    """Paragraphs for the reader: what is measured, and what was done for fairness."""
    jobs: Callable[[bool], Sequence[Job]]
    works: Mapping[str, Callable[..., Found]]
    lines: Callable[[bool], Sequence[Line]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to measure."""

    rounds: int = 5
    """Fresh processes of each variant."""
    core: int = -1
    """The core that everything runs on; -1: the last one."""
    quick: bool = False
    """Tiny sizes and one round: whether it runs, not how fast."""
    out: Path = RESULTS
    """Folder of the JSON files."""
    resume: bool = False
    """Continue an interrupted measurement: keep what its file holds already."""
    match: str = ""
    """Only jobs whose description (variant, work, options as JSON) contains this."""


def measure(subject: Subject, plan: Plan) -> Path:
    """Measure a subject and write `OUT/NAME.json`, anew after every process; gives its path."""
    path = plan.out / f"{subject.name}.json"
    rounds = 1 if plan.quick else plan.rounds
    runs = _kept(path, plan, {job.key for job in subject.jobs(plan.quick)}) if plan.resume else []
    with pinned(plan.core) as core:
        _measure(subject, plan, path, rounds, core, runs)
    return path


def _measure(subject: Subject, plan: Plan, path: Path, rounds: int, core: int, runs: list[dict[str, Any]]) -> None:
    done = {(run["key"], run["round"]) for run in runs}
    jobs = [job for job in subject.jobs(plan.quick) if plan.match in job.key]
    scratch = Path(tempfile.gettempdir()) / f"w2sr-bench-{subject.name}"  # stays after an interruption
    if not plan.resume:
        shutil.rmtree(scratch, ignore_errors=True)
    for turn in range(rounds):
        for job in jobs:
            if (job.key, turn) in done or (job.once and turn) or _hopeless(runs, job):
                continue
            run = _run(subject, job, turn, scratch)
            runs.append(run)
            print(f"  {subject.name} {turn + 1}/{rounds}  {job.variant:<28} {_words(run)}", flush=True)
            _write(path, subject, plan, core, rounds, runs)
    shutil.rmtree(scratch, ignore_errors=True)
    _write(path, subject, plan, core, rounds, runs)


def work(subject: Subject, text: str) -> None:
    """Do a job in this process, print what it has measured, and end without waiting for threads of libraries."""
    job = json.loads(text)
    found = subject.works[job["work"]](**job["options"])
    print(_MARK + json.dumps(found), flush=True)
    sys.stdout.flush()
    os._exit(0)


def main(subject: Subject) -> None:
    """The command line of a subject's file: measures it, or does one job for that."""
    if len(sys.argv) == 3 and sys.argv[1] == "--job":
        work(subject, sys.argv[2])
    import tyro

    plan = tyro.cli(Plan, description=f"{subject.title}.\n\n" + "\n\n".join(subject.about))
    path = measure(subject, plan)
    print("\n" + "\n".join(table(json.loads(path.read_text()), limits(plan.out))))


def memory(field: str = "VmRSS") -> float:
    """This process's resident memory in MB (10⁶ bytes); `VmHWM` is the most it has had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit(f"this system does not tell memory (/proc/self/status, {field})")


def since_start() -> float:
    """Seconds since this job's process was started, the interpreter's own start included."""
    return time.time() - float(os.environ[STARTED])


def machine() -> dict[str, Any]:
    """What the machine is: processor, cores, memory (GB), system."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if flag in facts.get("flags", "").split()]
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": facts.get("model name", platform.processor() or platform.machine()),
        "family": f"family {facts.get('cpu family', '?')}, model {facts.get('model', '?')}",
        "instructions": wide,
        "cores": os.cpu_count(),
        "memory_gib": round(total, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that are compared, those that are here."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _run(subject: Subject, job: Job, turn: int, scratch: Path) -> dict[str, Any]:
    script = Path(sys.modules[subject.jobs.__module__].__file__ or "")
    text = json.dumps({"work": job.work, "options": dict(job.options)})
    started = time.time()
    environment = {**_environment(), **job.environment, STARTED: repr(started), SCRATCH: str(scratch)}
    if job.cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(scratch / job.cache.format(round=turn))
    load = os.getloadavg()[0]
    command = [sys.executable, str(script), "--job", text]
    found, error = {}, None
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=job.timeout, check=False)
        marked = [line for line in ended.stdout.splitlines() if line.startswith(_MARK)]
        if ended.returncode or not marked:
            error = f"ended with {ended.returncode}: {(ended.stderr or ended.stdout)[-2000:]}"
        else:
            found = json.loads(marked[-1][len(_MARK) :])
    except subprocess.TimeoutExpired:
        error = f"took longer than {job.timeout:g} s"
    seconds = round(time.time() - started, 2)
    return {
        "key": job.key,
        "variant": job.variant,
        "round": turn,
        "found": found,
        "error": error,
        "seconds": seconds,
        "load": load,
    }


def _environment() -> dict[str, str]:
    """One thread for everybody, no network, and nothing from outside that changes how programs are compiled or memory is had."""
    foreign = ("XLA_FLAGS", "GLIBC_TUNABLES", "JAX_COMPILATION_CACHE_DIR", "LD_PRELOAD")
    given = {name: value for name, value in os.environ.items() if name not in foreign}
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "JAX_PLATFORMS": "cpu"}
    return {**given, **single, **quiet, "TRANSFORMERS_VERBOSITY": "error", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


@contextlib.contextmanager
def pinned(core: int) -> Iterator[int]:
    """Run this process, and all that it starts meanwhile, on one core; gives which (-1: the system cannot)."""
    if not hasattr(os, "sched_setaffinity"):
        yield -1
        return
    allowed = sorted(os.sched_getaffinity(0))
    core = allowed[core] if core < 0 else core
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, allowed)


def _hopeless(runs: Sequence[Mapping[str, Any]], job: Job) -> bool:
    """Whether a job has failed twice and succeeded never, so that it is not worth another try."""
    errors = [run["error"] for run in runs if run["key"] == job.key]
    return len(errors) >= 2 and all(errors)


def _kept(path: Path, plan: Plan, keys: set[str]) -> list[dict[str, Any]]:
    """The runs of an interrupted measurement that have succeeded and whose jobs are the same still."""
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    if found.get("schema") != SCHEMA or found["settings"]["quick"] != plan.quick:
        return []
    return [run for run in found["runs"] if run["error"] is None and run["key"] in keys]


def _write(path: Path, subject: Subject, plan: Plan, core: int, rounds: int, runs: Sequence[Mapping[str, Any]]) -> None:
    found = {
        "schema": SCHEMA,
        "subject": subject.name,
        "title": subject.title,
        "about": list(subject.about),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "settings": {"rounds": rounds, "quick": plan.quick, "core": core, "cores_used": 1},
        "lines": [dataclasses.asdict(line) for line in subject.lines(plan.quick)],
        "runs": list(runs),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    temporary.replace(path)


def _words(run: Mapping[str, Any]) -> str:
    if run["error"]:
        return f"FAILED after {run['seconds']:.0f} s: {run['error'].strip().splitlines()[-1][:160]}"
    parts = [
        (f"{case}: " if case else "") + ", ".join(f"{name} {number(value)}" for name, value in metrics.items())
        for case, metrics in run["found"].items()
    ]
    return f"{run['seconds']:5.0f} s  " + "; ".join(parts)
