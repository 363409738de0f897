"""How long a training waits for a checkpoint, beside Orbax alone and beside a digest before each save.

python tools/bench/saving.py                         # 500 million parameters: 6 GB of state, about 14 GB of memory
python tools/bench/saving.py --quick                 # does it run?
"""

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
from harness import Found, Job, Line, Subject

ABOUT = (
    "A state of 500 million parameters in float32 with both moments of AdamW (6 GB), and a train step of the optimizer alone, "
    "which writes over the state that it is given. Measured are the time in which the loop waits for a save to begin; the first "
    "step after it against a step long after it; how long it takes until the checkpoint is on disk, digested and sealed; and "
    "memory meanwhile, above the state. Orbax alone writes the same arrays, without any digest. Digesting first is what a save "
    "costs where both digests are computed before it begins. The rates of both kinds of digest are of the parameters alone.",
)
WIDTH = 4096  # columns of each array
LARGEST = 16_384  # rows of each


def state(parameters: int) -> tuple[Any, Any, Callable[[Any, Any], tuple[Any, Any]]]:
    """Parameters, the state of AdamW, and a step that gives the next of both in their memory."""
    import jax
    import jax.numpy as jnp
    import optax

    rows = max(1, parameters // WIDTH)
    shapes = {f"{start:08}": (min(LARGEST, rows - start), WIDTH) for start in range(0, rows, LARGEST)}
    params = {name: jnp.full(shape, 0.5, jnp.float32) for name, shape in shapes.items()}
    optimizer = optax.adamw(1e-3)

    def step(params: Any, moments: Any) -> tuple[Any, Any]:
        updates, moments = optimizer.update(jax.tree.map(lambda leaf: leaf * 0.01, params), moments, params)
        return optax.apply_updates(params, updates), moments

    return params, jax.jit(optimizer.init)(params), jax.jit(step, donate_argnums=(0, 1))


class Memory:
    """The most memory of this process that no file backs, above what it had at first (GB), sampled while in use."""

    def __enter__(self) -> "Memory":
        self._before = self._most = _anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.most_gb = max(0, self._most - self._before) / 1e9

    def _sample(self) -> None:
        while not self._done.wait(0.02):
            self._most = max(self._most, _anonymous())


def _anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    scratch = Path(os.environ[harness.SCRATCH])
    scratch.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=scratch))
    try:
        yield path.absolute()
    finally:
        shutil.rmtree(path, ignore_errors=True)


def measured(parameters: int, save: Callable[[int, Any, Any], None], wait: Callable[[], None]) -> Found:
    """Two saves, of which the second is measured, each followed by a step."""
    import jax

    params, moments, step = state(parameters)

    def stepped() -> float:
        nonlocal params, moments
        start = time.perf_counter()
        params, moments = jax.block_until_ready(step(params, moments))
        return time.perf_counter() - start

    stepped()
    save(1, params, moments)
    stepped()
    wait()
    usual = min(stepped() for _ in range(3))
    with Memory() as memory:
        start = time.perf_counter()
        save(2, params, moments)
        blocked = time.perf_counter() - start
        after = stepped()
        wait()
        total = time.perf_counter() - start
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((params, moments))) / 1e9
    return {
        "save": {
            "blocked_s": blocked,
            "blocked_s_per_gb": blocked / size,
            "step_s": usual,
            "step_after_s": after,
            "total_s": total,
            "extra_gb": memory.most_gb,
            "state_gb": size,
        }
    }


def ours(parameters: int) -> Found:
    import jax.numpy as jnp

    from w2sr_jax.training.checkpoints import Checkpoints
    from w2sr_jax.training.state import TrainState

    with folder() as path, Checkpoints(path, keep=1) as checkpoints:

        def save(number: int, params: Any, moments: Any) -> None:
            checkpoints.save(TrainState(params, moments, jnp.int32(number), jnp.bool_(True)), {})

        return measured(parameters, save, checkpoints.wait)


def orbax(parameters: int, digest: bool) -> Found:
    """Orbax alone; with `digest`, sha256 of all bytes is computed before it begins."""
    import hashlib

    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    with folder() as path, ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler()) as checkpointer:

        def save(number: int, params: Any, moments: Any) -> None:
            if digest:
                for tree in (params, moments):
                    total = hashlib.sha256()
                    for leaf in jax.tree.leaves(tree):
                        total.update(np.asarray(leaf).tobytes())
                    total.hexdigest()
            checkpointer.save(path / str(number), args=ocp.args.StandardSave({"params": params, "moments": moments}))

        return measured(parameters, save, checkpointer.wait_until_finished)


def rates(parameters: int) -> Found:
    import jax

    from w2sr_jax.training.digest import params_digest

    params, _, _ = state(parameters)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params)) / 1e9
    found = {}
    for kind, like in (("sha256", ""), ("checksum", "checksum:")):
        params_digest(params, like)
        start = time.perf_counter()
        params_digest(params, like)
        found[kind] = {"gb_per_s": size / (time.perf_counter() - start)}
    return found


def _jobs(quick: bool) -> list[Job]:
    parameters = 1 << 18 if quick else 500_000_000
    size = {"parameters": parameters}
    return [
        Job("w2sr_jax", "ours", size),
        Job("Orbax alone", "orbax", {**size, "digest": False}),
        Job("digest first", "orbax", {**size, "digest": True}),
        Job("w2sr_jax", "rates", {"parameters": parameters // 4}),
    ]


def _lines(quick: bool) -> list[Line]:
    del quick
    peers = ("Orbax alone",)
    return [
        Line("the loop waits", "save", "blocked_s", "s", "lower", target=0.2),
        Line("the loop waits", "save", "blocked_s", "s", "lower", peers=("digest first",)),
        Line("the loop waits", "save", "blocked_s", "s", "lower", peers=peers),
        Line("the loop waits, for each GB", "save", "blocked_s_per_gb", "s/GB", "lower"),
        Line("first step afterwards", "save", "step_after_s", "s", "lower", peers=peers),
        Line("a step otherwise", "save", "step_s", "s", "lower"),
        Line("until sealed", "save", "total_s", "s", "lower", peers=peers),
        Line("memory above the state", "save", "extra_gb", "GB", "lower", peers=peers),
        Line("sha256", "sha256", "gb_per_s", "GB/s"),
        Line("checksum", "checksum", "gb_per_s", "GB/s"),
    ]


SUBJECT = Subject("saving", "Saving checkpoints", ABOUT, _jobs, {"ours": ours, "orbax": orbax, "rates": rates}, _lines)

if __name__ == "__main__":
    harness.main(SUBJECT)
