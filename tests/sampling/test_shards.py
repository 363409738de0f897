"""Which shards an interrupted run draws again, and how many a budget allows."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
from sampling_toy import DECODING, PROBLEMS, SAMPLES, CountingGrader, make_author

from w2sr_jax.core import records
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.sampling.estimate import Estimate
from w2sr_jax.sampling.shards import draw_shards
from w2sr_jax.sampling.traces import Author, draw


@pytest.fixture(scope="module")
def author() -> Author:
    return make_author()


@pytest.fixture(scope="module")
def drawn(author: Author) -> list[Trace]:
    return draw(author, PROBLEMS, SAMPLES, DECODING, CountingGrader())


def shards(directory: Path, author: Author, identity: str, size: int, problems: Sequence[Problem] = PROBLEMS) -> list[str]:
    """Draws what is missing; the ids of the problems that were graded."""
    grader = CountingGrader()
    paths = draw_shards(directory, author, problems, SAMPLES, DECODING, grader, identity, size).paths
    assert sorted(directory.glob("*.parquet")) == paths
    return grader.asked


def stored(directory: Path) -> list[Trace]:
    return [trace for path in sorted(directory.glob("*.parquet")) for trace in records.read(path, Trace)]


def test_shards_of_any_size_hold_the_same_traces(tmp_path: Path, author: Author, drawn: list[Trace]) -> None:
    shards(tmp_path / "small", author, "a", 5)
    shards(tmp_path / "large", author, "a", 100)
    assert [len(list((tmp_path / name).glob("*.parquet"))) for name in ("small", "large")] == [4, 1]
    assert stored(tmp_path / "small") == stored(tmp_path / "large")
    assert [(trace.id, trace.token_ids) for trace in stored(tmp_path / "small")] == [(t.id, t.token_ids) for t in drawn]


def test_only_missing_shards_are_drawn_again_and_to_the_same_bytes(tmp_path: Path, author: Author) -> None:
    assert len(shards(tmp_path, author, "a", 4)) == SAMPLES * len(PROBLEMS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "traces-00001.parquet").unlink()
    assert shards(tmp_path, author, "a", 4) == [problem.id for problem in PROBLEMS[2:4] for _ in range(SAMPLES)]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert shards(tmp_path, author, "a", 4) == []


def test_a_damaged_shard_is_named_and_drawn_again_to_the_same_bytes(
    tmp_path: Path, author: Author, caplog: pytest.LogCaptureFixture
) -> None:
    shards(tmp_path, author, "a", 4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    damaged = tmp_path / "traces-00002.parquet"
    middle = len(before[damaged.name]) // 2
    damaged.write_bytes(before[damaged.name][:middle] + b"?" + before[damaged.name][middle + 1 :])
    assert shards(tmp_path, author, "a", 4) == [problem.id for problem in PROBLEMS[4:6] for _ in range(SAMPLES)]
    assert str(damaged) in caplog.text
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_shard_that_was_not_entered_as_finished_is_drawn_again(tmp_path: Path, author: Author) -> None:
    shards(tmp_path, author, "a", 4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    marker = tmp_path / "sampling.json"
    for text in (marker.read_text().replace("traces-00001", "traces-99999"), "{", "[]", '{"identity": "a"}'):
        marker.write_text(text)
        shards(tmp_path, author, "a", 4)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_identity_keeps_nothing(tmp_path: Path, author: Author) -> None:
    shards(tmp_path, author, "a", 4)
    assert len(shards(tmp_path, author, "b", 4, PROBLEMS[:3])) == SAMPLES * 3
    assert {trace.problem_id for trace in stored(tmp_path)} == {problem.id for problem in PROBLEMS[:3]}


def test_progress_runs_to_all_traces_over_all_shards(tmp_path: Path, author: Author) -> None:
    seen: list[tuple[int, int]] = []
    grader = CountingGrader()
    draw_shards(
        tmp_path, author, PROBLEMS, SAMPLES, DECODING, grader, "a", 4, on_progress=lambda n, total, _: seen.append((n, total))
    )
    assert seen == sorted(seen)
    assert seen[-1] == (SAMPLES * len(PROBLEMS),) * 2


def test_a_budget_is_exceeded_by_less_than_a_shard_and_what_is_left_out_is_counted(
    tmp_path: Path, author: Author, drawn: list[Trace]
) -> None:
    small = dataclasses.replace(DECODING, batch=2)
    tokens = [drawn[row].tokens + drawn[row + 1].tokens for row in range(0, len(drawn), SAMPLES)]
    for budget, count in ((tokens[0] + tokens[1], 2), (tokens[0] + tokens[1] + 1, 3), (1, 1), (10**9, 7)):
        where = tmp_path / str(budget)
        found = draw_shards(where, author, PROBLEMS, SAMPLES, small, CountingGrader(), "a", 2, budget=budget)
        assert (found.tokens, found.left_out) == (sum(tokens[:count]), SAMPLES * (len(PROBLEMS) - count))
        assert [trace.token_ids for trace in stored(where)] == [trace.token_ids for trace in drawn[: SAMPLES * count]]
        assert sorted(where.glob("*.parquet")) == found.paths


def test_a_small_budget_makes_small_shards(tmp_path: Path, author: Author) -> None:
    small = dataclasses.replace(DECODING, batch=2)
    found = draw_shards(tmp_path, author, PROBLEMS, SAMPLES, small, CountingGrader(), "a", budget=20)
    assert found.left_out > 0
    assert 20 <= found.tokens < 20 + small.batch * small.max_tokens


def test_an_interrupted_budget_is_used_up_the_same_way(tmp_path: Path, author: Author) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(done: int, total: int, words: str) -> None:
        if done > 4:
            raise Interrupted

    small, halves = dataclasses.replace(DECODING, batch=2), tmp_path / "halves"
    whole = draw_shards(tmp_path / "whole", author, PROBLEMS, SAMPLES, small, CountingGrader(), "a", 2, budget=35)
    assert 3 <= len(whole.paths) < len(PROBLEMS)
    with pytest.raises(Interrupted):
        draw_shards(
            tmp_path / "halves", author, PROBLEMS, SAMPLES, small, CountingGrader(), "a", 2, budget=35, on_progress=interrupt
        )
    again = CountingGrader()
    resumed = draw_shards(halves, author, PROBLEMS, SAMPLES, small, again, "a", 2, budget=35)
    assert again.asked[0] == PROBLEMS[2].id
    assert resumed[1:] == whole[1:]
    assert {path.name: path.read_bytes() for path in halves.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()
    }


def test_shards_of_another_size_are_not_taken_for_these(tmp_path: Path, author: Author) -> None:
    shards(tmp_path, author, "a", 4)
    assert len(shards(tmp_path, author, "a", 6)) == SAMPLES * len(PROBLEMS)
    assert len({(trace.problem_id, trace.sample) for trace in stored(tmp_path)}) == len(stored(tmp_path)) == 14


def test_what_several_processes_entered_before_is_taken_over(tmp_path: Path, author: Author) -> None:
    shards(tmp_path, author, "a", 4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    marker = tmp_path / "sampling.json"
    marker.rename(tmp_path / "sampling-1.json")
    assert shards(tmp_path, author, "a", 4) == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_estimates_begin_without_a_rate_and_end_with_nothing_left(tmp_path: Path, author: Author) -> None:
    told: list[tuple[Estimate, float | None]] = []
    draw_shards(
        tmp_path, author, PROBLEMS, SAMPLES, DECODING, CountingGrader(), "a", 4, on_estimate=lambda *both: told.append(both)
    )
    assert [estimate.requests for estimate, _ in told] == [14, 10, 6, 2, 0]
    assert told[0][1] is None
    assert told[0][0].expected_tokens is None
    assert told[0][0].most_tokens == 14 * DECODING.max_tokens
    assert all(rate is not None and rate > 0 and estimate.expected_tokens is not None for estimate, rate in told[1:])
