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

SHORT = 700
MEMORY = 6 * 2**30  # bytes of address space for a worker
PATIENCE = 60.0  # seconds for one case, with the worker's start
HERE = Path(__file__).resolve()


def kinds() -> dict[str, Callable[[random.Random, Path], Any]]:
    import row_cases
    import setting_cases

    return row_cases.KINDS | setting_cases.KINDS


def rng(seed: int, kind: str, case: int) -> random.Random:
    return random.Random(f"{seed}/{kind}/{case}")


def work(kind: str, first: int, last: int, seed: int) -> None:
    """Run cases in this process; a line of JSON on stdout for each, before and after."""
    sys.path.insert(0, str(HERE.parents[2]))
    judge = kinds()[kind]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    report = sys.stdout
    for case in range(first, last):
        print(json.dumps({"case": case}), file=report, flush=True)
        folder = Path(f"case-{case}")
        folder.mkdir()
        try:
            outcome = judge(rng(seed, kind, case), folder.resolve())
            line = {
                "case": case,
                "accepted": outcome.accepted,
                "arrived": outcome.arrived,
                "bad": outcome.quarantined,
                "said": outcome.said,
            }
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            line = {"case": case, "broken": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        if "broken" not in line:
            shutil.rmtree(folder)
        print(json.dumps(line), file=report, flush=True)


def supervise(kind: str, cases: int, seed: int, out: Path) -> Iterator[dict[str, Any]]:
    """What became of each case of a kind; a worker that dies or hangs is replaced, and its case is a finding."""
    first = 0
    while first < cases:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            command = [sys.executable, str(HERE), "--worker", kind, str(first), str(cases), str(seed)]
            with open(Path(scratch) / "stderr", "wb") as errors:
                worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=scratch, text=True)
            started, ended = first - 1, first - 1
            for line in _lines(worker):
                found = json.loads(line)
                started = found["case"]
                if len(found) > 1:
                    ended = started
                    if "broken" in found:
                        _keep(out, kind, found, Path(scratch))
                    yield found
            if worker.returncode or started != ended:
                said = (Path(scratch) / "stderr").read_text(errors="replace")[-2000:]
                found = {
                    "case": max(started, first),
                    "broken": f"the worker ended with {worker.returncode}, or hung",
                    "trace": said,
                }
                _keep(out, kind, found, Path(scratch))
                yield found
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


def _keep(out: Path, kind: str, found: dict[str, Any], scratch: Path) -> None:
    name = "".join(c if c.isalnum() else "-" for c in kind)
    target = out / f"{name}-{found['case']}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    source = scratch / f"case-{found['case']}"
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    (target / "why.txt").write_text(
        f"{kind}, case {found['case']}\n{found['broken']}\n\n{found['trace']}", errors="backslashreplace"
    )
    print(f"  {kind}, case {found['case']}: {found['broken'][:300]}\n  saved in {target}", flush=True)


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
    for name in names:
        start, counts = time.monotonic(), Counter[str]()
        for found in supervise(name, cases, options.seed, options.out):
            broken = "broken" in found
            accepted = not broken and found["accepted"]
            counts += Counter(cases=1, findings=int(broken), accepted=int(accepted), refused=int(not broken and not accepted))
            counts += Counter(arrived=found.get("arrived", 0), bad=found.get("bad", 0))
            if not broken and not accepted:
                reasons[name][re.sub(r"\S*/\S*|\d+", "…", found["said"].strip())[:150]] += 1
        totals += counts
        print(_row(name, counts, time.monotonic() - start), flush=True)
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
        work(sys.argv[2], *map(int, sys.argv[3:6]))
        sys.exit(0)
    sys.exit(main())
