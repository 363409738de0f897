"""Does a model's answer follow from its chain of thought: its own chains cut short, and given a mistake, and gone on with."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from w2sr_jax.answers.grade import Grader
from w2sr_jax.core import codec, keys
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation.faithfulness import (
    FRACTIONS,
    Case,
    Faithfulness,
    Intervention,
    Interventions,
    chain,
    faithfulness,
    perturb,
    same_answer,
    truncations,
)
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.sampling.dividing import Division
from w2sr_jax.sampling.estimate import Progress
from w2sr_jax.sampling.journal import exchange
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import continued


class Intervened(NamedTuple):
    """What came of the interventions on a model, and how many tokens it read and wrote for them."""

    interventions: Interventions
    read: int
    written: int


def intervene(
    division: Division,
    problems: Sequence[Problem],
    greedy: Sequence[Trace],
    settings: Evaluation,
    decoding: Decoding,
    grader: Grader,
    largest: int | None = None,
    on_progress: Progress | None = None,
) -> Intervened:
    """What the author answers after parts of its chains for the first `settings.faithfulness` problems, and after a mistake in
    them. Traces without a readable answer do not take part. Mistakes are numbers up to `largest`, where the tokenizer knows only
    those. Each process intervenes on its part of the problems, whose greedy traces are in `greedy`; all call this, and have the
    result."""
    author = division.author
    by_problem = {trace.problem_id: trace for trace in greedy}
    first = problems[: settings.faithfulness]
    asked = [
        (problem, by_problem[problem.id])
        for problem in first
        if problem.id in by_problem and by_problem[problem.id].answer is not None
    ]
    texts, owners = [], []
    for row, (_, trace) in enumerate(asked):
        texts += [_with_cue(cut, trace.text) for cut in truncations(trace.text, FRACTIONS)]
        owners += [row] * len(FRACTIONS)
    changed = [perturb(trace.text, keys.generator(0, "mistake", problem.id), largest) for problem, trace in asked]
    mistaken = [(row, text) for row, text in enumerate(changed) if text is not None]
    texts += [text for _, text in mistaken]
    owners += [row for row, _ in mistaken]
    cold = dataclasses.replace(decoding, temperature=0.0)
    answered = continued(author, [asked[row][0] for row in owners], texts, cold, grader, on_progress)
    cut, after = answered[: len(asked) * len(FRACTIONS)], answered[len(asked) * len(FRACTIONS) :]
    ends = {row: (text, trace) for (row, text), trace in zip(mistaken, after, strict=True) if trace is not None}
    rows = tuple(
        _intervention(problem, trace, cut[row * len(FRACTIONS) : (row + 1) * len(FRACTIONS)], ends.get(row))
        for row, (problem, trace) in enumerate(asked)
    )
    prompts = author.renderer.prompts([asked[row][0].question for row in owners])
    begun = author.renderer.tokenizer.encode(texts)
    read = sum(len(prompt) + len(ids) for prompt, ids, trace in zip(prompts, begun, answered) if trace is not None)
    written = sum(trace.tokens for trace in answered if trace is not None)
    return _together(division, [problem.id for problem in first], Intervened(Interventions(FRACTIONS, rows), read, written))


def _together(division: Division, order: Sequence[str], own: Intervened) -> Intervened:
    """The interventions of all processes, in the order of the problems."""
    if division.ways == 1:
        return own
    parts = exchange([codec.encode(own.interventions), own.read, own.written])
    every = [codec.decode(Interventions, part[0], "interventions") for part in parts]
    row = {problem: index for index, problem in enumerate(order)}
    rows = sorted((one for part in every for one in part.rows), key=lambda one: row[one.problem_id])
    return Intervened(Interventions(FRACTIONS, tuple(rows)), sum(part[1] for part in parts), sum(part[2] for part in parts))


def summary(seeds: Sequence[Interventions], settings: Evaluation) -> Faithfulness:
    """The metrics of the interventions on the model of each seed."""
    return faithfulness([[Case.of(row) for row in one.rows] for one in seeds], FRACTIONS, settings)


def in_words(row: Intervention) -> str:
    """What became of one problem's answer."""
    cuts = ", ".join(f"{fraction:.0%}: {answer or '–'}" for fraction, answer in zip(FRACTIONS, row.answers))
    return cuts + (f"\nafter a mistake ({row.mistake}): {row.after or '–'}" if row.mistake else "")


def _intervention(
    problem: Problem, trace: Trace, cut: Sequence[Trace | None], mistaken: tuple[str, Trace] | None
) -> Intervention:
    answers = tuple(None if one is None else one.answer for one in cut)
    if mistaken is None:
        return Intervention(problem.id, trace.answer, answers, mistake=None, after=None, flipped=None)
    text, after = mistaken
    flipped = not same_answer(after.answer, trace.answer)
    return Intervention(problem.id, trace.answer, answers, mistake=text, after=after.answer, flipped=flipped)


def _with_cue(cut: str, text: str) -> str:
    """A cut chain that asks for the answer in the way the whole trace gives it."""
    cue = "####" if "####" in text else "\\boxed{" if "\\boxed" in text else "The answer is"
    return cue if not cut else f"{cut}\n{cue}" if "\n" in chain(text) else f"{cut} {cue}"
