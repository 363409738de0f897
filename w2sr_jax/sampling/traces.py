"""Traces from a model: problems in, graded traces out, shard by shard, so that an interrupted run loses at most one shard."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from w2sr_jax import files, records
from w2sr_jax.answers.grade import Grader, grade_all
from w2sr_jax.keys import keys
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.transformer import Params
from w2sr_jax.records import Problem, Trace
from w2sr_jax.sampling.engine import generate
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.render import Renderer

Progress = Callable[[int, int, str], None]
"""Called with (traces done, traces in all, a few words on the rate)."""


@dataclasses.dataclass(frozen=True)
class Author:
    """Who writes: `name` and `seed` enter every trace's key, `provenance` (the parameters' digest) its record."""

    name: str
    config: ModelConfig
    params: Params
    renderer: Renderer
    seed: int
    provenance: str
    mesh: jax.sharding.Mesh | None = None


def draw(
    author: Author,
    problems: Sequence[Problem],
    samples: int,
    decoding: Decoding,
    grader: Grader,
    style: str = "reason",
    on_progress: Progress | None = None,
) -> list[Trace]:
    """`samples` graded traces per problem, problem by problem. A trace depends on (seed, author's name, problem id, sample),
    the parameters and the decoding settings, and on nothing else."""
    rows = [(problem, sample) for problem in problems for sample in range(samples)]
    prompts = author.renderer.prompts([problem.question for problem in problems], style)
    purpose = f"sample {style} {decoding.temperature}"
    drawn = generate(
        author.config,
        author.params,
        [prompt for prompt in prompts for _ in range(samples)],
        keys(author.seed, purpose, [(author.name, problem.id, sample) for problem, sample in rows]),
        decoding,
        author.renderer.end_tokens,
        author.renderer.pad,
        None if on_progress is None else _Rate(on_progress),
        author.mesh,
    )
    texts = author.renderer.decode_all([completion.tokens for completion in drawn])
    verdicts = grade_all(grader, texts, [problem for problem, _ in rows])
    return [
        Trace(
            id=Trace.identity(problem.id, author.name, sample, text),
            problem_id=problem.id,
            teacher=author.name,
            sample=sample,
            text=text,
            answer=None,
            verdict="ungraded",
            finish=completion.finish,
            tokens=len(completion.tokens),
            mean_logprob=sum(completion.logprobs) / len(completion.logprobs) if completion.logprobs else None,
            provenance=author.provenance,
            token_ids=tuple(completion.tokens),
            logprobs=tuple(completion.logprobs),
        ).graded(verdict)
        for (problem, sample), text, completion, verdict in zip(rows, texts, drawn, verdicts, strict=True)
    ]


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
) -> list[Path]:
    """Write `draw`'s traces to DIRECTORY/traces-00000.parquet, …, about `shard` traces to a file.

    Shards that stand from an earlier call with the same `identity` (a digest of all that steers the work) are kept; others are
    removed first.
    """
    marker = directory / "sampling.json"
    if not marker.exists() or files.read_json(marker) != {"identity": identity}:
        for stale in sorted(directory.glob("traces-*.parquet")):
            stale.unlink()
        files.write_json(marker, {"identity": identity})
    each = max(1, shard // samples)
    total = len(problems) * samples
    paths = []
    for number in range(math.ceil(len(problems) / each)):
        path = directory / f"traces-{number:05d}.parquet"
        paths.append(path)
        done = number * each * samples
        if path.exists():
            continue
        part = problems[number * each : (number + 1) * each]

        def report(here: int, _: int, words: str, done: int = done) -> None:
            if on_progress is not None:
                on_progress(done + here, total, words)

        records.write(path, Trace, draw(author, part, samples, decoding, grader, style, report))
    return paths


class _Rate:
    """Turns the engine's counts into words on the rate."""

    def __init__(self, tell: Progress) -> None:
        self.tell, self.started = tell, time.monotonic()

    def __call__(self, done: int, total: int, tokens: int) -> None:
        self.tell(done, total, f"{tokens / max(time.monotonic() - self.started, 1e-9):,.0f} tokens/s")
