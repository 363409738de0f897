"""`w2sr show` on a run made by hand: the tokens, weights, rows and steps told are those that training meets."""

import dataclasses
import io
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hand_made import finish
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from w2sr_jax.batches.settings import Batching
from w2sr_jax.configuration import saved
from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
from w2sr_jax.graph.store import RunStore
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.weights import TokenWeights
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.runs import show as showing
from w2sr_jax.runs.show import show
from w2sr_jax.stages import examples as batching
from w2sr_jax.stages import models, tokenizer
from w2sr_jax.stages.examples import Lessons
from w2sr_jax.text import tokenizer as tokenizers
from w2sr_jax.text.settings import BpeTokenizer
from w2sr_jax.training.settings import Training

TINY = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)
LEARNING = Training(steps=12, batching=Batching(length=120, rows=2))
FACTORS = TokenWeights(reasoning=0.5, answer=3.0, incorrect=0.25)
EXPERIMENT = Experiment(
    name="shown",
    teachers=(ModelTeacher("weak", TINY, LEARNING),),
    rungs=(
        Rung("small", TINY, teachers=("weak",), arms=("all", "correct"), training=LEARNING, objective=Objective(weights=FACTORS)),
        Rung(
            "sure",
            TINY,
            teachers=("weak",),
            arms=("correct",),
            gold=False,
            training=LEARNING,
            objective=Objective(weights=TokenWeights(answer=2.0, confidence_gamma=1.0), trim=0.05),
        ),
    ),
)
LONG = 7
HOSTILE = "\x1b[2J \u202e\x00 1 + 1 = 2\r\nExample 0 of\t9\u2028 #### 2"


def response(i: int) -> str:
    if i == LONG:
        return "no " * 200 + "#### 1"
    return HOSTILE if i == 8 else f"Ann has {i}.\n\nSo {i} + 1  is\t{i + 1}: é 🙂\n#### {i + 1}"


def example(i: int, renderer_ids: tuple[int, ...] = (), logprobs: tuple[float, ...] = ()) -> Example:
    verdict = "incorrect" if i % 3 == 1 else "correct"
    return Example(
        f"e{i}", f"p{i}", f"t{i}", "weak", f"Ann has {i} more?", response(i), "reason", verdict, 1.0 + i, renderer_ids, logprobs
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "shown"
    saved.save(run, EXPERIMENT)
    tokenizers.build(BpeTokenizer(vocab_size=300), [response(i) for i in range(20)]).save(run / "tokenizer")
    finish(run)
    renderer = tokenizer.renderer(RunStore(run))
    examples = [example(i) for i in range(20)]
    records.write(run / "rungs/0-small/all/curated.parquet", Example, examples)
    sure = []
    for i, one in enumerate(examples):
        rendered = renderer.encode(one.question, one.response)
        ids = tuple(token for token, wanted in zip(rendered.tokens, rendered.supervised) if wanted)
        sure.append(one if i == 3 else example(i, ids, tuple(-0.05 * (j % 7) for j in range(len(ids)))))
    records.write(run / "rungs/1-sure/correct/curated.parquet", Example, sure)
    finish(run)
    return run


def told(run: Path, number: int, rung: int = 0, arm: str | None = None) -> str:
    out = io.StringIO()
    show(run, number, rung, arm, plain=True, console=Console(file=out, width=200, color_system=None))
    return out.getvalue()


def lessons_of(run: Path, rung: int, arm: str) -> Lessons:
    model = models.student(EXPERIMENT, rung, arm)
    examples = batching.examples_of(RunStore(run), EXPERIMENT, model)
    return batching.lessons(model, examples, tokenizer.renderer(RunStore(run)), LEARNING, 0)


def pieces_told(text: str) -> list[str]:
    """The tokens between the bars, in order."""
    lines = [line for line in text.splitlines() if line.startswith("  │")]
    return [piece for line in lines for piece in line.strip()[1:-1].split("│")]


def as_written(pieces: list[str]) -> str:
    return "".join(pieces).replace("·", " ").replace("⏎", "\n").replace("⇥", "\t")


@pytest.mark.parametrize("number", [0, 4, 19])
def test_every_token_is_shown_with_its_span(made: Path, number: int) -> None:
    text = told(made, number)
    renderer = tokenizer.renderer(RunStore(made))
    rendered = renderer.encode(f"Ann has {number} more?", response(number))
    pieces = pieces_told(text)
    assert len(pieces) == len(rendered.tokens)
    start = rendered.supervised.index(True)
    assert pieces[start - 1] == "<think>"
    assert (pieces[0], pieces[-1]) == ("<q>", "<end>")
    part = response(number).partition("é")[0]
    assert as_written(pieces[start:-1]).startswith(part)
    assert "⏎" in "".join(pieces)
    counts = {name: rendered.span.count(code) for code, name in enumerate(("prompt", "reasoning", "answer", "end-of-turn"))}
    for name, count in counts.items():
        heading = re.search(rf"^{name}, tokens? ([\d,]+)(?: to ([\d,]+))?: ", text, re.M)
        assert heading
        assert int(heading[2] or heading[1]) - int(heading[1]) + 1 == count
    assert f"{len(pieces)} tokens, {sum(rendered.supervised)} supervised ({counts['reasoning']} reasoning" in text
    assert f"end tokens <end>; style reason, teacher weak, {example(number).verdict}, trace t{number}" in text


def test_odd_responses_are_said_and_those_that_are_left_out_are_refused(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    odd = {1: "so 2</think> it is 2", 2: "so 3<|im_end|>", 3: "so <|im_end|> 4"}
    rows = [dataclasses.replace(example(i), response=odd.get(i, response(i))) for i in range(6)]
    records.write(run / "rungs/0-small/all/curated.parquet", Example, rows)
    finish(run)
    assert "note: the response closes a thinking that nothing opened" in told(run, 1)
    assert "note: the response ends with '<|im_end|>' spelt out, which is taken off" in told(run, 2)
    assert "note" not in told(run, 4)
    with pytest.raises(
        UserError, match=r"example 3 of 0-small\.all is left out of its training: its response spells out '<\|im_end\|>'"
    ):
        told(run, 3)
    lessons = lessons_of(run, 0, "all")
    assert len(lessons.encoded) == 5
    assert all("packed in row" in told(run, i) for i in (2, 4, 5))


@pytest.mark.parametrize("number", [0, 4])
def test_weights_are_those_of_the_objective(made: Path, number: int) -> None:
    text = told(made, number)
    verdict = 0.25 if number % 3 == 1 else 1.0
    for name, factor in (("reasoning", 0.5), ("answer", 3.0), ("end-of-turn", 1.0)):
        assert re.search(rf"^{name}, .*: supervised, weight {factor * verdict * (1 + number):.4g}( each)?$", text, re.M), text
    assert re.search(r"^prompt, .*: not supervised$", text, re.M)


def test_weights_by_confidence_are_those_of_the_first_step(made: Path) -> None:
    lessons = lessons_of(made, 1, "correct")
    rendered = tokenizer.renderer(RunStore(made)).encode("Ann has 5 more?", response(5))
    wanted = rendered.tokens
    weights = None
    for step in range(LEARNING.steps):
        batch = lessons.batches.batch_at(step)
        every = np.asarray(EXPERIMENT.rungs[1].objective.weights(batch.span, batch.verdict, batch.teacher_logprob, batch.weight))
        for row in range(len(batch.tokens)):
            for at in range(LEARNING.batching.length - len(wanted) + 2):
                if weights is None and batch.tokens[row, at : at + len(wanted) - 1].tolist() == wanted[:-1]:
                    weights, first = every[row, at : at + len(wanted) - 1], step + 1
    assert weights is not None
    text = told(made, 5, 1)
    assert f"weights are those of step {first}\n" in text
    assert "the 5% of tokens whose loss is highest" in text
    reasoning = text.partition("\nreasoning, ")[2].partition("\nanswer, ")[0]
    shown = [float(piece.rpartition(" ")[2]) for piece in pieces_told(reasoning)]
    begin = rendered.supervised.index(True)
    expected = weights[begin - 1 :][: len(shown)]
    assert np.ptp(expected) > 0.1
    assert shown == pytest.approx(expected.tolist(), rel=0.06)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(-1, 1), st.one_of(st.just(float("nan")), st.floats(-3, 0)), st.floats(0, 2)),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_numpy_weights_equal_the_losses_own(rows: list[tuple[int, int, float, float]], gamma: float) -> None:
    factors = TokenWeights(0.5, 3.0, 2.0, 1.5, 0.25, 0.75, gamma)
    span, verdict, logprob, weight = (np.array(column) for column in zip(*rows))
    logprob, weight = logprob.astype(np.float32), weight.astype(np.float32)
    ours = showing.weights(factors, span, verdict, logprob, weight)
    assert ours == pytest.approx(np.asarray(factors(span, verdict, logprob, weight)), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("number", [0, 6, 8, 19])
def test_row_positions_and_steps_are_those_of_the_batches(made: Path, number: int) -> None:
    lessons = lessons_of(made, 0, "all")
    found = re.search(
        r"packed in row (\d+).*?, positions (\d+) to (\d+) of 120; steps? ([\d, ]+) \((\d+) in all, of 12\)", told(made, number)
    )
    assert found
    row, first, last = (int(found[i]) for i in (1, 2, 3))
    tokens = tokenizer.renderer(RunStore(made)).encode(f"Ann has {number} more?", response(number)).tokens
    assert lessons.batches.packed.tokens[row, first : last + 1].tolist() == tokens[:-1]
    assert lessons.batches.packed.target[row, first : last + 1].tolist() == tokens[1:]
    mine = lessons.batches.packed.tokens[row].tolist()
    holding = [step + 1 for step in range(12) if mine in lessons.batches.batch_at(step).tokens.tolist()]
    assert [int(step) for step in found[4].split(",")] == holding
    assert len(holding) == int(found[5])


def test_one_too_long_is_said_to_be_left_out(made: Path) -> None:
    text = told(made, LONG)
    assert re.search(r"left out: it takes \d{3} positions and a row has 120\n", text)
    assert re.search(r"^reasoning, .*: supervised, weight 1 each$", text, re.M)  # 8 × 0.5 × 0.25


def test_colours_part_the_spans_and_plain_has_none(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    show(made, 0, console=Console(file=out, force_terminal=True, color_system="standard", width=200))
    coloured = out.getvalue()
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == told(made, 0)
    styles = {re.search(rf"\x1b\[([\d;]+)m {name} \x1b", coloured)[1] for name in showing.LABELS}  # type: ignore[index]
    assert len(styles) == 4
    show(made, 0, plain=True)
    assert "\x1b" not in capsys.readouterr().out


def test_hostile_text_stays_between_the_bars(made: Path) -> None:
    text = told(made, 8)
    assert all(unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp") for line in text.split("\n") for c in line)
    assert sum(line.startswith("Example ") for line in text.split("\n")) == 1


def test_numbers_and_names_out_of_range_are_refused(made: Path, tmp_path: Path) -> None:
    for number in (-1, 20):
        with pytest.raises(UserError, match=rf"0-small\.all has no example {number}; its examples are numbered 0 to 19$"):
            told(made, number)
    with pytest.raises(UserError, match="no rung 2; rungs are numbered 0 to 1"):
        told(made, 0, 2)
    with pytest.raises(UserError, match="trains no 'incorrect'; it trains all, correct, gold"):
        told(made, 0, 0, "incorrect")
    with pytest.raises(UserError, match=r"0-small\.correct has no examples yet: .*; w2sr curate "):
        told(made, 0, 0, "correct")
    run = tmp_path / "bare"
    shutil.copytree(made, run)
    shutil.rmtree(run / "tokenizer")
    finish(run)
    with pytest.raises(UserError, match="has no tokenizer yet"):
        told(run, 0)
    records.write(run / "rungs/0-small/all/curated.parquet", Example, [])
    shutil.copytree(made / "tokenizer", run / "tokenizer")
    finish(run)
    with pytest.raises(UserError, match="kept no trace"):
        told(run, 0)


def test_batches_that_are_not_the_training_s_are_noted(made: Path, tmp_path: Path) -> None:
    assert "note" not in told(made, 0)
    run = tmp_path / "changed"
    shutil.copytree(made, run)
    packed = lessons_of(made, 0, "all").batches.packed
    packed.save(run / "rungs/0-small/all/packing.npz")
    assert "note" not in told(run, 0)
    dataclasses.replace(packed, tokens=packed.tokens + 1).save(run / "rungs/0-small/all/packing.npz")
    assert "packing.npz holds other batches" in told(run, 0)


def test_the_command_needs_no_device(made: Path) -> None:
    command = [sys.executable, "-m", "w2sr_jax.cli", "show", str(made), "--example", "3", "--plain"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "none_such"})
    assert (done.returncode, done.stdout) == (0, told(made, 3))
