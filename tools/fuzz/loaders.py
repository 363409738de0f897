"""Malformed input for everything that loads: JSON Lines, gzip, Parquet, configurations, overrides, saved experiments.

    .venv/bin/python tools/fuzz/loaders.py --cases 10000 --seed 0      # minutes
    .venv/bin/python tools/fuzz/loaders.py --short                     # half a minute, as the tests do
    .venv/bin/python tools/fuzz/loaders.py --kind overrides --case 17 --seed 0

A case follows from (seed, kind, number) alone. Cases run in worker processes with bounded memory and time, so that a crash or a
hang of a library is a finding too. A finding is a traceback, a good row that did not arrive, a bad row that was not counted,
damage to a file of ours that went unnoticed, a complaint that is not one sentence, foreign code that was imported, a crash, a
hang. Each is saved with its input below --out. Exit code 1 if there is any.
"""

import argparse
import itertools
import json
import random
import re
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SHORT = 420
MEMORY = 6 * 2**30  # bytes of address space for a worker
PATIENCE = 60.0  # seconds for one case, with the worker's start
HERE = Path(__file__).resolve()


def kinds() -> dict[str, Callable[[random.Random, Path], Any]]:
    import row_cases
    import setting_cases

    return row_cases.KINDS | setting_cases.KINDS


def rng(seed: int, kind: str, case: int) -> random.Random:
    return random.Random(f"{seed}/{kind}/{case}")


def work(names: list[str], cases: int, first: int, seed: int) -> None:
    """Run jobs in this process, from `first` on; a line of JSON on stdout before and after each. Job i is case i % cases of kind
    i // cases."""
    sys.path.insert(0, str(HERE.parents[2]))
    judges = kinds()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for job in range(first, cases * len(names)):
        kind, case = names[job // cases], job % cases
        print(json.dumps({"job": job}), flush=True)
        folder = Path(f"job-{job}")
        folder.mkdir()
        try:
            outcome = judges[kind](rng(seed, kind, case), folder.resolve())
            line = {"accepted": outcome.accepted, "arrived": outcome.arrived, "bad": outcome.quarantined, "said": outcome.said}
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            line = {"broken": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        if "broken" not in line:
            shutil.rmtree(folder)
        print(json.dumps({"job": job, **line}), flush=True)


def supervise(names: list[str], cases: int, seed: int, out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What became of each case, with its kind; a worker that dies or hangs is replaced, and its case is a finding."""
    first = 0
    while first < cases * len(names):
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            command = [sys.executable, str(HERE), "--worker", json.dumps(names), str(cases), str(first), str(seed)]
            with open(Path(scratch) / "stderr", "wb") as errors:
                worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=scratch, text=True)
            started, ended = first - 1, first - 1
            for line in _lines(worker):
                found = json.loads(line)
                started = found["job"]
                if len(found) > 1:
                    ended = started
                    yield _noted(found, names, cases, out, Path(scratch))
            if worker.returncode or started != ended:
                said = (Path(scratch) / "stderr").read_text(errors="replace")[-2000:]
                found = {
                    "job": max(started, first),
                    "broken": f"the worker ended with {worker.returncode}, or hung",
                    "trace": said,
                }
                yield _noted(found, names, cases, out, Path(scratch))
            first = max(started, first) + 1


def _lines(worker: subprocess.Popen[str]) -> Iterator[str]:
    """Lines as they come; the worker is killed where none comes for too long."""
    assert worker.stdout is not None
    with selectors.DefaultSelector() as selector, worker.stdout as stream:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(PATIENCE):
                worker.kill()
                break
            line = stream.readline()
            if not line:
                break
            yield line
    worker.wait()


def _noted(found: dict[str, Any], names: list[str], cases: int, out: Path, scratch: Path) -> tuple[str, dict[str, Any]]:
    """An outcome with its kind; a finding is saved with its input."""
    kind, case = names[found["job"] // cases], found["job"] % cases
    if "broken" in found:
        target = out / ("".join(c if c.isalnum() else "-" for c in kind) + f"-{case}")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        source = scratch / f"job-{found['job']}"
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        why = f"{kind}, case {case}\n{found['broken']}\n\n{found['trace']}"
        (target / "why.txt").write_text(why, encoding="utf-8", errors="backslashreplace")
        print(f"  {kind}, case {case}: {found['broken'][:300]!r}\n  saved in {target}", flush=True)
    return kind, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="how many, over all kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help=f"{SHORT} cases")
    parser.add_argument("--kind", default=None, help="only kinds whose name contains this")
    parser.add_argument("--case", type=int, default=None, help="one case of one kind, in this process, with its traceback")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="where findings are saved")
    parser.add_argument("--reasons", action="store_true", help="also list what refusals said")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE.parents[2]))
    names = [name for name in kinds() if options.kind is None or options.kind in name]
    if options.case is not None:
        print(kinds()[names[0]](rng(options.seed, names[0], options.case), Path(tempfile.mkdtemp())))
        return 0
    cases = -(-(SHORT if options.short else options.cases) // len(names))
    print(
        f"{'kind':<28}{'cases':>7}{'accepted':>10}{'rows in':>9}{'bad rows':>10}{'refused':>9}{'findings':>10}{'seconds':>9}",
        flush=True,
    )
    totals: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    begun = time.monotonic()
    for kind, group in itertools.groupby(supervise(names, cases, options.seed, options.out), lambda one: one[0]):
        start, counts = time.monotonic(), Counter[str]()
        for _, found in group:
            broken = "broken" in found
            accepted = not broken and found["accepted"]
            counts += Counter(cases=1, findings=int(broken), accepted=int(accepted), refused=int(not broken and not accepted))
            counts += Counter(arrived=found.get("arrived", 0), bad=found.get("bad", 0))
            if not broken and not accepted:
                reasons[kind][re.sub(r"\S*/\S*|\d+", "…", found["said"].strip())[:150]] += 1
        totals += counts
        print(_row(kind, counts, time.monotonic() - start), flush=True)
    print(_row("all", totals, time.monotonic() - begun))
    if options.reasons:
        print(
            "\n".join(
                f"{name}\n" + "\n".join(f"  {n:5} {said}" for said, n in found.most_common(20)) for name, found in reasons.items()
            )
        )
    return int(bool(totals["findings"]))


def _row(name: str, counts: Counter[str], seconds: float) -> str:
    numbers = [counts[key] for key in ("cases", "accepted", "arrived", "bad", "refused", "findings")]
    return f"{name:<28}" + "".join(f"{n:>{w},}" for n, w in zip(numbers, (7, 10, 9, 10, 9, 10))) + f"{seconds:>9.1f}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(json.loads(sys.argv[2]), *map(int, sys.argv[3:6]))
        sys.exit(0)
    sys.exit(main())
