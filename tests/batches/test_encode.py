"""Examples as arrays: nothing cut, the teacher's log-probabilities where they belong."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from w2sr_jax.batches.batch import Batches
from w2sr_jax.batches.encode import encode
from w2sr_jax.batches.packing import pack
from w2sr_jax.batches.settings import Batching
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example
from w2sr_jax.core.topk import TopK
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.settings import Recorded
from w2sr_jax.text import tokenizer
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.settings import BpeTokenizer, WordTokenizer

QUESTION, RESPONSE = "Fay has 2 more . How many ?", "3 + 2 = 5 #### 5"
RENDERER = Renderer(tokenizer.build(WordTokenizer(), [QUESTION, RESPONSE]))
EXAMPLE = Example("e1", "p1", "t1", "weak", QUESTION, RESPONSE, "reason", "correct", 1.0)
IMITATED = [*RENDERER.tokenizer.encode([RESPONSE])[0], RENDERER.end_tokens[0]]


def test_over_length_examples_are_counted_and_never_cut() -> None:
    fits = len(RENDERER.encode(QUESTION, RESPONSE).tokens) - 1
    longer = dataclasses.replace(EXAMPLE, id="e2", response=f"3 + 2 = 5 {RESPONSE}")
    encoded, rejected = encode([EXAMPLE, longer], RENDERER, fits)
    assert [one.tokens.tolist() for one in encoded] == [RENDERER.encode(QUESTION, RESPONSE).tokens]
    assert rejected == {"over_length": 1}
    assert encode([EXAMPLE], RENDERER, fits - 1)[0] == []


def test_an_end_of_turn_in_the_midst_of_a_response_leaves_its_example_out_and_no_other() -> None:
    renderer = Renderer(tokenizer.build(BpeTokenizer(vocab_size=300), [RESPONSE]))
    texts = ["so 3", "so <|im_end|> 3", "so 3<|im_end|>\n", "<end>", "so <end> 4", "4"]
    examples = [dataclasses.replace(EXAMPLE, id=f"e{i}", response=text) for i, text in enumerate(texts)]
    encoded, rejected = encode(examples, renderer, 64)
    assert rejected == {"end_of_turn_spelt": 3}
    assert [renderer.decode(one.tokens[one.supervised].tolist()) for one in encoded] == ["so 3", "so 3", "4"]
    assert encode(examples[:1], renderer, 64)[1] == {}


@pytest.mark.parametrize(("verdict", "code"), [("correct", 1), ("incorrect", -1), ("unparsed", 0), ("ungraded", 0)])
def test_verdicts_as_losses_see_them(verdict: str, code: int) -> None:
    example = dataclasses.replace(EXAMPLE, verdict=verdict)  # type: ignore[arg-type]
    assert encode([example], RENDERER, 64)[0][0].verdict == code


def test_teacher_logprobs_per_token_where_the_ids_agree_else_their_mean() -> None:
    logprobs = tuple(-0.125 * i for i in range(len(IMITATED)))
    same = dataclasses.replace(EXAMPLE, token_ids=tuple(IMITATED), logprobs=logprobs)
    unfinished = dataclasses.replace(EXAMPLE, token_ids=tuple(IMITATED[:-1]), logprobs=logprobs[:-1])
    other = dataclasses.replace(EXAMPLE, token_ids=(*IMITATED[1:], 0), logprobs=logprobs)
    shorter = dataclasses.replace(EXAMPLE, token_ids=tuple(IMITATED[:2]), logprobs=logprobs[:2])
    encoded, _ = encode([same, unfinished, other, shorter, EXAMPLE], RENDERER, 64)
    assert all(np.isnan(one.teacher_logprob[~one.supervised]).all() for one in encoded)
    found = [one.teacher_logprob[one.supervised] for one in encoded]
    mean = np.mean(logprobs, dtype=np.float32)
    np.testing.assert_array_equal(found[0], np.float32(logprobs))
    np.testing.assert_array_equal(found[1][:-1], np.float32(logprobs[:-1]))
    assert found[1][-1] == np.mean(logprobs[:-1], dtype=np.float32)
    np.testing.assert_allclose(found[2], mean)
    np.testing.assert_allclose(found[3], np.mean(logprobs[:2], dtype=np.float32))
    assert np.isnan(found[4]).all()


def test_distributions_where_the_teacher_drew_these_very_tokens_and_nowhere_else() -> None:
    count = len(IMITATED)
    draw = np.random.default_rng(0)
    whole = TopK(
        draw.integers(0, 9, (count, 2)).astype(np.int32),
        -draw.random((count, 2)).astype(np.float32),
        -draw.random(count).astype(np.float32),
    )
    cut = TopK(*(part[:-1] for part in whole[:3]))
    logprobs = (-0.5,) * count
    same = dataclasses.replace(EXAMPLE, token_ids=tuple(IMITATED), logprobs=logprobs, top=whole)
    unfinished = dataclasses.replace(EXAMPLE, token_ids=tuple(IMITATED[:-1]), logprobs=logprobs[:-1], top=cut)
    other = dataclasses.replace(EXAMPLE, token_ids=(*IMITATED[1:], 0), logprobs=logprobs, top=whole)
    uneven = dataclasses.replace(EXAMPLE, token_ids=tuple(IMITATED), logprobs=logprobs, top=cut)
    (first, second, *others), _ = encode([same, unfinished, other, uneven, EXAMPLE], RENDERER, 64)
    assert [one.top for one in others] == [None] * 3
    for found, expected, end in ((first, whole, count), (second, cut, count - 1)):
        assert found.top is not None
        own = np.flatnonzero(found.supervised)[:end]
        for part, right in zip(found.top[:3], expected[:3], strict=True):
            np.testing.assert_array_equal(part[own], right)
        assert (np.delete(found.top.ids, own, axis=0) == -1).all()


def test_refusals_name_the_example() -> None:
    for bad in (float("nan"), -1.0):
        with pytest.raises(UserError, match=r"example e1 \(problem p1, teacher weak\) has the weight"):
            encode([dataclasses.replace(EXAMPLE, weight=bad)], RENDERER, 64)
    with pytest.raises(UserError, match=r"example e1 .*'zebras'"):
        encode([dataclasses.replace(EXAMPLE, response="3 zebras")], RENDERER, 64)


def test_real_traces_are_packed_whole(shared_data: Path) -> None:
    found = recorded.load(Recorded("llama", str(shared_data / "traces" / "gair_gsm8k_llama2_7b.jsonl.gz"), limit=400))
    question = {problem.id: problem.question for problem in found.problems}
    examples = [
        Example(t.id, t.problem_id, t.id, t.teacher, question[t.problem_id], t.text, "reason", "ungraded", 1.0)
        for t in found.traces
    ]
    renderer = Renderer(tokenizer.build(BpeTokenizer(vocab_size=600), [e.question + e.response for e in examples]))
    encoded, rejected = encode(examples, renderer, 1024)
    assert len(encoded) + rejected["over_length"] == len(examples)
    packed = pack(encoded, 1024, renderer.pad)
    statistics = Batches(packed, Batching(1024, 4)).statistics
    assert statistics.examples == len(encoded)
    assert statistics.tokens == sum(len(one.tokens) - 1 for one in encoded)
    assert statistics.supervised_tokens == sum(int(one.supervised.sum()) for one in encoded)
    assert int((packed.target == renderer.end_tokens[0]).sum()) == len(encoded)
    assert statistics.fill > 0.95
