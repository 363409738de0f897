"""Curation of a rung from its files is what in-memory curation makes of the same traces, also where all must be known first."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made import finish
from written_traces import PROBLEMS, mixed, trace

from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example, Problem, Trace
from w2sr_jax.curation.arms import BUILT_IN
from w2sr_jax.curation.dispositions import Disposition
from w2sr_jax.curation.select import curate
from w2sr_jax.curation.settings import Curation
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
from w2sr_jax.graph.stage import Context, StageResult
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.stages.plan import stages
from w2sr_jax.text import tokenizer
from w2sr_jax.text.settings import WordTokenizer

ARMS = tuple(BUILT_IN)
POOL, WEIGHTS = PROBLEMS[:20], {"weak": 1.0, "other": 3.0}


def run(folder: Path, settings: Curation, written: dict[str, list[Trace]]) -> StageResult:
    """The curation of a run with traces in several files, for a rung that has the pool's second half."""
    for split, rows in (("pool", POOL), ("test", PROBLEMS[20:25]), ("probe", PROBLEMS[25:])):
        records.write(folder / "problems" / f"{split}.parquet", Problem, rows)
    for teacher, traces in written.items():
        for shard, start in enumerate(range(0, len(traces), 7)):
            path = folder / "teachers" / teacher / "rung-0" / f"traces-{shard:05d}.parquet"
            records.write(path, Trace, traces[start : start + 7])
    tokenizer.build(WordTokenizer(), [problem.question for problem in POOL]).save(folder / "tokenizer")
    finish(folder)
    rung = Rung("small", ModelConfig(), teachers=tuple(written), pool=(0.5, 1.0), curation=settings, arms=ARMS)
    teachers = tuple(ModelTeacher(name, weight=WEIGHTS[name]) for name in written)
    return stages(Experiment("x", (rung,), teachers)).curations[0].run(Context(RunStore(folder)))


def two_teachers() -> dict[str, list[Trace]]:
    verdicts = np.random.default_rng(0).choice(["correct", "incorrect", "unparsed"], (len(PROBLEMS), 3))
    other = [trace(problem, n, str(v), "other") for problem, row in zip(PROBLEMS, verdicts) for n, v in enumerate(row)]
    return {"weak": mixed(), "other": other}


@pytest.mark.parametrize("limit", [0, 6])
@pytest.mark.parametrize("weighting", ["mix", "loss"])
def test_a_rung_is_curated_as_its_traces_in_memory(tmp_path: Path, limit: int, weighting: Any) -> None:
    written = two_teachers()
    settings = Curation(per_problem=2, limit=limit, weighting=weighting, majority_threshold=0.2)
    made = run(tmp_path, settings, written)
    ours = {problem.id for problem in POOL[10:]}
    traces = [one for rows in written.values() for one in rows if one.problem_id in ours]
    assert made.measures["traces"] == len(traces)
    for arm in ARMS:
        examples, funnel, dispositions = curate(traces, POOL[10:], arm, settings, PROBLEMS[20:], weights=WEIGHTS)
        folder = tmp_path / "rungs" / "0-small" / arm
        stored = records.read(folder / "curated.parquet", Example)
        assert [example.trace_id for example in stored] == [example.trace_id for example in examples]
        np.testing.assert_array_equal([e.weight for e in stored], np.float32([e.weight for e in examples]))
        assert records.read(folder / "dispositions.parquet", Disposition) == dispositions
        assert made.measures["kept"][arm] == funnel.kept == len(stored)
    assert made.measures["kept"]["gold"] == 0  # these problems have no worked solutions


def test_traces_in_another_order_than_their_problems_are_refused(tmp_path: Path) -> None:
    written = two_teachers()
    with pytest.raises(UserError, match=r"traces-0000\d.parquet does not hold its traces in the order of the problems"):
        run(tmp_path, Curation(), {"weak": written["weak"][::-1]})
    assert not list(tmp_path.glob("rungs/**/*.parquet"))
