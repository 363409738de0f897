"""All benchmarks of one core, one after the other, and the page that shows them.

python tools/bench/run.py                       # 5 rounds, about 70 minutes; nothing else should run meanwhile
python tools/bench/run.py --resume              # continue after an interruption
python tools/bench/run.py --only training       # one of them
python tools/bench/run.py --quick --out /tmp/x  # do they run? tiny sizes, one round, a few minutes
"""

import dataclasses
import json
import time
from dataclasses import dataclass
from typing import Literal

import compare
import data
import harness
import limits
import loss_memory
import policy
import reference
import report
import sampling
import saving
import startup
import training
import tyro

MODULES = (limits, loss_memory, startup, data, saving, sampling, training, reference, policy)
SUBJECTS = {module.SUBJECT.name: module.SUBJECT for module in MODULES}
Name = Literal["limits", "loss_memory", "startup", "data", "saving", "sampling", "training", "reference", "policy"]


@dataclass(frozen=True)
class Run(harness.Plan):
    """What is measured, and how."""

    only: tuple[Name, ...] = ()
    """Which benchmarks; none named: all."""


def main(run: Run) -> None:
    if run.quick and run.out == harness.RESULTS:
        raise SystemExit("a quick look does not replace measurements: name another folder with --out")
    for name in run.only or tuple(SUBJECTS):
        start = time.time()
        print(f"{SUBJECTS[name].title} …", flush=True)
        plan = harness.Plan(**{field.name: getattr(run, field.name) for field in dataclasses.fields(harness.Plan)})
        found = json.loads(harness.measure(SUBJECTS[name], plan).read_text())
        print("\n".join(["", *compare.table(found, compare.limits(run.out)), "", f"{time.time() - start:.0f} s", ""]), flush=True)
    page = run.out / "performance.md" if run.out != harness.RESULTS else report.Report.out
    report.main(report.Report(run.out, page))


if __name__ == "__main__":
    main(tyro.cli(Run, description=__doc__))
