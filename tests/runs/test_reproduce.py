"""Reproduction of small runs: what is identical, what differs and is named, what is refused."""

import dataclasses
import json
import shutil

import pytest

from w2sr_jax.batches.settings import Batching
from w2sr_jax.cli import main as cli
from w2sr_jax.core.errors import UserError
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
from w2sr_jax.graph import manifest as manifests
from w2sr_jax.graph.stage import Silent
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.problems.settings import Files, Splits
from w2sr_jax.runs.reproduce.command import RECORD, reproduce
from w2sr_jax.runs.reproduce.comparing import POOLED
from w2sr_jax.runs.reproduce.directory import MARKER
from w2sr_jax.sampling import shards
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages.execute import execute
from w2sr_jax.training.settings import Training

SAMPLING, CURATION, ARM = "rungs/0-a/traces-teacher", "rungs/0-a/curation", "rungs/0-a/all/train"
LATER = (ARM, "evaluations/0-a.base", "evaluations/0-a.all", "report")


class Watcher(Silent):
    """Notes what is done and what is said, and stops before a stage where asked."""

    def __init__(self, before=None):
        self.before, self.done, self.stood, self.said = before, [], [], []

    def begin(self, stage, index, total):
        if stage == self.before:
            raise KeyboardInterrupt

    def end(self, stage, note, seconds):
        (self.stood if seconds is None else self.done).append(stage)

    def warn(self, message):
        self.said.append(message)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """A run with two seeds on problems from a file."""
    directory = tmp_path_factory.mktemp("reproduce")
    source = directory / "problems.jsonl"
    rows = [
        (f"A hen lays {a} eggs and then {b} eggs. How many?", f"{a} + {b} = {a + b}\n#### {a + b}")
        for a in range(6)
        for b in range(6)
    ]
    source.write_text("".join(json.dumps({"question": q, "answer": s}) + "\n" for q, s in rows))
    model = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)
    training = Training(steps=12, learning_rate=1e-2, batching=Batching(length=64, rows=2), log_every=4)
    decoding = Decoding(temperature=0.5, max_tokens=8, batch=16)
    experiment = Experiment(
        "hens",
        (Rung("a", model, curation=Curation(keep_unfinished=True), arms=("all",), gold=False, training=training),),
        (ModelTeacher("teacher", model, training, samples=2, decoding=decoding),),
        seeds=(0, 1),
        problems=Files(str(source)),
        splits=Splits(teacher=12, pool=12, probe=4, test=6),
        evaluation=Evaluation(resamples=20),
        decoding=dataclasses.replace(decoding, temperature=0.0),
        mesh=Mesh(data=1),
    )
    execute(experiment, directory / "hens", Silent())
    return directory / "hens"


@pytest.fixture
def run(seeds, tmp_path):
    """One seed's run, which is a run like any other."""
    return shutil.copytree(seeds / "seed-0", tmp_path / "run")


@pytest.fixture
def unfinished(run):
    """A run that has come as far as its curation."""
    for name in LATER:
        manifests.path(run, name).unlink()
    return run


@pytest.fixture
def other_traces(monkeypatch):
    """A machine on which the teacher writes other traces."""
    original = shards.draw_shards

    def draw_shards(where, author, *arguments, **named):
        return original(where, dataclasses.replace(author, seed=author.seed + 1000), *arguments, **named)

    monkeypatch.setattr(shards, "draw_shards", draw_shards)


def outcomes(found):
    return {stage.stage: stage.outcome for stage in found.stages}


def test_all_seeds_and_their_pooled_report_come_out_again(seeds):
    found = reproduce(seeds, None, None, Silent())
    assert found.identical, found.text()
    assert set(outcomes(found).values()) == {"identical"}
    assert {f"seed-{seed}/{name}" for seed in (0, 1) for name in (SAMPLING, CURATION, ARM)} | {POOLED} <= outcomes(found).keys()
    assert "Reproduced: " in found.text()
    assert not seeds.with_name("hens.reproduced").exists()
    record = json.loads((seeds / RECORD).read_text())
    assert record["identical"] is True
    assert len(record["stages"]) == len(found.stages)
    one = reproduce(seeds, None, f"seed-1/{CURATION}", Silent())
    assert outcomes(one) == {f"seed-1/{CURATION}": "identical"}
    both = reproduce(seeds, None, CURATION, Silent(), keep=True)
    assert outcomes(both) == {f"seed-{seed}/{CURATION}": "identical" for seed in (0, 1)}
    assert both.into == seeds.with_name("hens.reproduced")
    assert both.into.is_dir()
    shutil.rmtree(both.into)


def test_the_first_difference_is_named_and_what_follows_from_it_is_told_apart(run, other_traces):
    watcher = Watcher()
    found = reproduce(run, None, None, watcher)
    assert not found.identical
    table = outcomes(found)
    assert table["problems"] == table["teachers/teacher/train"] == table["evaluations/teacher"] == "identical"
    assert table[SAMPLING] == "different"
    assert {table[CURATION], table[ARM], table["report"]} == {"follows"}
    text = found.text()
    assert f"is {SAMPLING}." in text
    assert "teachers/teacher/rung-0/traces-00000.parquet: row " in text
    assert "column 'text' was " in text
    assert "Versions, device kind, cores, mesh and flags are as they were." in text
    assert any(message.startswith(f"{SAMPLING}: different: teachers/teacher/rung-0") for message in watcher.said)
    assert found.into is not None
    assert (found.into / "report" / "results.json").is_file()
    record = json.loads((run / RECORD).read_text())
    assert record["identical"] is False
    assert next(stage for stage in record["stages"] if stage["outcome"] != "identical")["stage"] == SAMPLING
    with pytest.raises(UserError, match="holds a finished reproduction"):
        reproduce(run, None, None, Silent())


def test_what_is_not_as_it_was_is_named(run, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")  # read by nobody after JAX has started
    monkeypatch.setitem(manifests.versions.__globals__, "_version", lambda package: "9.9" if package == "jaxlib" else "1.0")
    found = reproduce(run, None, "tokenizer", Silent())
    names = {condition.name: condition for condition in found.conditions}
    assert names["xla_flags"].now == "--xla_cpu_enable_fast_math=true"
    assert names["jaxlib"].now == "9.9"
    assert "jaxlib was " in found.text()
    assert "mesh" not in names


@pytest.mark.parametrize("stage", ["problems", SAMPLING, ARM, "evaluations/0-a.all", "report"])
def test_one_stage_is_done_anew_from_the_inputs_it_had(run, stage):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    watcher = Watcher()
    found = reproduce(run, None, stage, watcher)
    assert watcher.done == [stage]
    assert outcomes(found) == {stage: "identical"}, found.text()
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != RECORD}
    assert after == before


def test_a_later_stage_from_equal_inputs_is_compared_on_its_own(run, other_traces):
    assert outcomes(reproduce(run, None, CURATION, Silent())) == {CURATION: "identical"}


def test_an_unknown_stage_is_refused_with_the_nearest_name(run):
    with pytest.raises(UserError, match=r"no stage 'rungs/0-a/curatio'; did you mean 'rungs/0-a/curation'"):
        reproduce(run, None, "rungs/0-a/curatio", Silent())


def test_a_changed_or_missing_file_of_the_users_is_said_before_anything_is_done(seeds, run, monkeypatch):
    source = seeds.parent / "problems.jsonl"
    content = source.read_text()
    try:
        source.write_text(content + "\n")
        with pytest.raises(UserError, match=r"problems\.jsonl has changed since .*run read it"):
            reproduce(run, None, None, Silent())
        source.unlink()
        with pytest.raises(UserError, match=r"problems\.jsonl does not exist"):
            reproduce(run, None, None, Silent())
    finally:
        source.write_text(content)
    assert not run.with_name("run.reproduced").exists()


def test_of_an_unfinished_run_what_is_finished_is_compared(unfinished):
    watcher = Watcher()
    found = reproduce(unfinished, None, None, watcher)
    assert found.identical
    assert {name for name, outcome in outcomes(found).items() if outcome == "unfinished"} == set(LATER)
    assert not set(LATER) & set(watcher.done)
    assert "The run is unfinished: 4 stages" in found.text()


def test_a_run_that_has_nothing_is_refused(run):
    shutil.rmtree(run / "lineage")
    with pytest.raises(UserError, match="has not finished anything"):
        reproduce(run, None, None, Silent())


def test_damage_to_the_run_is_told_from_a_difference(run):
    path = run / "teachers" / "teacher" / "rung-0" / "traces-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    found = reproduce(run, None, SAMPLING, Silent())
    assert not found.identical
    assert outcomes(found) == {SAMPLING: "damaged"}
    assert "traces-00000.parquet" in found.text()
    assert "changed after the run wrote it" in found.text()
    with pytest.raises(UserError, match=f"{CURATION} needs {SAMPLING}, but .*traces-00000.parquet"):
        reproduce(run, run.with_name("other"), CURATION, Silent())


def test_an_interrupted_reproduction_is_continued(unfinished):
    run = unfinished
    with pytest.raises(KeyboardInterrupt):
        reproduce(run, None, None, Watcher(before=CURATION))
    assert (run.with_name("run.reproduced") / MARKER).is_file()
    with pytest.raises(UserError, match="the beginning of another reproduction"):
        reproduce(run, None, "problems", Silent())
    watcher = Watcher()
    assert reproduce(run, None, None, watcher).identical
    assert {"problems", SAMPLING} <= set(watcher.stood)
    assert CURATION in watcher.done
    assert not run.with_name("run.reproduced").exists()


def test_a_directory_that_holds_something_else_is_left_alone(run):
    for into, said in (
        (run.with_name("mine"), "holds no reproduction"),
        (run / "inside", "within each other"),
        (run, "within each"),
    ):
        if into != run:
            into.mkdir()
            (into / "thesis.txt").write_text("mine")
        with pytest.raises(UserError, match=said):
            reproduce(run, into, None, Silent())
    assert (run.with_name("mine") / "thesis.txt").read_text() == "mine"


def test_the_command_says_so_with_its_exit_code(run, capsys):
    assert cli.run(["reproduce", str(run), "--stage", "problems", "--plain"]) == 0
    assert "Reproduced: 1 stage" in capsys.readouterr().out
    store = RunStore(run)
    manifest = store.peek("tokenizer")
    paths = [run / name for name in sorted(manifest.outputs)]
    paths[0].write_bytes(paths[0].read_bytes() + b" ")
    store.commit(dataclasses.replace(manifest, outputs=store.digests(paths)))
    assert cli.run(["reproduce", str(run), "--stage", "tokenizer", "--plain"]) == 1
    assert "Not reproduced: the first stage" in capsys.readouterr().out
