"""Curation of a rung: every arm's examples, the gold examples, and the funnels that say what became of every trace."""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from w2sr_jax.answers.same import Equality
from w2sr_jax.core import codec, records
from w2sr_jax.core.errors import NothingToTrain
from w2sr_jax.core.records import Example, Problem, Trace
from w2sr_jax.curation.candidates import candidates
from w2sr_jax.curation.fates import Fate
from w2sr_jax.curation.select import Selector, examples
from w2sr_jax.experiment import GOLD
from w2sr_jax.graph.stage import Context, Made
from w2sr_jax.problems.splits import Known
from w2sr_jax.stages import examples as batching
from w2sr_jax.stages import models, problems
from w2sr_jax.stages import traces as teach

FATES = "fates.parquet"


def curate_rung(context: Context, index: int) -> Made:
    """Write ARM/curated.parquet and ARM/fates.parquet (what became of every trace) for each arm, and curation.json.

    An arm for which nothing is left gets no examples, and the measure `emptied` says why. `NothingToTrain` where the rung has
    nothing else.
    """
    experiment = context.experiment
    rung = experiment.rungs[index]
    directory = context.run / models.rung_directory(experiment, index)
    pool = problems.pool(context.run, rung.pool)
    forbidden = [*problems.read(context.run, problems.TEST), *problems.read(context.run, problems.PROBE)]
    weights = {teacher.name: teacher.weight for teacher in experiment.teachers if teacher.name in rung.teachers}
    known = Known(forbidden, rung.curation.copies) if forbidden else None
    with Equality() as equality:
        selectors = {arm: Selector(arm, rung.curation, known, weights, equality) for arm in rung.arms}
        given = _sift(context, index, pool, {directory / arm / FATES: selector for arm, selector in selectors.items()})
    outputs, funnels = [], {}
    kept: dict[str, int] = {}
    emptied: dict[str, str] = {}
    for arm, selector in selectors.items():
        selection, fates, path = selector.selection(), directory / arm / FATES, directory / arm / batching.CURATED
        if selection.chosen is not None:
            records.write(fates, Fate, map(selection.fate, records.iterate(fates, Fate)))
        groups = teach.by_problem(context, index, pool)
        records.write(path, Example, examples(selector, selection, groups, records.iterate(fates, Fate)))
        outputs += [path, fates]
        funnels[arm], kept[arm] = selection.funnel, selection.funnel.kept
        if selection.emptied:
            emptied[arm] = selection.emptied
    if rung.gold:
        path = directory / GOLD / batching.CURATED
        records.write(path, Example, batching.gold(pool))
        outputs.append(path)
        kept[GOLD] = len(records.Stored(path, Example))
        if not kept[GOLD]:
            emptied[GOLD] = f"none of the {len(pool):,} problems has a worked solution to learn from"
    if len(emptied) == len(kept):
        why = "; ".join(dict.fromkeys(emptied.values()))
        raise NothingToTrain(f"rung {index} ({rung.name}) has nothing to train on: {why}")
    codec.write(directory / "curation.json", funnels)
    return Made(
        [*outputs, directory / "curation.json"],
        {},
        {"traces": given, "kept": kept} | ({"emptied": emptied} if emptied else {}),
        f"{given:,} traces; kept " + ", ".join(f"{arm} {count:,}" for arm, count in kept.items()),
    )


def _sift(context: Context, index: int, pool: Iterable[Problem], selectors: Mapping[Path, Selector]) -> int:
    """Show each selector all traces, and write down what becomes of them; how many traces there are."""
    renderer = problems.renderer(context.run)

    def tokens(trace: Trace) -> int:
        return trace.tokens or len(renderer.tokenizer.encode([trace.text])[0]) + 1

    given = 0
    with contextlib.ExitStack() as stack:
        tell = {path: stack.enter_context(records.writing(path, Fate)) for path in selectors}
        for problem, traces in teach.by_problem(context, index, pool, without=teach.DRAWN):
            group = list(candidates(traces, tokens))
            given += len(group)
            for path, selector in selectors.items():
                tell[path](selector.add(problem, group))
    return given
