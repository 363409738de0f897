"""Fates: every trace given to an arm has one, they are what the funnel counts, and they survive the disk."""

import dataclasses
import itertools
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_select import PROBLEMS, mixed, trace
from w2sr_jax.curation.fates import KEPT, Fate

from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.curation.select import curate
from w2sr_jax.curation.settings import ARMS, Arm, Curation


@given(st.integers(0, 999), st.sampled_from(ARMS), st.integers(1, 3), st.integers(0, 20))
def test_fates_are_what_the_funnel_counts(seed: int, arm: Arm, per_problem: int, limit: int) -> None:
    rng = random.Random(seed)
    traces = [dataclasses.replace(t, finish=rng.choice(["stop", "stop", "length"])) for t in mixed(seed)]
    examples, funnel, fates = curate(traces, PROBLEMS[:-2], arm, Curation(per_problem=per_problem, limit=limit, seed=seed))
    assert Counter(fate.trace_id for fate in fates) == Counter(t.id for t in traces)
    assert {fate.trace_id for fate in fates if fate.reason == KEPT} == {example.trace_id for example in examples}
    assert Counter(fate.reason for fate in fates if fate.reason != KEPT) == funnel.rejections
    owner = {t.id: t.problem_id for t in traces}
    assert all(fate.problem_id == owner[fate.trace_id] and fate.arm == arm for fate in fates)
    rng.shuffle(traces)
    assert curate(traces, PROBLEMS[:-2], arm, Curation(per_problem=per_problem, limit=limit, seed=seed)).fates == fates


def test_a_fate_names_the_step_that_dropped_the_trace() -> None:
    problem = PROBLEMS[0]
    traces = {
        "finished": trace(problem, 0, "correct", finish="length"),
        "within the length limits": trace(problem, 1, "correct", text="x" * 99),
        "arm W2SR-P": trace(problem, 2, "incorrect"),
        "of these problems and teachers": trace(problem, 3, "correct", text=" "),
        "drawn per problem": trace(problem, 4, "correct"),
    }
    _, funnel, fates = curate(list(traces.values()), [problem], "correct", Curation(max_characters=50))
    by_trace = {fate.trace_id: fate for fate in fates}
    assert {step: by_trace[t.id].step for step, t in traces.items()} == {step: step for step in traces}
    reasons = [by_trace[t.id].reason for t in traces.values()]
    assert reasons == ["unfinished", "over_characters", "incorrect", "empty", KEPT]
    left = {step.name: step.count for step in funnel.steps}
    dropped = Counter(fate.step for fate in fates if fate.reason != KEPT)
    names = [step.name for step in funnel.steps]
    assert all(left[a] - left[b] == dropped[b] for a, b in itertools.pairwise(names))


def test_fates_are_read_as_they_were_written(tmp_path: Path) -> None:
    fates = curate(mixed(), PROBLEMS, "correct", Curation()).fates
    records.write(tmp_path / "fates.parquet", Fate, fates)
    assert records.read(tmp_path / "fates.parquet", Fate) == fates
    with pytest.raises(UserError, match="is not a table of Trace rows"):
        records.read(tmp_path / "fates.parquet", records.Trace)
