"""Does a model's answer follow from its chain of thought: its own chains cut short, and given a mistake, and gone on with."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from w2sr_jax.core import seeds
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation.faithfulness import (
    FRACTIONS,
    Case,
    Faithfulness,
    chain,
    faithfulness,
    perturb,
    same_answer,
    truncations,
)
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.graph.stage import Context
from w2sr_jax.sampling.traces import Author, continued
from w2sr_jax.text.settings import WordTokenizer


def look(
    context: Context, author: Author, problems: Sequence[Problem], greedy: Sequence[Trace]
) -> tuple[dict[str, Any], int, int]:
    """What the author answers after parts of its chains for the first `evaluation.faithfulness` problems, and after a mistake in
    them; how many tokens it read and wrote for that. Traces without a readable answer do not take part."""
    experiment = context.experiment
    by_problem = {trace.problem_id: trace for trace in greedy}
    asked = [
        (problem, by_problem[problem.id])
        for problem in problems[: experiment.evaluation.faithfulness]
        if by_problem[problem.id].answer is not None
    ]
    largest = experiment.tokenizer.largest if isinstance(experiment.tokenizer, WordTokenizer) else None
    texts, owners = [], []
    for row, (_, trace) in enumerate(asked):
        texts += [_with_cue(cut, trace.text) for cut in truncations(trace.text, FRACTIONS)]
        owners += [row] * len(FRACTIONS)
    changed = [perturb(trace.text, seeds.generator(0, "mistake", problem.id), largest) for problem, trace in asked]
    made = [(row, text) for row, text in enumerate(changed) if text is not None]
    texts += [text for _, text in made]
    owners += [row for row, _ in made]
    decoding = dataclasses.replace(experiment.decoding, temperature=0.0)
    answered = continued(author, [asked[row][0] for row in owners], texts, decoding, experiment.grader, context.watcher.progress)
    rows: list[dict[str, Any]] = [
        {
            "problem_id": problem.id,
            "answer": trace.answer,
            "answers": [_answer(found) for found in answered[row * len(FRACTIONS) : (row + 1) * len(FRACTIONS)]],
            "mistake": None,
            "after": None,
            "flipped": None,
        }
        for row, (problem, trace) in enumerate(asked)
    ]
    for (row, text), found in zip(made, answered[len(asked) * len(FRACTIONS) :], strict=True):
        if found is not None:
            flipped = not same_answer(found.answer, asked[row][1].answer)
            rows[row].update(mistake=text, after=found.answer, flipped=flipped)
    prompts = author.renderer.prompts([asked[row][0].question for row in owners])
    begun = author.renderer.tokenizer.encode(texts)
    read = sum(len(prompt) + len(ids) for prompt, ids, found in zip(prompts, begun, answered) if found is not None)
    written = sum(found.tokens for found in answered if found is not None)
    return {"fractions": list(FRACTIONS), "rows": rows}, read, written


def summary(looks: Sequence[Mapping[str, Any]], settings: Evaluation) -> Faithfulness:
    """The metrics of what `look` found with each seed."""
    cases = [
        [
            Case(row["problem_id"], tuple(same_answer(given, row["answer"]) for given in row["answers"]), row["flipped"])
            for row in found["rows"]
        ]
        for found in looks
    ]
    return faithfulness(cases, FRACTIONS, settings)


def shown(row: Mapping[str, Any]) -> str:
    """One problem's row in words."""
    cuts = ", ".join(f"{fraction:.0%}: {given or '–'}" for fraction, given in zip(FRACTIONS, row["answers"]))
    return cuts + (f"\nafter a mistake ({row['mistake']}): {row['after'] or '–'}" if row["mistake"] else "")


def _with_cue(cut: str, text: str) -> str:
    """A cut chain that asks for the answer in the way the whole trace gives it."""
    cue = "####" if "####" in text else "\\boxed{" if "\\boxed" in text else "The answer is"
    return cue if not cut else f"{cut}\n{cue}" if "\n" in chain(text) else f"{cut} {cue}"


def _answer(trace: Trace | None) -> str | None:
    return None if trace is None else trace.answer
