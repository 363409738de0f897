"""What a drawn trace depends on and what it records."""

import dataclasses

import pytest
from sampling_toy import DECODING, PROBLEMS, SAMPLES, CountingGrader, make_author

from w2sr_jax.core.records import Trace
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import Author, continued, draw


@pytest.fixture(scope="module")
def author() -> Author:
    return make_author()


@pytest.fixture(scope="module")
def drawn(author: Author) -> list[Trace]:
    return draw(author, PROBLEMS, SAMPLES, DECODING, CountingGrader())


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


@pytest.mark.parametrize("batch", [1, 4])
def test_a_trace_ends_before_its_stop_string(author: Author, batch: int) -> None:
    plain = draw(author, PROBLEMS, 1, dataclasses.replace(DECODING, max_tokens=40), CountingGrader())
    word = next(word for trace in plain for word in trace.text.split()[3:6])
    decoding = dataclasses.replace(DECODING, max_tokens=40, batch=batch, stop=(word, "never written"))
    ended = 0
    for before, trace in zip(plain, draw(author, PROBLEMS, 1, decoding, CountingGrader()), strict=True):
        assert trace.text == before.text.split(word)[0]
        assert trace.token_ids == before.token_ids[: trace.tokens]
        assert len(trace.logprobs) == trace.tokens
        if word in before.text:
            ended += 1
            assert trace.finish == "stop"
            assert trace.id != before.id
            assert word in author.renderer.decode(trace.token_ids)
            assert word not in author.renderer.decode(trace.token_ids[:-1])
        else:
            assert (trace.id, trace.token_ids, trace.finish) == (before.id, before.token_ids, before.finish)
    assert ended


def test_a_continued_chain_keeps_a_stop_string_that_it_began_with(author: Author) -> None:
    sampled, begun, word = Decoding(max_tokens=20, batch=4), "1 4", "1"
    stopping = dataclasses.replace(sampled, stop=(word,))
    whole = continued(author, PROBLEMS, [begun] * len(PROBLEMS), sampled, CountingGrader())
    cut = continued(author, PROBLEMS, [begun] * len(PROBLEMS), stopping, CountingGrader())
    pairs = [(one.text, other.text) for one, other in zip(whole, cut) if one and other]
    assert [text for _, text in pairs] == [begun + text.removeprefix(begun).split(word)[0] for text, _ in pairs]
    assert 0 < sum(before != after for before, after in pairs) < len(pairs)
