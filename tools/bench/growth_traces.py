"""How the stages that touch all traces grow with their number: seconds and memory, from 1,000 to 1,000,000.

python tools/bench/growth_traces.py                 # a round takes some 12 minutes and 10 GB of disk
python tools/bench/growth_traces.py --quick         # does it run?
"""

import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Found, Job, Line, Subject

ABOUT = (
    "Generated traces of some 150 tokens, four of each problem, with token ids and log-probabilities, in shards of 4,096 as the "
    "sampler writes them. Each stage of each size is a process of its own and works on what the one before has written: writing "
    "shards; reading them; curating (every trace is looked at, all are kept, examples and dispositions are written); making "
    "lessons (reading examples, encoding, packing into rows of 512, saving); handing out batches from what was saved. Memory is "
    "the process's largest resident set above its imports, time is without imports. Every size does the same work per trace: "
    "with linear time the microseconds per trace stay, with flat memory the megabytes do. A stage that needs more than 12 GB "
    "fails. Batches come from a mapped file, whose pages the system takes back when it needs them: memory there is what is of "
    "no file.",
)
SAMPLES, SHARD, TOKENS, ROW = 4, 4096, 150, 512
MOST = 12 * 10**9
TEACHER, NAME, ARM = "teacher", "student", "all"
WORDS = [first + middle + last for first in "bdfgklmnprstvz" for middle in "aeiou" for last in ("n", "r", "l", "s", "m", "t")]


def write(count: int) -> Found:
    from w2sr_jax.core import records
    from w2sr_jax.core.records import Problem, Trace
    from w2sr_jax.text import tokenizer
    from w2sr_jax.text.settings import BpeTokenizer

    folder = run(count)
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer.build(BpeTokenizer(1024), [text(number) for number in range(200)]).save(folder / "tokenizer")
    where = folder / "teachers" / TEACHER / "rung-0"
    before = harness.memory()
    making = Clock()

    def made(numbers: range) -> Iterator[Trace]:
        for number in numbers:
            with making:
                one = trace(number)
            yield one

    start = time.perf_counter()
    for shard, first in enumerate(range(0, count, SHARD)):
        records.write(where / f"traces-{shard:05d}.parquet", Trace, made(range(first, min(count, first + SHARD))))
    seconds = time.perf_counter() - start - making.seconds
    answered = -(-count // SAMPLES)
    for split, numbers in (("pool", range(answered)), ("test", range(answered, answered + 200)), ("probe", range(0))):
        problems = (Problem(identity(n), f"what is {text(n, 30)}", "7", None, "bench", {}) for n in numbers)
        records.write(folder / "problems" / f"{split}.parquet", Problem, problems)
    commit(folder, "written", [path for name in ("problems", "tokenizer", "teachers") for path in (folder / name).rglob("*.*")])
    size = sum(path.stat().st_size for path in where.iterdir())
    return found("write", count, seconds, before, {"bytes_per_trace": size / count})


def read(count: int) -> Found:
    from w2sr_jax.core import records
    from w2sr_jax.core.records import Trace

    paths = sorted((run(count) / "teachers" / TEACHER / "rung-0").iterdir())
    before = harness.memory()
    start = time.perf_counter()
    seen = sum(1 for path in paths for _ in records.iterate(path, Trace))
    return found("read", seen, time.perf_counter() - start, before)


def curate(count: int) -> Found:
    """The stage of a run, with one arm."""
    from w2sr_jax.graph.stage import Context
    from w2sr_jax.graph.store import RunStore
    from w2sr_jax.stages.plan import stages

    folder = run(count)
    stage, context = stages(experiment()).curations[0], Context(RunStore(folder))
    before = harness.memory()
    start = time.perf_counter()
    made = stage.run(context)
    seconds = time.perf_counter() - start
    if made.measures["kept"] != {ARM: count}:
        raise SystemExit(f"of {count} traces were kept {made.measures['kept']}")
    commit(folder, stage.name, made.outputs)
    return found("curate", count, seconds, before)


def learn(count: int) -> Found:
    """What a training does before its first step."""
    from w2sr_jax.batches.settings import Batching
    from w2sr_jax.core import records
    from w2sr_jax.core.records import Example
    from w2sr_jax.models.config import ModelConfig
    from w2sr_jax.stages.examples import lessons
    from w2sr_jax.stages.layout import CURATED, PACKING
    from w2sr_jax.stages.models import Model
    from w2sr_jax.text import tokenizer
    from w2sr_jax.text.render import Renderer
    from w2sr_jax.training.settings import Training

    folder = run(count)
    model, renderer = Model("bench", "bench", ModelConfig(), "student"), Renderer(tokenizer.load(folder / "tokenizer"))
    before, peak = harness.memory(), Peak()
    start = time.perf_counter()
    examples = records.Stored(folder / "rungs" / f"0-{NAME}" / ARM / CURATED, Example)
    with peak:
        training = Training(batching=Batching(ROW, 8))
        encoded = lessons(model, examples, renderer, training, 0, folder / PACKING).encoded
        if len(encoded) != count:
            raise SystemExit(f"{len(encoded)} of {count} examples fit")
    return found("lessons", count, time.perf_counter() - start, before, {"own_mb": peak.own_mb})


def hand_out(count: int) -> Found:
    from w2sr_jax.batches.batch import Batches
    from w2sr_jax.batches.packing import Packed
    from w2sr_jax.batches.settings import Batching

    path, steps, more = run(count) / "packing.npz", 20, 200
    before, own = harness.memory(), harness.memory("RssAnon")
    start = time.perf_counter()
    batches = Batches(Packed.load(path), Batching(ROW, 8))
    for step in range(steps):
        batches.batch_at(step)
    seconds = time.perf_counter() - start
    again = time.perf_counter()
    for step in range(steps, steps + more):
        batches.batch_at(step)
    each = {"batch_ms": 1e3 * (time.perf_counter() - again) / more, "own_mb": harness.memory("RssAnon") - own}
    return found("batches", count, seconds, before, each)


def run(count: int) -> Path:
    """The folder of one size; from here on this process fails where it needs more than MOST bytes."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST, MOST))
    return Path(os.environ[harness.SCRATCH]) / f"traces-{count}"


def commit(folder: Path, stage: str, outputs: Sequence[Path]) -> None:
    """The manifest of what was written, without which nothing of a run is read."""
    from w2sr_jax.graph.manifest import Manifest
    from w2sr_jax.graph.store import RunStore

    store = RunStore(folder)
    written = store.digests([path for path in outputs if path.is_file()])
    nothing: dict[str, str] = {}
    store.commit(Manifest(stage, "bench", "0" * 64, {}, nothing, written, nothing, nothing, nothing, nothing, nothing))


def experiment() -> Any:
    """The experiment of the run."""
    from w2sr_jax.batches.settings import Batching
    from w2sr_jax.curation.settings import Curation
    from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
    from w2sr_jax.models.config import ModelConfig
    from w2sr_jax.training.settings import Training

    tiny, training = ModelConfig(width=16, layers=1, heads=2, kv_heads=2), Training(batching=Batching(ROW, 8))
    curation = Curation(per_problem=SAMPLES)
    rung = Rung(NAME, tiny, teachers=(TEACHER,), arms=(ARM,), gold=False, training=training, curation=curation)
    return Experiment(name="bench", teachers=(ModelTeacher(TEACHER, tiny, training, samples=SAMPLES),), rungs=(rung,))


def identity(problem: int) -> str:
    return f"{problem:016x}"


def text(number: int, words: int = 60) -> str:
    rng = np.random.default_rng(number)
    return " ".join(WORDS[place] for place in rng.integers(0, len(WORDS), words))


def trace(number: int) -> Any:
    """The trace of this number, the same in every process."""
    from w2sr_jax.core.records import Trace

    rng = np.random.default_rng(number)
    problem, written = identity(number // SAMPLES), f"{text(number)} #### {number % 7}"
    return Trace(
        f"{number:015x}t",
        problem,
        TEACHER,
        number % SAMPLES,
        written,
        str(number % 7),
        "correct" if number % 7 == 0 else "incorrect",
        "stop",
        TOKENS,
        -0.5,
        "bench",
        token_ids=tuple(rng.integers(1, 1024, TOKENS).tolist()),
        logprobs=tuple((-rng.random(TOKENS)).tolist()),
    )


def found(stage: str, count: int, seconds: float, before: float, more: dict[str, float] | None = None) -> Found:
    above = harness.memory("VmHWM") - before
    per = {"us_per_trace": 1e6 * seconds / count, "bytes_of_memory_per_trace": 1e6 * above / count}
    return {stage: {"seconds": seconds, "above_imports_mb": above, **per, **(more or {})}}


class Peak:
    """The most memory that is of no file, above what it was before, looked at 20 times a second."""

    def __enter__(self) -> "Peak":
        self.before, self.own_mb, self._ended = harness.memory("RssAnon"), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.own_mb = max(self.own_mb, harness.memory("RssAnon") - self.before)


class Clock:
    """Adds up the seconds in which it was entered."""

    seconds = 0.0

    def __enter__(self) -> "Clock":
        self.start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self.start


def sizes(quick: bool) -> list[int]:
    return [40, 200] if quick else [1000, 10_000, 100_000, 1_000_000]


def jobs(quick: bool) -> list[Job]:
    return [
        Job(variant(count), work, {"count": count}, once=count > 100_000, timeout=3000)
        for count in sizes(quick)
        for work in WORKS
    ]


def variant(count: int) -> str:
    return f"{count:,} traces"


def lines(quick: bool) -> list[Line]:
    counts, result = sizes(quick), []
    few, many = counts[-3 if len(counts) > 2 else 0], counts[-1]
    for stage, words in STAGES.items():
        beside: dict[str, Any] = {"ours": variant(many), "peers": (variant(few),)}
        # A flat stage holds groups of 8,192 rows, so that fewer traces need less.
        time_target = None if stage == "batches" else 1.3
        result.append(Line(f"{words}: time per trace", stage, "us_per_trace", "µs", "lower", target=time_target, **beside))
        memory, told = "above_imports_mb", f"{words}: memory"
        if stage in ("lessons", "batches"):
            memory, told = "own_mb", f"{words}: memory of its own"
        result.append(Line(told, stage, memory, "MB", "lower", target=1.5, **beside))
    result.append(Line("one batch", "batches", "batch_ms", "ms", "lower", ours=variant(many), peers=(variant(few),), target=1.3))
    return result


STAGES = {"write": "writing", "read": "reading", "curate": "curating", "lessons": "making lessons", "batches": "opening batches"}
WORKS: dict[str, Callable[..., Found]] = {"write": write, "read": read, "curate": curate, "learn": learn, "hand_out": hand_out}
SUBJECT = Subject("growth_traces", "From 1,000 to 1,000,000 traces", ABOUT, jobs, WORKS, lines)

if __name__ == "__main__":
    harness.main(SUBJECT)
