"""Traces from a server: problems in, graded traces out, by requests that are retried, rate-limited and never sent again once
answered.

    DIRECTORY/  traces-00000.parquet …  answers.jsonl

Every answer goes to the journal (`answers.jsonl`) as it arrives. The traces are written from it when all have arrived, in the
order of problems and samples, so that they do not depend on the order of arrival. Whatever ends the work, the next call asks for
what is missing and for nothing else.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from w2sr_jax.answers.grade import Grader, grade_all
from w2sr_jax.core import files, records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import lock
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.teachers import finish_reasons, thoughts
from w2sr_jax.teachers.served import run
from w2sr_jax.teachers.served.answer import OUTCOMES, Answer
from w2sr_jax.teachers.served.distributions import Vocabulary
from w2sr_jax.teachers.served.journal import Journal
from w2sr_jax.teachers.served.request import Messages, Request, cost, requests, steering

if TYPE_CHECKING:
    from w2sr_jax.teachers.settings import Served
    from w2sr_jax.text.contract import Tokenizer

JOURNAL = "answers.jsonl"
REASON = "reason "
DISTRIBUTIONS = "distributions"
MOST_REASONS = 20
SHARD = 4096


@dataclasses.dataclass(frozen=True)
class Asked:
    """The result of `ask`. Tokens and cost are those of all answers behind the traces, of earlier calls too, as far as the server
    reports them; `seconds` are those of this call. `counts`:

    traces      written; `refused`, `filtered`, `empty`: answers without a trace (see `Answer`)
    failed      requests of this call without an answer; `retries`: its attempts in vain
    kept        answers of earlier calls; `asked`: answers of this call
    unmetered   answers without token counts; `torn`: lines of the journal that could not be used
    unfinished  traces that their model did not end by itself; `unanswered`: those that hold thoughts and no answer
    reason …    answers by finish reason, as the server writes it: `reason stop`, `reason length`, …
    distributions   traces with the most probable tokens at each position, as the run's tokenizer has them; only where
                    `top_logprobs` asks for them
    """

    paths: tuple[Path, ...]
    counts: Mapping[str, int]
    prompt_tokens: int
    completion_tokens: int
    cost: float
    seconds: float

    @property
    def reasons(self) -> dict[str, int]:
        """Answers by finish reason, the most frequent first; beyond `MOST_REASONS` the others are one entry."""
        stated = {name.removeprefix(REASON): count for name, count in self.counts.items() if name.startswith(REASON)}
        every = sorted(stated.items(), key=lambda one: (-one[1], one[0]))
        rest = sum(count for _, count in every[MOST_REASONS:])
        return dict(every[:MOST_REASONS]) | ({"other reasons": rest} if rest else {})

    @property
    def unknown(self) -> dict[str, int]:
        """Those of `reasons` that `finish_reasons` does not know; their traces count as not finished."""
        return {name: count for name, count in self.reasons.items() if finish_reasons.meaning(name) == "unknown"}


def ask(
    directory: Path,
    settings: Served,
    problems: Sequence[Problem],
    grader: Grader,
    seed: int,
    messages: Messages | None = None,
    journal: Path | None = None,
    shard: int = SHARD,
    on_progress: run.Progress | None = None,
    stop: Callable[[], bool] | None = None,
    tokenizer: Tokenizer | None = None,
) -> Asked:
    """Write `settings.samples` graded traces per problem to DIRECTORY/traces-00000.parquet, …, about `shard` to a file.

    `messages` replaces what the settings put around a question (few-shot examples, for instance). `journal` is
    DIRECTORY/answers.jsonl by default; several directories may share one. `stop` is polled: once it is true, the work ends with
    `Stopped`. `tokenizer` is the run's, for `settings.top_logprobs`. `UserError` where the server refuses, too many requests fail
    or the cost would pass its limit. All answers that arrived are in the journal in any case.
    """
    started = time.monotonic()
    directory, problems = Path(directory), list({problem.id: problem for problem in problems}.values())
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("traces-*.parquet"):
        stale.unlink()
    path = journal or directory / JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)

    def plan() -> Iterator[Request]:
        return requests(settings, problems, seed, messages)

    with lock.locked(path.parent), Journal(path) as entries:
        done = run.run(settings, plan, entries, seed, on_progress, stop)
        counts: Counter[str] = Counter(dict.fromkeys(("traces", *OUTCOMES[1:], "unmetered", "unfinished", "unanswered"), 0))
        counts.update(done, torn=entries.torn)
        counts.update({DISTRIBUTIONS: 0} if settings.top_logprobs else {})
        vocabulary = Vocabulary(tokenizer) if tokenizer is not None and settings.top_logprobs else None
        usage: Counter[str] = Counter()
        paths: list[Path] = []
        every, each = plan(), max(1, shard // settings.samples) * settings.samples
        while part := list(islice(every, each)):
            paths.append(directory / f"traces-{len(paths):05d}.parquet")
            traces = _traces(settings, part, entries, grader, vocabulary, counts, usage)
            records.write(paths[-1], Trace, traces, top=settings.top_logprobs > 0)
    if problems and not counts["traces"]:
        left = ", ".join(f"{counts[name]:,} {name}" for name in ("empty", "refused", "filtered", "failed") if counts[name])
        more = "; with max_tokens larger, a model that thinks first may come to its answer" if counts["empty"] else ""
        raise UserError(f"teacher {settings.name!r}: no answer of {settings.url} holds a trace ({left}){more}")
    spent = cost(settings, usage["prompt"], usage["completion"])
    return Asked(tuple(paths), dict(counts), usage["prompt"], usage["completion"], spent, time.monotonic() - started)


def _traces(
    settings: Served,
    part: Sequence[Request],
    journal: Journal,
    grader: Grader,
    vocabulary: Vocabulary | None,
    counts: Counter[str],
    usage: Counter[str],
) -> list[Trace]:
    """The graded traces of some requests; adds to both counters."""
    answered: list[tuple[Request, Answer]] = []
    for request in part:
        entry = journal.get(request.key)
        if entry is None:
            continue
        answer = _ended(entry[1])
        usage.update(prompt=answer.prompt_tokens or 0, completion=answer.completion_tokens or 0)
        if answer.outcome == "answered":
            answered.append((request, answer))
            counts["unfinished"] += answer.finish == "length"
            counts["unanswered"] += thoughts.unanswered(answer.text)
        else:
            counts[answer.outcome] += 1
        counts["unmetered"] += answer.prompt_tokens is None or answer.completion_tokens is None
        if answer.reason is not None:
            counts[f"{REASON}{answer.reason or finish_reasons.UNSTATED}"] += 1
    counts["traces"] += len(answered)
    verdicts = grade_all(grader, [answer.text for _, answer in answered], [request.problem for request, _ in answered])
    traces = []
    for (request, answer), verdict in zip(answered, verdicts, strict=True):
        trace = _trace(settings, request, answer).graded(verdict)
        drawn = vocabulary.drawn(answer.top, answer.text) if vocabulary is not None and answer.top else None
        if drawn is not None:
            trace = dataclasses.replace(trace, token_ids=drawn.ids, logprobs=drawn.logprobs, top=drawn.top)
            counts[DISTRIBUTIONS] += 1
        traces.append(trace)
    return traces


def _ended(answer: Answer) -> Answer:
    """The answer, unfinished where it holds nothing but thoughts: older journals say of such answers that they are finished."""
    return answer._replace(finish="length") if thoughts.unanswered(answer.text) else answer


def _trace(settings: Served, request: Request, answer: Answer) -> Trace:
    return Trace(
        id=Trace.identity(request.problem.id, settings.name, request.sample, answer.text),
        problem_id=request.problem.id,
        teacher=settings.name,
        sample=request.sample,
        text=answer.text,
        answer=None,
        verdict="ungraded",
        finish=answer.finish,
        tokens=answer.completion_tokens or 0,
        mean_logprob=answer.mean_logprob,
        provenance=files.digest_json([answer.model, steering(settings)]),
    )
