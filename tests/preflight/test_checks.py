"""What can be known before anything is computed is said before anything is computed, all of it at once."""

import dataclasses
import json
import os
import shutil
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from w2sr_jax.batches.settings import Batching
from w2sr_jax.cli import main as cli
from w2sr_jax.core.errors import UserError
from w2sr_jax.curation.arms import Incorrect, Nothing
from w2sr_jax.curation.settings import Curation
from w2sr_jax.experiment import (
    Arm,
    Experiment,
    FromCheckpoint,
    FromParent,
    Imitation,
    ModelTeacher,
    OnPolicy,
    Policy,
    Pretraining,
    Rung,
    Scratch,
    check,
)
from w2sr_jax.graph.stage import Silent
from w2sr_jax.graph.store import RunStore
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll, OnCorrect
from w2sr_jax.losses.weights import TokenWeights
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import pretrained
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.preflight import checks, meshes, rehearsal
from w2sr_jax.preflight.meshes import Shape, refusals
from w2sr_jax.preflight.stand_ins import StandIns
from w2sr_jax.preflight.subject import Subject
from w2sr_jax.problems.settings import Fields, Files, Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages.execute import execute
from w2sr_jax.teachers.settings import Recorded, Served
from w2sr_jax.text.settings import BpeTokenizer, PretrainedTokenizer, WordTokenizer
from w2sr_jax.training.settings import Training

sys.path.insert(0, str(Path(__file__).parents[1] / "teachers"))
from stub_server import Stub, serving

SMALL = ModelConfig(width=32, layers=1, heads=2, kv_heads=2, mlp=64)
TRAINING = Training(steps=2, batching=Batching(length=256, rows=8))
TEACHER = ModelTeacher(model=SMALL, training=TRAINING, samples=2, decoding=Decoding(max_tokens=16, batch=8))
RUNG = Rung("small", SMALL, Scratch(), training=TRAINING)
SOUND = Experiment(
    name="sound",
    problems=Generated(),
    splits=Splits(pretrain=8, teacher=8, pool=16, probe=4, test=8),
    tokenizer=BpeTokenizer(vocab_size=300),
    teachers=(TEACHER,),
    rungs=(RUNG,),
    decoding=Decoding(temperature=0.0, max_tokens=16, batch=8),
)


def rung(**changes: Any) -> Any:
    return {"rungs": (dataclasses.replace(RUNG, **changes),)}


def looked_at(experiment: Experiment, run: Path) -> dict[str, checks.Checked]:
    check(experiment)
    return {found.name: found for found in checks.check(experiment, run)}


def said(experiment: Experiment, run: Path, kind: str = "refused") -> str:
    return "\n".join(line for found in looked_at(experiment, run).values() for line in getattr(found, kind))


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def sums(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"question": f"What is {n} plus {n} ?", "answer": str(2 * n), **more} for n in range(count)]


def test_a_sound_experiment_has_nothing_against_it_and_is_told_in_numbers(tmp_path: Path) -> None:
    found = looked_at(SOUND, tmp_path / "run")
    assert not any(one.refused or one.remarks for one in found.values())
    seen = "\n".join(line for one in found.values() for line in one.seen)
    vocabulary = 304  # of the tokenizer, up to a multiple of 8
    assert f"{dataclasses.replace(SMALL, vocab_size=vocabulary).parameters():,} parameters" in seen
    assert "8 × 1 × 1 (data × fsdp × tensor) of 8 × cpu" in seen
    assert "splits: pretrain 8, teacher 8, pool 16, probe 4, test 8" in seen
    assert list(tmp_path.iterdir()) == []


OPEN = {"problems": Files("problems.jsonl"), "splits": Splits(pool=4, test=4)}
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "too few devices": ({"mesh": Mesh(16)}, "the mesh 16 × 1 × 1 .* needs 16 devices; there are 8"),
    "heads over the mesh": ({"mesh": Mesh(1, 1, 4)}, "'kv_heads' of size 2 does not divide over mesh.tensor = 4"),
    "width over the mesh": (
        {"mesh": Mesh(1, 8, 1)} | rung(model=dataclasses.replace(SMALL, width=36, head_dim=18)),
        "'embed' of size 36 does not divide over mesh.fsdp = 8",
    ),
    "rows over the mesh": (
        rung(training=dataclasses.replace(TRAINING, batching=Batching(length=256, rows=12), accumulation=2)),
        r"rungs.0 \(small\): training.batching.rows is 12; it must be a multiple of .* = 2 × 8 × 1 = 16",
    ),
    "the base's rows": (
        rung(start=Pretraining(dataclasses.replace(TRAINING, batching=Batching(length=256, rows=9)), facts=9)),
        r"rungs.0 \(small\): start: training.batching.rows is 9",
    ),
    "decoding over the mesh": (
        {"decoding": Decoding(temperature=0.0, batch=12)},
        "decoding.batch is 12; it must be a multiple of",
    ),
    "a teacher's decoding": (
        {"teachers": (dataclasses.replace(TEACHER, decoding=Decoding(batch=4)),)},
        r"teachers.0 \(teacher\): decoding.batch is 4",
    ),
    "no weights": (rung(start=FromCheckpoint("/nowhere/at/all")), "'/nowhere/at/all' does not exist"),
    "a teacher without solutions": ({"splits": Splits(pool=8, test=8)}, "the teacher split, which is empty"),
    "a base without texts": (
        rung(start=Pretraining(TRAINING, facts=0)) | {"splits": Splits(teacher=8, pool=8, test=8)},
        "start pretrains a base, and splits.pretrain is 0",
    ),
    "no pool": ({"splits": Splits(teacher=8, test=8)}, r"rungs.0 \(small\) has no problems to learn from"),
    "no test": ({"splits": Splits(teacher=8, pool=8)}, "there are no test problems"),
    "no problems": ({"problems": Files("/nowhere/problems.jsonl")}, "/nowhere/problems.jsonl does not exist"),
    "no traces": ({"teachers": (Recorded("teacher", "/nowhere/traces.jsonl"),)}, "/nowhere/traces.jsonl does not exist"),
    "growth": (
        {"rungs": (RUNG, Rung("large", dataclasses.replace(SMALL, mlp=32), FromParent("correct"), training=TRAINING))},
        r"rungs.1 \(large\): start: a model cannot grow from mlp_size 64 to 32",
    ),
    "no tokenizer": ({"tokenizer": PretrainedTokenizer("/nowhere/tokenizer")}, "'/nowhere/tokenizer' does not exist"),
    "nobody to learn from": (
        {"teachers": (dataclasses.replace(TEACHER, weight=0.0),)} | rung(gold=False),
        "has nothing to learn from: W2SR .all.: all its teachers have the weight 0",
    ),
    "no key": (
        {"teachers": (Served("teacher", "https://api.example.org/v1", key_env="A_KEY_THAT_NOBODY_SET"),)},
        "needs a key for https://api.example.org/v1: set the environment variable A_KEY_THAT_NOBODY_SET",
    ),
    "no server": ({"teachers": (Served("teacher", "http://127.0.0.1:9/v1"),)}, "http://127.0.0.1:9/v1 does not answer"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_work_is_refused(name: str, tmp_path: Path) -> None:
    changes, words = FAULTS[name]
    with pytest.raises(UserError, match=words):
        checks.before(dataclasses.replace(SOUND, **changes), tmp_path / "run", Silent())
    assert list(tmp_path.iterdir()) == []


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    together = ["rows over the mesh", "no test", "no key"]
    changes: dict[str, Any] = {}
    for name in together:
        changes |= FAULTS[name][0]
    changes["splits"] = Splits(pool=8)
    refused = said(dataclasses.replace(SOUND, **changes), tmp_path)
    assert len(refused.splitlines()) == 3
    with pytest.raises(UserError, match=r"3 things stand in the way: \(1\) .*\(2\) .*\(3\) "):
        checks.before(dataclasses.replace(SOUND, **changes), tmp_path, Silent())


def test_a_check_that_fails_itself_is_a_note_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(checks, "CHECKS", (("broken", broken), *checks.CHECKS))
    found = looked_at(SOUND, tmp_path)
    assert "could not be looked at" in found["broken"].remarks[0]
    assert "a fault of ours" in found["broken"].remarks[0]
    assert found["models"].seen
    assert not any(one.refused for one in found.values())


def test_only_what_is_to_be_done_is_looked_at(tmp_path: Path) -> None:
    experiment = dataclasses.replace(SOUND, **FAULTS["growth"][0])
    checks.before(experiment, tmp_path, Silent(), rung=0)
    with pytest.raises(UserError, match="cannot grow"):
        checks.before(experiment, tmp_path, Silent(), rung=1)


def test_of_a_run_that_goes_on_its_own_problems_and_tokenizer_are_looked_at(tmp_path: Path) -> None:
    """Fewer problems than are looked at of an endless source, so that their words are not all that it has."""
    run, splits = tmp_path / "run", Splits(teacher=5, pool=5, test=5)
    experiment = dataclasses.replace(SOUND, tokenizer=WordTokenizer(), splits=splits)
    execute(experiment, run, Silent(), "prepare")
    words = RunStore(run).peek("tokenizer").measures["vocabulary"]  # type: ignore[union-attr]
    found = looked_at(experiment, run)
    assert found["problems"].seen == ("made",)
    assert found["tokenizer"].seen[0] == f"{words:,} tokens"
    assert not any(one.refused for one in found.values())
    other = looked_at(dataclasses.replace(experiment, tokenizer=WordTokenizer(largest=500)), run)
    assert other["tokenizer"].seen[0] == "made of the run's own texts"  # it will be made anew
    path = run / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text()[:-9])
    damaged = looked_at(experiment, run)
    assert damaged["tokenizer"].seen[0] == "made of the run's own texts"
    assert not any(one.refused for one in damaged.values())


def test_stages_that_read_what_is_made_anew_are_looked_at_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    execute(SOUND, run, Silent(), "prepare")
    assert Subject(SOUND, run).standing == {"problems", "tokenizer"}
    assert Subject(dataclasses.replace(SOUND, tokenizer=BpeTokenizer(vocab_size=310)), run).standing == {"problems"}
    assert not Subject(dataclasses.replace(SOUND, splits=Splits(pool=9, test=8, teacher=8)), run).standing


def test_fields_that_fit_no_row_and_too_few_problems_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "problems.jsonl", sums(20))
    experiment = dataclasses.replace(SOUND, problems=Files(path, Fields(answer="result")), teachers=(Recorded("teacher", path),))
    refused = said(experiment, tmp_path)
    assert "holds no usable problem; first reason, line 1: field 'result' is missing; its fields are question, answer" in refused
    assert "has no field 'trace'" in refused
    fewer = dataclasses.replace(SOUND, problems=Files(path), splits=Splits(pool=30, test=4))
    assert f"splits ask for 34 problems, and {path} has 20 rows" in said(fewer, tmp_path)


def test_rows_that_are_set_aside_are_noted_with_their_share(tmp_path: Path) -> None:
    path = write(tmp_path / "problems.jsonl", [*sums(30), *[{"question": "", "answer": "1"}] * 10])
    experiment = dataclasses.replace(
        SOUND, problems=Files(path), splits=Splits(pool=8, test=8), teachers=(Recorded("teacher", path),)
    )
    notes = said(experiment, tmp_path, "remarks")
    assert f"10 of 40 rows of {path} cannot be used, the first in line 31: field 'question' is empty" in notes


def recorded(tmp_path: Path, problems: list[dict[str, Any]], traces: list[dict[str, Any]], **changes: Any) -> Experiment:
    teacher = Recorded("teacher", write(tmp_path / "traces.jsonl", traces), gold=None)
    source = Files(write(tmp_path / "problems.jsonl", problems))
    return dataclasses.replace(SOUND, problems=source, splits=Splits(pool=8, test=8), teachers=(teacher,), **changes)


def test_recorded_traces_are_held_against_the_problems(tmp_path: Path) -> None:
    ours = recorded(tmp_path, sums(20), [{**row, "trace": "#### 1"} for row in sums(20)])
    assert "20 of 20 questions are among the problems" in said(ours, tmp_path, "seen")
    foreign = recorded(tmp_path, sums(20), [{"question": f"{row['question']} Think!", "trace": "#### 1"} for row in sums(20)])
    assert "none of its first 20 questions is among the problems" in said(foreign, tmp_path, "remarks")


def test_arms_that_will_be_empty_are_noted_and_a_rung_of_them_is_refused(tmp_path: Path) -> None:
    traces = [{"question": f"Say something about {n} .", "trace": f"Here it is: {n}"} for n in range(20)]
    some = recorded(tmp_path, sums(20), traces, **rung(arms=("all", "correct"), gold=True))
    notes = said(some, tmp_path, "remarks")
    assert "will skip W2SR-P (correct): none of the first 1,000 rows of teacher has a gold answer" in notes
    assert "will skip gold (gold): no problem has a worked solution" in notes
    assert not said(some, tmp_path)
    none = recorded(tmp_path, sums(20), traces, **rung(arms=("correct", "incorrect"), gold=False))
    assert "has nothing to learn from" in said(none, tmp_path)


def test_arms_that_the_objective_learns_nothing_from_are_noted_and_a_rung_of_them_is_refused(tmp_path: Path) -> None:
    only = Objective(OnCorrect(Nll()))
    notes = said(dataclasses.replace(SOUND, **rung(arms=("all", "incorrect"), objective=only)), tmp_path, "remarks")
    assert "will skip W2SR-N (incorrect): objective.loss looks at no token of incorrect traces" in notes
    unweighted = Objective(weights=TokenWeights(correct=0.0))
    alone = dataclasses.replace(SOUND, **rung(arms=("correct",), gold=True, objective=unweighted))
    refused = said(alone, tmp_path)
    assert "has nothing to learn from" in refused
    assert "gold (gold): objective.weights gives correct traces the weight 0" in refused


def test_an_arm_that_goes_on_with_its_own_answers_learns_from_them_whatever_its_traces_are(tmp_path: Path) -> None:
    right = OnPolicy(OnCorrect(Nll()), steps=2, problems=4)
    arms = ("all", Arm("wrong", Incorrect(), (Imitation(), right)))
    assert "(wrong)" not in said(dataclasses.replace(SOUND, **rung(arms=arms)), tmp_path, "remarks")


def test_rows_of_own_answers_are_rounded_up_for_the_mesh_and_told(tmp_path: Path) -> None:
    own = Policy(problems=3, rollouts=2, training=dataclasses.replace(TRAINING, batching=Batching(length=64)))
    odd = dataclasses.replace(SOUND, mesh=Mesh(2, 4), **rung(arms=("all", Arm("rl", Nothing(), (own,)))))
    assert not said(odd, tmp_path)
    assert "at least 8 rows of 64 tokens a step, 1 on each of 8 groups of devices" in said(odd, tmp_path, "seen")
    one = dataclasses.replace(odd, mesh=Mesh(data=1))  # 16 tokens to an answer leave room for four in a row
    assert "at least 2 rows of 64 tokens a step" in said(one, tmp_path, "seen")


def test_a_majority_of_too_few_is_noted(tmp_path: Path) -> None:
    one = dataclasses.replace(TEACHER, samples=1)
    alone = dataclasses.replace(SOUND, teachers=(one,), **rung(arms=("all", "majority"), curation=Curation(majority_votes=2)))
    assert "will skip Majority (majority): 1 traces a problem are fewer than" in said(alone, tmp_path, "remarks")
    assert not said(dataclasses.replace(alone, teachers=(TEACHER,)), tmp_path, "remarks")


def test_disk_room_and_a_place_that_cannot_be_written_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert "is no directory" in said(SOUND, tmp_path / "file" / "run")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "deep")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for place in ("link", "link/run", "circle", "circle/run"):
        assert "where nothing is; give another --root" in said(SOUND, tmp_path / place)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
    assert "has room for 10.0 kB, and the run's checkpoints need" in said(SOUND, tmp_path / "run")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written by this account" in said(SOUND, tmp_path / "run")


def test_parameters_that_fill_a_device_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("w2sr_jax.preflight.models._device_memory", lambda: 10_000)
    assert "a device has 10.0 kB" in said(SOUND, tmp_path).replace("one has", "a device has")


def test_weights_of_another_architecture_and_with_fewer_rows_than_tokens_are_refused(tmp_path: Path) -> None:
    import jax

    made = StandIns(tmp_path / "made")
    stored = dataclasses.replace(SMALL, vocab_size=100)
    pretrained.save(tmp_path / "weights", stored, transformer.init(stored, jax.random.key(0)))
    tokenizer = PretrainedTokenizer(str(made.tokenizer()))
    start = FromCheckpoint(str(tmp_path / "weights"))
    same = dataclasses.replace(SOUND, tokenizer=tokenizer, **rung(model=stored, start=start))
    assert "the tokenizer has 119 tokens but the model's embedding only 100 rows" in said(same, tmp_path / "run")
    other = dataclasses.replace(same, **rung(model=dataclasses.replace(stored, layers=2), start=start))
    assert "holds another architecture than the run's model: layers is 1 there and 2 here" in said(other, tmp_path / "run")


def test_a_chat_template_that_loses_the_question_is_refused(tmp_path: Path) -> None:
    directory = StandIns(tmp_path / "made").tokenizer()
    config = json.loads((directory / "tokenizer_config.json").read_text())
    config["chat_template"] = "{{ 'hello' }}"
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    found = looked_at(dataclasses.replace(SOUND, tokenizer=PretrainedTokenizer(str(directory))), tmp_path / "run")
    assert "the chat template of" in found["tokenizer"].refused[0]
    assert "drops or changes the question" in found["tokenizer"].refused[0]
    assert [name for name, one in found.items() if one.refused] == ["tokenizer"]  # said once


def test_a_server_that_answers_is_asked_for_nothing_but_its_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(Stub()) as stub:
        served = Served("teacher", stub.url, model=stub.models[0])
        assert f"answers without a key; it serves {stub.models[0]}" in said(asking(served), tmp_path, "seen")
        other = dataclasses.replace(served, model="another")
        assert "lists no model 'another'" in said(asking(other), tmp_path, "remarks").replace('"', "'")
        stub.models[:] = ["a", "b"]
        assert "serves 2 (a, b); set model to one" in said(asking(dataclasses.replace(served, model="")), tmp_path)
        assert not stub.requests


def asking(served: Served) -> Experiment:
    return dataclasses.replace(SOUND, teachers=(served,))


@pytest.mark.parametrize(
    ("status", "kind", "words"), [(404, "remarks", "does not list its models"), (401, "refused", "a valid key")]
)
def test_a_server_without_a_list_of_models_is_noted_and_one_that_wants_a_key_refused(
    tmp_path: Path, status: int, kind: str, words: str
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        served = Served("teacher", f"http://127.0.0.1:{server.server_address[1]}/v1", model="m")
        assert words in said(asking(served), tmp_path, kind)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


CONFIG = """
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.problems.settings import Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.batches.settings import Batching
from w2sr_jax.training.settings import Training
from w2sr_jax.experiment import ModelTeacher


def experiment():
    training = Training(steps=2, batching=Batching(rows=8))
    teacher = ModelTeacher(training=training, decoding=Decoding(batch=8))
    model = ModelConfig(width=32, layers=1, heads=4, kv_heads=2)
    rungs = (Rung("small", model, training=training),)
    splits = Splits(teacher=8, pool=8, test=8)
    return Experiment("told", rungs, (teacher,), splits=splits, decoding=Decoding(temperature=0.0, batch=8))
"""


def test_the_command_says_all_and_its_exit_code_whether_a_run_could_begin(
    tmp_path: Path, user_module: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config, root = str(user_module(CONFIG)), tmp_path / "runs"
    assert cli.run(["check", config, "--root", str(root)]) == 0
    assert f"Nothing stands in the way of {root / 'told'}" in capsys.readouterr().out
    wrong = ["--splits.test", "0", "--decoding.batch", "9"]
    assert cli.run(["check", config, "--root", str(root), *wrong]) == 2
    out = capsys.readouterr().out
    assert "REFUSED: decoding.batch is 9" in out
    assert "REFUSED: there are no test problems" in out
    assert "2 things stand in the way" in out
    assert cli.run(["run", config, "--root", str(root), "--plain", *wrong]) == 2
    assert "2 things stand in the way: (1) decoding.batch is 9" in capsys.readouterr().err
    assert not root.exists()
    assert cli.run(["check", config, "--root", str(root), "--shrink"]) == 0
    assert not root.exists()
    assert cli.run(["check", config, "--root", str(root), "--rung", "0"]) == 0


def test_a_rehearsal_keeps_the_shape_of_the_mesh_and_its_models_divide_over_it(tmp_path: Path) -> None:
    large = dataclasses.replace(SMALL, width=96, heads=12, kv_heads=12, mlp=96)
    training = dataclasses.replace(TRAINING, batching=Batching(length=256, rows=16), accumulation=4)
    experiment = dataclasses.replace(
        SOUND,
        rungs=(dataclasses.replace(RUNG, model=large, training=training),),
        decoding=Decoding(temperature=0.0, batch=16),
    )
    teacher = dataclasses.replace(TEACHER, model=large, training=training, decoding=Decoding(batch=16))
    for mesh in (Mesh(2, 2, 2), Mesh(1, 4, 2), Mesh(-1, 2, 2), Mesh(1, 1, 3)):
        shape = Shape(2 if mesh.data == -1 else mesh.data, mesh.fsdp, mesh.tensor)
        fitting = dataclasses.replace(experiment, mesh=mesh, teachers=(teacher,))
        small = rehearsal.shrink(fitting, tmp_path / str(shape))
        assert small.mesh == mesh
        assert refusals(small, meshes.shape) == []
        assert small.rungs[0].training.batching.rows % (small.rungs[0].training.accumulation * shape.ways) == 0
    wide = dataclasses.replace(training, batching=Batching(length=256, rows=64))
    pods = dataclasses.replace(
        experiment, teachers=(dataclasses.replace(teacher, training=wide),), **rung(model=large, training=wide)
    )
    pod = rehearsal.shrink(dataclasses.replace(pods, mesh=Mesh(1, 16, 2)), tmp_path / "pod")
    assert pod.mesh == Mesh(1, 4, 2)


def test_a_mesh_that_the_real_experiment_does_not_divide_over_ends_its_rehearsal_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rungs.0 \(small\): model: .*'kv_heads' of size 2 does not divide over mesh.tensor = 4"):
        rehearsal.shrink(dataclasses.replace(SOUND, mesh=Mesh(1, 1, 4)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_only_first_rows_tell_is_a_note_and_refuses_nothing(tmp_path: Path) -> None:
    rows = [*sums(1000), {"question": "What is a sum ?", "answer": "1", "why": "It is 1 ."}]
    path = write(tmp_path / "problems.jsonl", rows)
    late = dataclasses.replace(SOUND, problems=Files(path, Fields(solution="why")))
    assert "holds no usable problem" in said(late, tmp_path)  # a field that none of them has
    early = dataclasses.replace(SOUND, problems=Files(path))
    assert not said(early, tmp_path)
    notes = said(early, tmp_path, "remarks")
    assert "learns from worked solutions of the teacher split, and none of the first 1,000 problems has one" in notes
    assert "may have to skip gold (gold): none of the first 1,000 problems has a worked solution" in notes


def test_a_checkpoint_of_other_sizes_is_refused_from_its_headers(tmp_path: Path) -> None:
    import jax

    from w2sr_jax.training import checkpoints

    stored = dataclasses.replace(SMALL, vocab_size=304)
    checkpoints.save_params(tmp_path / "checkpoints", transformer.init(stored, jax.random.key(0)), {})
    start = FromCheckpoint(str(tmp_path / "checkpoints"))
    same = dataclasses.replace(SOUND, **rung(model=stored, start=start))
    assert not said(same, tmp_path / "run")
    other = dataclasses.replace(SOUND, **rung(model=dataclasses.replace(stored, mlp=32), start=start))
    assert "holds another architecture than it should: layers.mlp.down is" in said(other, tmp_path / "run")
