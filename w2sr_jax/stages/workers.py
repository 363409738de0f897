"""The pool of worker processes for an experiment's stages."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

import jax

from w2sr_jax.core.errors import UserError
from w2sr_jax.graph.jobs.messages import Order
from w2sr_jax.graph.jobs.pool import Inline, Pool, Workers, pin, split_cores, worker_command

_MODULE = "w2sr_jax.stages.worker"


@contextlib.contextmanager
def pool(jobs: int, handles: Sequence[int], alone: Callable[[Order], None] | None = None) -> Iterator[Workers]:
    """As many workers, each on cores of its own, that hold the locks whose files are `handles`. Inside, this process counts as
    many cores as each of them, since results to the bit depend on that. On devices that are no cores one job is done by this
    process, with `alone`. `UserError` where there are fewer cores than jobs, or several jobs and other devices."""
    if jax.default_backend() != "cpu":
        if jobs == 1 and alone is not None:
            yield Inline(alone)
            return
        kind = jax.devices()[0].device_kind
        raise UserError(f"--jobs divides cores, and stages compute on {kind} here, which takes one process; leave --jobs out")
    parts = split_cores(jobs)
    before = os.sched_getaffinity(0) if parts[0] is not None else None
    pin(parts[0])
    try:
        with Pool(worker_command(_MODULE, str(jax.device_count())), parts, handles) as workers:
            yield workers
    finally:
        pin(None if before is None else frozenset(before))
