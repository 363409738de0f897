"""Traces in files: by shard, so that an interrupted run loses at most one; dealt out to processes; within a budget of tokens.

A shard is a run of consecutive problems, and a trace's key follows from its problem: the files are the same for any number of
processes, up to the last bits of log-probabilities where the devices of a process are arranged otherwise.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from w2sr_jax.answers.grade import Grader
from w2sr_jax.core import files, records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.core.sharing import ON_ONE_DISK, Sharing
from w2sr_jax.models import transformer
from w2sr_jax.parallel import resharding
from w2sr_jax.sampling.estimate import Estimate, Meter, Progress, estimate
from w2sr_jax.sampling.journal import Journal, Shard, exchange
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import Author, draw

MARKER = (
    "sampling.json"  # which shards are finished; while several processes draw, sampling-1.json, … say what the others finished
)
PORTIONS = 16
"""A budget is divided into at least so many shards, unless they would be smaller than a batch."""

OnEstimate = Callable[[Estimate, float | None], None]
"""Called with an estimate of what is left to do, and the rate so far in tokens per second (None before the first shard)."""


class Drawn(NamedTuple):
    """What there is in the end, whichever call has drawn it."""

    paths: list[Path]
    tokens: int
    left_out: int
    """Traces that the budget did not allow."""


def draw_shards(
    directory: Path,
    author: Author,
    problems: Sequence[Problem],
    samples: int,
    decoding: Decoding,
    grader: Grader,
    identity: str,
    shard: int = 4096,
    style: str = "reason",
    on_progress: Progress | None = None,
    budget: int | None = None,
    on_estimate: OnEstimate | None = None,
    sharing: Sharing = ON_ONE_DISK,
) -> Drawn:
    """Write `draw`'s traces to DIRECTORY/traces-00000.parquet, …, about `shard` traces to a file.

    Shards that an earlier call with the same `identity` (a digest of all that steers the work) finished are kept if they still
    have their digests; all others are drawn. With a `budget`, no shard is begun once those before it hold so many tokens, so that
    it is exceeded by less than a shard; shards are then smaller: at most a sixteenth of the budget where every trace is as long
    as it may be, but at least a batch.

    Several processes draw different shards, each on its own devices, into the directory that they share; where they share none,
    `sharing` brings all shards to the first one. All return once all is there. Where one copy of the model spans processes, they
    draw every shard together.
    """
    if budget is not None:
        shard = min(shard, max(decoding.batch, budget // (PORTIONS * decoding.max_tokens)))
    each = max(1, shard // samples)
    parts = {
        f"traces-{number:05d}.parquet": problems[start : start + each]
        for number, start in enumerate(range(0, len(problems), each))
    }
    names = list(parts)
    journal = Journal(directory, files.digest_json([identity, each]))
    if jax.process_index() == 0:
        sharing.obtain(directory)
    finished = journal.open()
    apart = draws_apart(author.mesh)
    ways, own = (jax.process_count(), jax.process_index()) if apart else (1, 0)
    writes = apart or jax.process_index() == 0
    missing = [name for name in names if name not in finished]
    if missing:
        author = on_own_devices(author) if apart else author

    def traces(some: Sequence[str]) -> int:
        return samples * sum(len(parts[name]) for name in some)

    earlier = traces(list(finished))
    meter = Meter(on_progress or (lambda *_: None), earlier, earlier + traces(missing[own::ways]))
    tell = _estimates(on_estimate, author, parts, samples, style, decoding, budget)
    tell(finished, None)
    while now := _allowed(names, finished, budget)[: None if budget is None else ways]:
        mine: dict[str, Shard] = {}
        for name in now[own::ways]:
            drawn = draw(author, parts[name], samples, decoding, grader, style, meter)
            meter.add()
            if writes:
                records.write(directory / name, Trace, drawn, top=decoding.record_top > 0)
                mine[name] = Shard(files.digest_file(directory / name), sum(trace.tokens for trace in drawn))
                journal.enter(name, mine[name])
                sharing.publish([directory / name, journal.path])
                tell(finished | mine, meter.rate * ways)
        for theirs in exchange(mine):
            finished |= {name: Shard(*entry) for name, entry in theirs.items()}
    within = _within(names, finished, budget)
    if jax.process_index() == 0:
        sharing.obtain(directory)
    journal.close({name: finished[name] for name in within})
    reads = sharing.one_disk or jax.process_index() == 0
    absent = [name for name in within if reads and not (directory / name).is_file()]
    if absent:
        raise UserError(f"{directory / absent[0]} was written by another process and is not seen here; they must share the disk")
    tokens = sum(finished[name].tokens for name in within)
    return Drawn([directory / name for name in within], tokens, traces(names) - traces(within))


def _within(names: Sequence[str], finished: Mapping[str, Shard], budget: int | None) -> list[str]:
    """The finished shards before which the budget was not used up."""
    within, tokens = [], 0
    for name in names:
        if name in finished and (budget is None or tokens < budget):
            within.append(name)
            tokens += finished[name].tokens
    return within


def _allowed(names: Sequence[str], finished: Mapping[str, Shard], budget: int | None) -> list[str]:
    """The shards that are missing, as far as those before them leave something of the budget."""
    missing, tokens = [], 0
    for name in names:
        if budget is not None and tokens >= budget:
            break
        if name in finished:
            tokens += finished[name].tokens
        else:
            missing.append(name)
    return missing


def draws_apart(mesh: jax.sharding.Mesh | None) -> bool:
    """Whether each process can draw by itself: not where one copy of the model spans processes."""
    return mesh is None or resharding.copies_apart(mesh)


def on_own_devices(author: Author) -> Author:
    """The author with parameters on this process's devices alone. All processes must call it."""
    if jax.process_count() == 1 or author.mesh is None:
        return author
    own = resharding.own_mesh(author.mesh)
    params = resharding.onto_own_devices(author.params, transformer.logical_axes(author.config), own)
    return dataclasses.replace(author, params=params, mesh=own)


def _estimates(
    on_estimate: OnEstimate | None,
    author: Author,
    parts: Mapping[str, Sequence[Problem]],
    samples: int,
    style: str,
    decoding: Decoding,
    budget: int | None,
) -> Callable[[Mapping[str, Shard], float | None], None]:
    """Tells what is left to do, given the finished shards and the rate."""
    if on_estimate is None:
        return lambda finished, rate: None
    lengths = {
        name: [len(prompt) for prompt in author.renderer.prompts([problem.question for problem in part], style)]
        for name, part in parts.items()
    }

    def tell(finished: Mapping[str, Shard], rate: float | None) -> None:
        left = [name for name in parts if name not in finished]
        traces = samples * sum(len(parts[name]) for name in finished)
        tokens = sum(shard.tokens for shard in finished.values())
        on_estimate(
            estimate(
                author.config,
                sum(len(parts[name]) for name in left),
                sum(sum(lengths[name]) for name in left),
                max((max(lengths[name]) for name in left), default=0),
                samples,
                decoding,
                tokens / traces if traces else None,
                None if budget is None else max(0, budget - tokens),
            ),
            rate,
        )

    return tell
