"""What a drawn trace depends on, what it records, and which shards an interrupted run draws again."""

from collections.abc import Sequence
from pathlib import Path

import jax
import pytest

from w2sr_jax import records
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.records import Problem, Trace, Verdict
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import Author, continued, draw, draw_shards
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.text.tokenizer import build

PROBLEMS = [Problem.of(f"Bob has {n} and finds {n + 1} . How many ?", str(2 * n + 1)) for n in range(7)]
DECODING = Decoding(max_tokens=5, batch=4)
SAMPLES = 2


class CountingGrader:
    """Calls a trace correct where its text has the letter a; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, text: str, problem: Problem) -> Verdict:
        self.asked.append(problem.id)
        return Verdict("correct" if "a" in text else "incorrect", problem.answer, "letters", "counting")


@pytest.fixture(scope="module")
def author() -> Author:
    renderer = Renderer(build(WordTokenizer(largest=15), [problem.question for problem in PROBLEMS]))
    config = ModelConfig(vocab_size=renderer.vocab_size, width=8, layers=1, heads=2, kv_heads=2, mlp=16)
    return Author("weak", config, transformer.init(config, jax.random.key(0)), renderer, seed=3, provenance="digest")


@pytest.fixture(scope="module")
def drawn(author: Author) -> list[Trace]:
    return draw(author, PROBLEMS, SAMPLES, DECODING, CountingGrader())


def shards(directory: Path, author: Author, identity: str, size: int, problems: Sequence[Problem] = PROBLEMS) -> list[str]:
    """Draws what is missing; the ids of the problems that were graded."""
    grader = CountingGrader()
    paths = draw_shards(directory, author, problems, SAMPLES, DECODING, grader, identity, size)
    assert sorted(directory.glob("*.parquet")) == paths
    return grader.asked


def stored(directory: Path) -> list[Trace]:
    return [trace for path in sorted(directory.glob("*.parquet")) for trace in records.read(path, Trace)]


def test_a_trace_does_not_depend_on_what_else_is_asked(author: Author, drawn: list[Trace]) -> None:
    assert [(trace.problem_id, trace.sample) for trace in drawn] == [(p.id, s) for p in PROBLEMS for s in range(SAMPLES)]
    assert len({trace.text for trace in drawn}) > len(PROBLEMS)
    known = {(trace.problem_id, trace.sample): trace for trace in drawn}
    for trace in draw(author, PROBLEMS[5:2:-1], 3, DECODING, CountingGrader()):
        assert trace.sample == 2 or trace == known[trace.problem_id, trace.sample]


def test_a_trace_records_its_grading_and_how_it_was_drawn(author: Author, drawn: list[Trace]) -> None:
    answers = {problem.id: problem.answer for problem in PROBLEMS}
    for trace in drawn:
        assert trace.verdict == ("correct" if "a" in trace.text else "incorrect")
        assert (trace.answer, trace.rule, trace.grader) == (answers[trace.problem_id], "letters", "counting")
        assert (trace.teacher, trace.provenance) == ("weak", "digest")
        assert trace.text == author.renderer.decode(trace.token_ids)
        assert trace.tokens == len(trace.token_ids) == len(trace.logprobs) > 0
        assert trace.mean_logprob == pytest.approx(sum(trace.logprobs) / trace.tokens)
        assert (trace.finish == "stop") is (trace.token_ids[-1] in author.renderer.end_tokens)


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


def test_a_chain_goes_on_as_it_was_drawn_where_nothing_was_changed(author: Author) -> None:
    greedy = Decoding(temperature=0.0, max_tokens=5, batch=4)
    for problem, trace in zip(PROBLEMS, draw(author, PROBLEMS, 1, greedy, CountingGrader()), strict=True):
        head = " ".join(trace.text.split()[:2])
        if author.renderer.tokenizer.encode([head])[0] != list(trace.token_ids[:2]):
            continue  # text that other tokens spell too
        (again,) = continued(author, [problem], [head], greedy, CountingGrader())
        assert again is not None
        assert again.text.startswith(trace.text)


def test_a_chain_with_a_word_that_the_tokenizer_does_not_know_is_left_out(author: Author) -> None:
    greedy = Decoding(temperature=0.0, max_tokens=5, batch=4)
    found = continued(author, PROBLEMS[:1] * 3, ["1 2", "unheard of", "1"], greedy, CountingGrader())
    assert [trace is None for trace in found] == [False, True, False]
    assert [trace.sample for trace in found if trace] == [0, 1]
    assert all(trace.text.startswith(head) for trace, head in zip(found, ["1 2", "", "1"]) if trace)


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
