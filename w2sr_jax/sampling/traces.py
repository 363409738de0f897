"""Traces from a model: problems in, graded traces out; or texts as they end, from an engine that stays."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

from w2sr_jax.answers.grade import Grader, grade_all
from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.keys import keys
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.models import finite
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.transformer import Params
from w2sr_jax.sampling.engine import Completion, Engine, NotFinite, generate
from w2sr_jax.sampling.estimate import Meter, Progress
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.stops import before, stopper
from w2sr_jax.text.render import Renderer


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


class Drawn(NamedTuple):
    """A text that was drawn for `problems[problem]`, not yet graded."""

    problem: int
    sample: int
    text: str
    completion: Completion


def drawn(
    engine: Engine, author: Author, problems: Sequence[Problem], samples: int, purpose: str, style: str = "reason"
) -> Iterator[Drawn]:
    """`samples` texts per problem, from an engine that has the author's parameters, in the order in which they end. Each depends
    on (seed, author's name, problem id, sample, `purpose`), the parameters and the engine's decoding settings. A problem that
    occurs twice gets the same texts twice: `purpose` names what tells two requests apart, as a step of training. Errors as of
    `draw`."""
    decoding, renderer = engine.decoding, author.renderer
    rows = [(index, sample) for index in range(len(problems)) for sample in range(samples)]
    prompts = renderer.prompts([problem.question for problem in problems], style)
    entries = [(author.name, problems[index].id, sample) for index, sample in rows]
    asked = [prompts[index] for index, _ in rows]
    try:
        for ended in engine.rounds(asked, keys(author.seed, purpose, entries), stop=stopper(decoding.stop, renderer.decode)):
            texts = _texts(renderer, [[] for _ in ended], [completion for _, completion in ended], decoding.stop)
            for (row, completion), text in zip(ended, texts, strict=True):
                yield Drawn(*rows[row], text, completion)
    except NotFinite as error:
        index, sample = rows[error.row]
        raise UserError(_not_finite(author, problems[index], sample, error.drawn)) from None


def draw(
    author: Author,
    problems: Sequence[Problem],
    samples: int,
    decoding: Decoding,
    grader: Grader,
    style: str = "reason",
    on_progress: Progress | Meter | None = None,
) -> list[Trace]:
    """`samples` graded traces per problem, problem by problem. A trace depends on (seed, author's name, problem id, sample),
    the parameters and the decoding settings, and on nothing else; what `decoding.record_top` records changes none. `UserError`
    naming author and problem where the author's logits are not finite numbers."""
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
    on_progress: Progress | Meter | None = None,
) -> list[Trace | None]:
    """One graded trace per problem that begins with the given text and that the author wrote to its end; None where the tokenizer
    does not know a part of the text. A problem may occur several times; its traces are numbered as samples."""
    encoded = author.renderer.tokenizer.encode(list(beginnings))
    unknown = author.renderer.tokenizer.unknown
    encodable = [index for index, ids in enumerate(encoded) if unknown is None or unknown not in ids]
    seen: Counter[str] = Counter()
    rows = []
    for index in encodable:
        rows.append((problems[index], seen[problems[index].id]))
        seen[problems[index].id] += 1
    asked = author.renderer.prompts([problem.question for problem, _ in rows])
    begun = [encoded[index] for index in encodable]
    purpose = f"continue {decoding.temperature}"
    prompts = [prompt + ids for prompt, ids in zip(asked, begun, strict=True)]
    traces: list[Trace | None] = [None] * len(problems)
    for index, trace in zip(encodable, _write(author, rows, prompts, begun, decoding, grader, purpose, on_progress), strict=True):
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
    on_progress: Progress | Meter | None,
) -> list[Trace]:
    """A graded trace per (problem, sample) and prompt; `begun` are the tokens at the prompt's end that belong to the trace."""
    meter = Meter(on_progress) if on_progress is not None and not isinstance(on_progress, Meter) else on_progress
    try:
        drawn = generate(
            author.config,
            author.params,
            prompts,
            keys(author.seed, purpose, [(author.name, problem.id, sample) for problem, sample in rows]),
            decoding,
            author.renderer.end_tokens,
            author.renderer.pad,
            meter,
            author.mesh,
            stopper(decoding.stop, author.renderer.decode),
            vocabulary=author.renderer.vocab_size,
        )
    except NotFinite as error:
        raise UserError(_not_finite(author, *rows[error.row], error.drawn)) from None
    texts = _texts(author.renderer, begun, drawn, decoding.stop)
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
            top=completion.top,
        ).graded(verdict)
        for (problem, sample), text, completion, verdict in zip(rows, texts, drawn, verdicts, strict=True)
    ]


def _not_finite(author: Author, problem: Problem, sample: int, drawn: int) -> str:
    """That an author could not write a trace, and why."""
    broken = finite.not_finite(author.params)
    why = finite.words(broken) if broken else "its parameters are finite, so that its computation overflows"
    right = (
        "use another checkpoint of it" if broken else "compute it in another type (model.dtype), or use another checkpoint of it"
    )
    return (
        f"the model {author.name} can draw no token after {drawn} of its trace {sample} for problem {problem.id} "
        f"({sentences.value(problem.question, 60)}): its logits are not finite numbers; {why}; no such trace was written; {right}"
    )


def _texts(renderer: Renderer, begun: Sequence[list[int]], drawn: Sequence[Completion], stop: Sequence[str]) -> list[str]:
    """Beginning and completion of each trace, without the stop string that ended it and what follows."""
    texts = renderer.decode_all([[*ids, *completion.tokens] for ids, completion in zip(begun, drawn, strict=True)])
    if not stop:
        return texts
    own = renderer.decode_all([completion.tokens for completion in drawn])
    cut = [len(text) - len(before(text, stop)) for text in own]
    return [text[: len(text) - drop] for text, drop in zip(texts, cut, strict=True)]
