"""What a frozen reference costs a training: computed in every step, kept on disk once, or none at all.

python tools/bench/reference.py              # 5 rounds, some 15 minutes on one core
python tools/bench/reference.py --quick      # does it run?
"""

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Found, Job, Line, Subject
from shapes import ROW, SHAPES, documents
from training import ACCUMULATION, SETTINGS, encoded

TOP, BLOCK = 32, 512
KEPT, COMPUTED, NONE, MAKING = "kept on disk", "computed in every step", "no reference", "making what is kept"

ABOUT = (
    "Full training steps as in the training benchmark (same shapes, rows and micro-batches), with the loss of imitation + 0.1 × "
    "reverse KL to the frozen initial parameters: once with the reference's forward pass in every step, once with its 32 most "
    "probable tokens read from disk (`training.reference_top`), and beside both the same training without that term. Making what "
    "is kept is timed by itself, compilation included: it is paid once per data set and base, however many epochs and arms there "
    "are. Peak memory is that of the training process; what is kept was written by another one.",
)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What all variants of a shape have in common."""

    shape: str
    rows: int
    length: int
    count: int
    """Documents."""

    @property
    def config(self) -> Any:
        return dataclasses.replace(SHAPES[self.shape], **SETTINGS.get(self.shape, {}))

    @property
    def accumulation(self) -> int:
        return ACCUMULATION.get(self.shape, 1)

    def batches(self) -> Any:
        from w2sr_jax.batches.batch import Batches
        from w2sr_jax.batches.packing import pack
        from w2sr_jax.batches.settings import Batching

        given = documents(self.count, self.config.vocab_size, self.length).tokens
        return Batches(pack([encoded(ids) for ids in given], self.length), Batching(self.length, self.rows))

    def initial(self) -> Any:
        from w2sr_jax.core.keys import key
        from w2sr_jax.models import transformer

        return transformer.init(self.config, key(0, "bench"))

    def references(self, batches: Any, mesh: Any) -> Any:
        """What is kept, made where it is not there yet."""
        from w2sr_jax.training.reference import references

        folder, owner = Path(os.environ[harness.SCRATCH]) / self.shape, {"data_digest": batches.digest}
        rows = self.rows // self.accumulation
        return references(folder, self.config, self.initial, batches.packed, TOP, rows, BLOCK, mesh, owner)


def make(**sizes: Any) -> Found:
    from w2sr_jax.parallel import compiling
    from w2sr_jax.parallel.mesh import make_mesh
    from w2sr_jax.parallel.settings import Mesh

    compiling.tidy()  # as the `w2sr` command does
    given = Sizes(**sizes)
    shutil.rmtree(Path(os.environ[harness.SCRATCH]) / given.shape, ignore_errors=True)
    batches, mesh = given.batches(), make_mesh(Mesh(data=1))
    start = time.perf_counter()
    kept = given.references(batches, mesh)
    seconds = time.perf_counter() - start
    tokens = int(np.count_nonzero(batches.packed.segments))
    size = sum(path.stat().st_size for path in kept.folder.iterdir())
    return {given.shape: {"tokens_per_s": tokens / seconds, "peak_mb": harness.memory("VmHWM"), "bytes_per_token": size / tokens}}


def train(variant: str, steps: int, **sizes: Any) -> Found:
    """The train step that `fit` runs, fed with what `fit` reads."""
    import jax

    from w2sr_jax.losses.inputs import INITIAL
    from w2sr_jax.losses.objective import Objective
    from w2sr_jax.losses.token import Nll, ReverseKL
    from w2sr_jax.parallel import compiling
    from w2sr_jax.parallel.mesh import batch_sharding, make_mesh
    from w2sr_jax.parallel.processes import put
    from w2sr_jax.parallel.settings import Mesh
    from w2sr_jax.training.program import make_program
    from w2sr_jax.training.settings import Training

    compiling.tidy()
    given, mesh = Sizes(**sizes), make_mesh(Mesh(data=1))
    batches = given.batches()
    top = TOP if variant == KEPT else 0
    training = Training(batching=batches.settings, accumulation=given.accumulation, reference_top=top)
    objective = Objective(Nll() if variant == NONE else Nll() + 0.1 * ReverseKL(), block=BLOCK)
    program = make_program(given.config, objective, training, steps + 1, mesh)
    kept = given.references(batches, mesh) if variant == KEPT else None
    initial = put(given.initial(), program.params)
    state = program.fresh(initial)
    frozen = {INITIAL: initial} if variant == COMPUTED else None
    del initial

    def step(number: int) -> tuple[int, Any]:
        nonlocal state
        batch = batches.batch_at(number)
        if kept is not None:
            batch = batch._replace(models={INITIAL: kept.at(batches.rows_at(number))})
        state, metrics = program.step(state, put(batch, batch_sharding(mesh)), frozen)
        return int(np.count_nonzero(batch.segments)), metrics

    jax.block_until_ready(step(0)[1])
    start = time.perf_counter()
    done = [step(number + 1) for number in range(steps)]
    jax.block_until_ready((state, done[-1][1]))
    seconds = time.perf_counter() - start
    if not bool(state.sound):
        raise SystemExit("the training broke down")
    return {given.shape: {"tokens_per_s": sum(n for n, _ in done) / seconds, "peak_mb": harness.memory("VmHWM")}}


def jobs(quick: bool) -> list[Job]:
    found, few = [], [("tiny", 2, 128, 1, 40)]
    for shape, rows, length, steps, count in few if quick else [("S", 8, ROW, 2, 100), ("M", 8, ROW, 1, 100)]:
        sizes = {"shape": shape, "rows": rows, "length": length, "count": count}
        found.append(Job(MAKING, "make", sizes, harness.HUGE_PAGES))
        for variant in (KEPT, COMPUTED, NONE):
            found.append(Job(variant, "train", {**sizes, "steps": steps, "variant": variant}, harness.HUGE_PAGES))
    return found


def lines(quick: bool) -> list[Line]:
    found = []
    for shape in ["tiny"] if quick else ["S", "M"]:
        for ours, peer in ((KEPT, COMPUTED), (KEPT, NONE), (COMPUTED, NONE)):
            found.append(Line(f"{shape}, {ours}: rate", shape, "tokens_per_s", "tokens/s", ours=ours, peers=(peer,)))
            found.append(Line(f"{shape}, {ours}: peak memory", shape, "peak_mb", "MB", "lower", ours=ours, peers=(peer,)))
        found.append(Line(f"{shape}, {MAKING}: rate", shape, "tokens_per_s", "tokens/s", ours=MAKING))
        found.append(Line(f"{shape}, {MAKING}: disk", shape, "bytes_per_token", "bytes/token", "lower", ours=MAKING))
    return found


WORKS: dict[str, Callable[..., Found]] = {"make": make, "train": train}
SUBJECT = Subject("reference", "Training with a frozen reference", ABOUT, jobs, WORKS, lines)

if __name__ == "__main__":
    harness.main(SUBJECT)
