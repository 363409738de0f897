"""Traces from a model: problems in, graded traces out, shard by shard, so that an interrupted run loses at most one shard."""

import dataclasses
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from w2sr_jax import files, records
from w2sr_jax.answers.grade import Grader, grade_all
from w2sr_jax.errors import UserError
from w2sr_jax.keys import keys
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.transformer import Params
from w2sr_jax.records import Problem, Trace
from w2sr_jax.sampling.engine import generate
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.render import Renderer

log = logging.getLogger(__name__)

MARKER = "sampling.json"  # which shards are finished, with their digests

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
    prompts = [prompt for prompt in prompts for _ in range(samples)]
    purpose = f"sample {style} {decoding.temperature}"
    return _write(author, rows, prompts, [[] for _ in rows], decoding, grader, purpose, on_progress)


def continued(
    author: Author,
    problems: Sequence[Problem],
    beginnings: Sequence[str],
    decoding: Decoding,
    grader: Grader,
    on_progress: Progress | None = None,
) -> list[Trace | None]:
    """One graded trace per problem that begins with the given text and that the author wrote to its end; None where the tokenizer
    does not know a part of the text. A problem may occur several times; its traces are numbered as samples."""
    encoded = author.renderer.tokenizer.encode(list(beginnings))
    unknown = author.renderer.tokenizer.unknown
    known = [index for index, ids in enumerate(encoded) if unknown is None or unknown not in ids]
    seen: Counter[str] = Counter()
    rows = []
    for index in known:
        rows.append((problems[index], seen[problems[index].id]))
        seen[problems[index].id] += 1
    asked = author.renderer.prompts([problem.question for problem, _ in rows])
    begun = [encoded[index] for index in known]
    purpose = f"continue {decoding.temperature}"
    prompts = [prompt + ids for prompt, ids in zip(asked, begun, strict=True)]
    traces: list[Trace | None] = [None] * len(problems)
    for index, trace in zip(known, _write(author, rows, prompts, begun, decoding, grader, purpose, on_progress), strict=True):
        traces[index] = trace
    return traces


def _write(
    author: Author,
    rows: Sequence[tuple[Problem, int]],
    prompts: Sequence[list[int]],
    begun: Sequence[list[int]],
    decoding: Decoding,
    grader: Grader,
    purpose: str,
    on_progress: Progress | None,
) -> list[Trace]:
    """A graded trace per (problem, sample) and prompt; `begun` are the tokens at the prompt's end that belong to the trace."""
    drawn = generate(
        author.config,
        author.params,
        prompts,
        keys(author.seed, purpose, [(author.name, problem.id, sample) for problem, sample in rows]),
        decoding,
        author.renderer.end_tokens,
        author.renderer.pad,
        None if on_progress is None else _Rate(on_progress),
        author.mesh,
    )
    texts = author.renderer.decode_all([[*ids, *completion.tokens] for ids, completion in zip(begun, drawn, strict=True)])
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

    Shards that an earlier call with the same `identity` (a digest of all that steers the work) finished are kept if they still
    have their digests; all others are drawn.
    """
    marker = directory / MARKER
    finished = _finished(directory, identity)
    each = max(1, shard // samples)
    total = len(problems) * samples
    paths = []
    for number in range(math.ceil(len(problems) / each)):
        path = directory / f"traces-{number:05d}.parquet"
        paths.append(path)
        done = number * each * samples
        if path.name in finished:
            continue
        part = problems[number * each : (number + 1) * each]

        def report(here: int, _: int, words: str, done: int = done) -> None:
            if on_progress is not None:
                on_progress(done + here, total, words)

        records.write(path, Trace, draw(author, part, samples, decoding, grader, style, report))
        finished[path.name] = files.digest_file(path)
        files.write_json(marker, {"identity": identity, "shards": finished})
    return paths


def _finished(directory: Path, identity: str) -> dict[str, str]:
    """Shards that stand, with their digests. Files that are none of them are removed."""
    try:
        known = files.read_json(directory / MARKER)
        shards = dict(known["shards"]) if known["identity"] == identity else {}
    except (UserError, KeyError, TypeError, ValueError):
        shards = {}
    for path in sorted(directory.glob("traces-*.parquet")):
        digest = shards.pop(path.name, None)
        if digest is not None and digest == files.digest_file(path):
            shards[path.name] = digest
            continue
        if digest is not None:
            log.warning("%s does not have the digest it was written with; its traces are drawn again", path)
        path.unlink()
    return {name: digest for name, digest in shards.items() if (directory / name).is_file()}


class _Rate:
    """Turns the engine's counts into words on the rate."""

    def __init__(self, tell: Progress) -> None:
        self.tell, self.started = tell, time.monotonic()

    def __call__(self, done: int, total: int, tokens: int) -> None:
        self.tell(done, total, f"{tokens / max(time.monotonic() - self.started, 1e-9):,.0f} tokens/s")
