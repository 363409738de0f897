"""Dispositions: every trace given to an arm has one, they are what the funnel counts, and they survive the disk."""

import dataclasses
import itertools
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_traces import PROBLEMS, mixed, trace

from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.curation.arms import BUILT_IN
from w2sr_jax.curation.dispositions import KEPT, Disposition
from w2sr_jax.curation.select import curate
from w2sr_jax.curation.settings import Curation


@given(st.integers(0, 999), st.sampled_from(sorted(BUILT_IN)), st.integers(1, 3), st.integers(0, 20))
def test_dispositions_are_what_the_funnel_counts(seed: int, arm: str, per_problem: int, limit: int) -> None:
    rng = random.Random(seed)
    traces = [dataclasses.replace(t, finish=rng.choice(["stop", "stop", "length"])) for t in mixed(seed)]
    examples, funnel, dispositions = curate(traces, PROBLEMS[:-2], arm, Curation(per_problem=per_problem, limit=limit, seed=seed))
    assert Counter(row.trace_id for row in dispositions) == Counter(t.id for t in traces)
    assert {row.trace_id for row in dispositions if row.reason == KEPT} == {example.trace_id for example in examples}
    assert Counter(row.reason for row in dispositions if row.reason != KEPT) == funnel.rejections
    owner = {t.id: t.problem_id for t in traces}
    assert all(row.problem_id == owner[row.trace_id] and row.arm == arm for row in dispositions)
    rng.shuffle(traces)
    assert (
        curate(traces, PROBLEMS[:-2], arm, Curation(per_problem=per_problem, limit=limit, seed=seed)).dispositions == dispositions
    )


def test_a_disposition_names_the_step_that_dropped_the_trace() -> None:
    problem = PROBLEMS[0]
    traces = {
        "finished": trace(problem, 0, "correct", finish="length"),
        "within the length limits": trace(problem, 1, "correct", text="x" * 99),
        "arm W2SR-P": trace(problem, 2, "incorrect"),
        "of these problems and teachers": trace(problem, 3, "correct", text=" "),
        "drawn per problem": trace(problem, 4, "correct"),
    }
    _, funnel, dispositions = curate(list(traces.values()), [problem], "correct", Curation(max_characters=50))
    by_trace = {row.trace_id: row for row in dispositions}
    assert {step: by_trace[t.id].step for step, t in traces.items()} == {step: step for step in traces}
    reasons = [by_trace[t.id].reason for t in traces.values()]
    assert reasons == ["unfinished", "over_characters", "incorrect", "empty", KEPT]
    left = {step.name: step.count for step in funnel.steps}
    dropped = Counter(row.step for row in dispositions if row.reason != KEPT)
    names = [step.name for step in funnel.steps]
    assert all(left[a] - left[b] == dropped[b] for a, b in itertools.pairwise(names))


def test_dispositions_are_read_as_they_were_written(tmp_path: Path) -> None:
    dispositions = curate(mixed(), PROBLEMS, "correct", Curation()).dispositions
    records.write(tmp_path / "dispositions.parquet", Disposition, dispositions)
    assert records.read(tmp_path / "dispositions.parquet", Disposition) == dispositions
    with pytest.raises(UserError, match="is not a table of Trace rows"):
        records.read(tmp_path / "dispositions.parquet", records.Trace)
