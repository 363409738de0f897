"""A loss on the teacher's distribution in a whole run: computed with the teacher's parameters, or recorded with its traces."""

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from w2sr_jax.cli import main as cli
from w2sr_jax.graph.store import RunStore
from w2sr_jax.training import journal

CONFIG = """
import dataclasses

from w2sr_jax.batches.settings import Batching
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import ForwardKL, Nll, OnSpans
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.settings import Training

TINY = ModelConfig(width=16, layers=1, heads=2, kv_heads=2, mlp=32)
TRAINING = Training(steps=3, batching=Batching(length=64, rows=8), log_every=1, reference_top={stored})


def experiment():
    return Experiment(
        name={name!r},
        problems=Generated(),
        splits=Splits(teacher=8, pool=6, probe=2, test=4),
        tokenizer=WordTokenizer(largest=19),
        teachers=(
            ModelTeacher(
                "weak",
                TINY,
                training=dataclasses.replace(TRAINING, reference_top=0),
                samples=1,
                decoding=Decoding(temperature=1.0, max_tokens=8, batch=8, record_top={recorded}),
            ),
        ),
        rungs=(
            Rung(
                "student",
                TINY,
                teachers=("weak",),
                arms=("all",),
                gold=False,
                curation={curation},
                training=TRAINING,
                objective=Objective(Nll() + OnSpans(ForwardKL({model!r}), end=False)),
            ),
        ),
        decoding=Decoding(temperature=0.0, max_tokens=4, batch=8),
        evaluation=Evaluation(samples=0, resamples=20),
    )
"""
KEEP = "__import__('w2sr_jax.curation.settings', fromlist=['Curation']).Curation(keep_unfinished=True)"


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Trains the student of one arm; the losses of its steps."""
    folder = tmp_path_factory.mktemp("teacher")

    def one(name: str, model: str = "teacher", recorded: int = 0, stored: int = 0):
        config = folder / f"config_{name}.py"
        config.write_text(CONFIG.format(name=name, model=model, recorded=recorded, stored=stored, curation=KEEP))
        code = cli.run(["run", str(config), "--root", str(folder / "runs"), "--plain"])
        store = RunStore(folder / "runs" / name)
        path = store.path("rungs/0-student/all/metrics.jsonl")
        return code, store, [line["loss"] for line in journal.read(path)] if code == 0 else []

    return one


def test_a_teachers_distribution_is_computed_or_stored_alike(train, capsys):
    code, store, computed = train("computed")
    assert code == 0, capsys.readouterr().err
    vocabulary = 8 * math.ceil(store.peek("tokenizer").measures["vocabulary"] / 8)
    code, _, stored = train("stored", stored=vocabulary)
    assert code == 0, capsys.readouterr().err
    code, _, by_name = train("by-name", model="weak")
    assert code == 0, capsys.readouterr().err
    assert len(computed) == 3
    assert stored == pytest.approx(computed, rel=1e-4)
    assert by_name == computed


def test_what_was_recorded_with_the_traces_is_read_and_no_teacher_is_computed(train, capsys):
    code, store, losses = train("recorded", recorded=8)
    assert code == 0, capsys.readouterr().err
    assert len(losses) == 3
    assert "teachers/weak/train" not in store.peek("rungs/0-student/all/train").needs
    columns = pq.read_schema(store.file("rungs/0-student/all/curated.parquet")).names
    assert {"top_ids", "top_logprobs"} <= set(columns)


def test_a_model_that_nobody_makes_before_is_one_sentence(train, capsys):
    code, *_ = train("wrong", model="weal")
    assert code == 2
    said = capsys.readouterr().err
    assert "rungs.0 (student): the loss looks at the model 'weal', which is not made before it; did you mean 'weak'?" in said


def test_the_named_model_is_an_input_of_the_training(train):
    _, store, _ = train("by-name", model="weak")
    manifest = store.peek("rungs/0-student/all/train")
    assert "teachers/weak/train" in manifest.needs
    assert Path(store.path("rungs/0-student/all/checkpoints")).is_dir()
