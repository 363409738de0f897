"""What is odd about responses is counted and said with the first of them, and shows in what a training warns of and measures."""

import dataclasses
from pathlib import Path

import pytest

from w2sr_jax.batches.settings import Batching
from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.stages import examples, models
from w2sr_jax.stages.remarks import Remark, counts, remarked, warnings
from w2sr_jax.text import tokenizer
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.settings import BpeTokenizer
from w2sr_jax.training.settings import Training

RENDERER = Renderer(tokenizer.build(BpeTokenizer(vocab_size=300), ["so 3 it is"] * 3))
EXAMPLE = Example("e", "p", "t", "weak", "How many?", "so 3", "reason", "correct", 1.0)


def of(*texts: str, teacher: str = "weak") -> list[Example]:
    return [dataclasses.replace(EXAMPLE, id=f"e{i}", teacher=teacher, response=text) for i, text in enumerate(texts)]


def test_remarks_are_counted_and_the_first_row_is_named() -> None:
    texts = (
        "so 3",
        "so 3<|im_end|>",
        "x</think>so",
        "so <|eot_id|> 3",
        "<think>x",
        "3<|im_end|>",
        "<think>x</think>3",
        "y</thought>3",
    )
    found = remarked(RENDERER, iter(of(*texts)))
    assert found == {
        "ends with '<|im_end|>' spelt out, which is taken off": Remark(2, "example e1 (problem p, teacher weak)"),
        "closes a thinking that nothing opened": Remark(2, "example e2 (problem p, teacher weak)"),
        "spells out '<|eot_id|>', an end of turn, in its midst, and is left out": Remark(
            1, "example e3 (problem p, teacher weak)"
        ),
        "opens a thinking that it never closes": Remark(1, "example e4 (problem p, teacher weak)"),
    }
    assert counts(found)["closes a thinking that nothing opened"] == 2
    assert warnings("0-small.all", 8, found)[1] == (
        "0-small.all: 2 of 8 responses: closes a thinking that nothing opened (the first is example e2 (problem p, teacher weak))"
    )
    assert not remarked(RENDERER, of("so 3", "it is < think > 3", "the end"))


def test_two_oddities_of_one_response_are_both_said_and_names_cannot_harm() -> None:
    found = remarked(RENDERER, of("x</think>so<|im_end|>", teacher="\x1b[2Jweak\n" + "x" * 500))
    assert [remark.responses for remark in found.values()] == [1, 1]
    for line in warnings("m", 1, found):
        assert line.isprintable()
        assert len(line) < 300


def test_nothing_but_ends_of_turns_is_said_where_no_example_is_left(tmp_path: Path) -> None:
    experiment = Experiment("x", (Rung("small", ModelConfig()),), (ModelTeacher(),))
    model = models.student(experiment, 0, "all")
    path = tmp_path / "curated.parquet"
    records.write(path, Example, of("so <|im_end|> 3", "so 3 <|im_end|> 4"))
    training = Training(steps=1, batching=Batching(length=64, rows=1))
    with pytest.raises(UserError, match=r"none of the 2 examples fits .*, and 2 spell out an end of turn in their midst"):
        examples.lessons(model, records.Stored(path, Example), RENDERER, training, 0)
