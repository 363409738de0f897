"""What it takes to look at one example of a run: `w2sr show` and `w2sr explain`, with 1,000 and with 100,000 traces.

python tools/bench/growth_looking.py                # some minutes and 1 GB of disk
python tools/bench/growth_looking.py --quick        # does it run?
"""

import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import growth_traces
import harness
from growth_traces import ARM, SAMPLES, commit, experiment, identity, run
from harness import Found, Job, Line, Subject

ABOUT = (
    "A run as `growth_traces` makes it: generated traces of some 150 tokens, four of each problem, all kept by one arm, packed "
    "into rows of 512 as by a finished training. Each command is a process of its own; time is the processor's, memory the most "
    "that is resident above imports. Both commands compare the digests of the files that they read with the manifests, which is "
    "most of what more traces cost.",
)


def prepare(count: int) -> Found:
    """A run as its training leaves it, without parameters."""
    from w2sr_jax.configuration import saved
    from w2sr_jax.core import records
    from w2sr_jax.core.records import Example
    from w2sr_jax.graph.store import RunStore
    from w2sr_jax.stages import models, tokenizer
    from w2sr_jax.stages.examples import lessons
    from w2sr_jax.stages.layout import CURATED, PACKING

    growth_traces.write(count)
    growth_traces.curate(count)
    folder, settings = run(count), experiment()
    saved.save(folder, settings)
    model = models.student(settings, 0, ARM)
    examples = records.Stored(folder / model.directory / CURATED, Example)
    path = folder / model.directory / PACKING
    lessons(model, examples, tokenizer.renderer(RunStore(folder)), settings.rungs[0].training, 0, path)
    commit(folder, model.stage, [path])
    return {}


def show(count: int) -> Found:
    from w2sr_jax.runs.show import show as command

    return looked("show", count, lambda folder: command(folder, count // 2, plain=True))


def explain(count: int) -> Found:
    from w2sr_jax.runs.explain import explain as command

    return looked("explain", count, lambda folder: command(folder, identity(count // SAMPLES // 2), print))


def looked(name: str, count: int, command: Callable[[Path], None]) -> Found:
    import grain  # noqa: F401 - imports do not count

    folder = run(count)
    before, start, told = harness.memory(), time.process_time(), io.StringIO()
    with contextlib.redirect_stdout(told):
        command(folder)
    seconds = time.process_time() - start
    if "packed in row" not in told.getvalue():
        raise SystemExit(f"{name} does not say where the example is: {told.getvalue()[-500:]}")
    return {name: {"seconds": seconds, "above_imports_mb": harness.memory("VmHWM") - before}}


def sizes(quick: bool) -> list[int]:
    return [40, 200] if quick else [1000, 100_000]


def jobs(quick: bool) -> list[Job]:
    return [
        Job(growth_traces.variant(count), work, {"count": count}, once=work == "prepare", timeout=3000)
        for count in sizes(quick)
        for work in WORKS
    ]


def lines(quick: bool) -> list[Line]:
    few, many = map(growth_traces.variant, sizes(quick))
    beside: dict[str, Any] = {"ours": many, "peers": (few,)}
    return [
        line
        for name in ("show", "explain")
        for line in (
            Line(f"{name}: processor time", name, "seconds", "s", "lower", **beside),
            Line(f"{name}: memory", name, "above_imports_mb", "MB", "lower", **beside),
        )
    ]


WORKS: dict[str, Callable[..., Found]] = {"prepare": prepare, "show": show, "explain": explain}
SUBJECT = Subject("growth_looking", "Looking at one example of 100,000", ABOUT, jobs, WORKS, lines)

if __name__ == "__main__":
    harness.main(SUBJECT)
