"""The worked examples of docs/extending.md do what the page says, in files of their own beside an unchanged package."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import doc_pages
import doc_runs
import jax.numpy as jnp
import numpy as np
import pytest
from doc_pages import ROOT

from w2sr_jax.core import files, records
from w2sr_jax.core.records import Example, Trace
from w2sr_jax.curation.dispositions import KEPT, Disposition
from w2sr_jax.graph.stage import Silent
from w2sr_jax.graph.store import RunStore
from w2sr_jax.losses.inputs import Distribution, Tokens, models_of
from w2sr_jax.problems import source
from w2sr_jax.runs.explain import explain
from w2sr_jax.runs.show import show
from w2sr_jax.stages.execute import execute
from w2sr_jax.training import journal
from w2sr_jax.training.settings import Training

PAGE = "docs/extending.md"
PAGE_TEXT = (ROOT / PAGE).read_text(encoding="utf-8")


TABLE = re.findall(r"^\| (?:\[.*?\]\(#([\w-]+)\)|its preset).*?\| (?:`([\w/.]+)`)? ?\| (\d+) \| (\d+) \|$", PAGE_TEXT, re.M)


def test_the_table_counts_what_the_sections_change() -> None:
    """The files that sections define are those of the table, outside of the package or new in it; of others, lines are added."""
    files_of = {file for _, file, _, _ in TABLE if file}
    assert files_of == {block.file for block in doc_pages.blocks(ROOT / PAGE, "python") if not block.reason}
    assert all(file.startswith("configs/") or not (ROOT / file).exists() for file in files_of)
    changed = [int(files) for *_, files, _ in TABLE]
    added = [int(lines) for *_, lines in TABLE]
    diffs = [block.text.splitlines()[3:] for block in doc_pages.blocks(ROOT / PAGE, "diff")]
    assert sum(changed) == len(diffs)
    assert [lines for lines in added if lines] == [sum(line.startswith("+") for line in diff) for diff in diffs]
    assert not any(line.startswith("-") for diff in diffs for line in diff)


def _tokens(logits: np.ndarray, target: np.ndarray, verdict: np.ndarray) -> Tokens:
    count = len(target)
    whole = jnp.ones(count, jnp.int32)
    return Tokens(jnp.array(logits), jnp.array(target), whole, jnp.array(verdict), jnp.zeros(count), {}, jnp.float32(0.0))


def test_the_loss_is_the_hinge_on_the_gap(directory: Path) -> None:
    loss: Any = doc_runs.load(PAGE, "configs/margin.py", directory).rungs[0].objective.loss
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 5)).astype(np.float32)
    target, verdict = rng.integers(5, size=6), np.array([1, -1, 0, 1, 1, -1])
    nll = np.log(np.exp(logits).sum(-1)) - logits[np.arange(6), target]
    rival = np.array([max(np.delete(row, index)) for row, index in zip(logits, target)])
    hinge = np.maximum(0.0, 2.0 - (logits[np.arange(6), target] - rival))
    np.testing.assert_allclose(loss(_tokens(logits, target, verdict)), nll + 0.1 * hinge * (verdict > 0), rtol=1e-5)


def test_the_loss_on_the_teacher_is_a_skewed_kl(directory: Path) -> None:
    loss: Any = doc_runs.load(PAGE, "configs/skewed.py", directory).rungs[0].objective.loss
    assert models_of(loss) == ("teacher",)
    rng = np.random.default_rng(1)
    logits, teacher = (rng.normal(size=(5, 4)).astype(np.float32) for _ in range(2))
    target, available = rng.integers(4, size=5), np.array([True, True, False, True, False])
    student, weak = (np.exp(each) / np.exp(each).sum(-1, keepdims=True) for each in (logits.astype(float), teacher.astype(float)))
    skewed = (weak * np.log(weak / (0.1 * weak + 0.9 * student))).sum(-1)
    tokens = _tokens(logits, target, np.ones(5, int))
    tokens = tokens._replace(models={"teacher": Distribution(jnp.array(teacher), jnp.array(available))})
    expected = -np.log(student[np.arange(5), target]) + 0.5 * skewed * available
    np.testing.assert_allclose(loss(tokens), expected, rtol=1e-5)


def test_the_loss_on_the_teacher_sees_what_was_recorded(directory: Path) -> None:
    experiment = doc_runs.load(PAGE, "configs/skewed.py", directory)
    rung = dataclasses.replace(
        experiment.rungs[0], curation=dataclasses.replace(experiment.rungs[0].curation, keep_unfinished=True)
    )
    experiment = dataclasses.replace(experiment, rungs=(dataclasses.replace(rung, arms=("all",)),))
    more = ("--splits.teacher", "20", "--teachers.0.training.steps", "2", "--rungs.0.training.log-every", "1")
    execute(doc_runs.small(experiment, *more), directory / "runs" / "skewed", Silent())
    lines = (directory / "runs" / "skewed" / "rungs" / "0-small" / "all" / "metrics.jsonl").read_text().splitlines()
    assert all(line["loss"] > line["nll"] + 1e-3 for line in map(json.loads, lines))


def test_the_source_gives_the_beginning_of_what_it_has(directory: Path) -> None:
    experiment = doc_runs.load(PAGE, "configs/sums.py", directory)
    problems, _ = source.load(experiment.problems, 30)
    assert len(problems) == 30
    assert problems == source.load(experiment.problems)[0][:30]
    for problem in problems:
        left, right = (int(word) for word in problem.question.split() if word.isdecimal())
        assert problem.answer == str(left + right)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunStore]:
    """One run with all that the page defines: loss, source, teacher, arm, training stage and stage."""
    directory = tmp_path_factory.mktemp("extending")
    with doc_runs.inside(directory):
        loaded = {path.stem: doc_runs.load(PAGE, f"configs/{path.name}", directory) for path in doc_runs.configurations(PAGE)}
        rung = loaded["margin"].rungs[0]
        concise = loaded["concise"].rungs[0].selected_arms[1]
        own = loaded["own_answers"].rungs[0].selected_arms[1]
        stage = dataclasses.replace(own.train[1], training=Training(steps=2, batching=rung.training.batching))
        own = dataclasses.replace(own, train=(own.train[0], stage))
        policy = loaded["policy"].rungs[0].selected_arms[1]
        stage = dataclasses.replace(policy.train[1], steps=3, problems=16, rollouts=4)
        policy = dataclasses.replace(policy, train=(policy.train[0], stage))
        experiment = dataclasses.replace(
            loaded["clumsy"],
            name="all-mine",
            problems=loaded["sums"].problems,
            rungs=(dataclasses.replace(rung, teachers=("clumsy",), arms=("correct", concise, own, policy), gold=False),),
            extra=loaded["lengths"].extra,
            trackers=loaded["sheet"].trackers,
        )
        experiment = doc_runs.small(experiment, "--rungs.0.training.steps", "20", "--splits.pool", "80")
        page = execute(experiment, directory / "runs" / "all-mine", Silent())
        assert page is not None
        yield RunStore(directory / "runs" / "all-mine")


def test_the_run_has_a_report_with_every_student(run: RunStore) -> None:
    models = files.read_json(run.file("report/results.json"))["models"]
    assert {"0-small.correct", "0-small.concise", "0-small.all-own", "0-small.policy"} <= models.keys()
    page = run.file("report/index.html").read_text(encoding="utf-8")
    assert page.count("W2SR-P, concise") > 3  # in tables and charts
    assert ">all-own<" not in page


def test_the_run_keeps_the_code_that_it_is_made_of(run: RunStore) -> None:
    kept = {path.name for path in (run.directory / "config").rglob("*.py")}
    of_teachers_with_distributions = {"skewed.py"}
    assert {path.name for path in doc_runs.configurations(PAGE)} - of_teachers_with_distributions <= kept


def test_the_teacher_is_wrong_as_often_as_it_is_told(run: RunStore) -> None:
    traces = [trace for path in run.below("teachers/clumsy/rung-0/") for trace in records.iterate(path, Trace)]
    wrong = sum(trace.verdict == "incorrect" for trace in traces)
    assert len(traces) == 2 * len({trace.problem_id for trace in traces})
    assert {trace.verdict for trace in traces} == {"correct", "incorrect"}
    assert abs(wrong / len(traces) - 0.3) < 0.15


def test_the_arm_keeps_correct_traces_that_are_not_long(run: RunStore) -> None:
    table = {
        arm: records.read(run.file(f"rungs/0-small/{arm}/dispositions.parquet"), Disposition) for arm in ("correct", "concise")
    }
    kept = {arm: {row.trace_id for row in rows if row.reason == KEPT} for arm, rows in table.items()}
    assert kept["concise"]
    assert kept["concise"] <= {row.trace_id for row in table["correct"] if row.reason in (KEPT, "over_quota")}


def test_the_training_stage_goes_on_from_the_imitation_on_its_own_answers(run: RunStore) -> None:
    first, second = (run.manifest(f"rungs/0-small/all-own/{name}") for name in ("stage-1/train", "train"))
    assert first is not None
    assert second is not None
    assert "rungs/0-small/all-own/stage-1/train" in second.needs
    assert 0 < second.measures["examples"] <= 4 * 80
    assert second.artifacts.keys() != first.artifacts.keys()


def test_the_training_stage_learns_with_the_loss_of_its_rung(run: RunStore) -> None:
    """The rung's has a hinge on correct texts besides the negative log-likelihood, as all lessons are."""
    lines = (run.path("rungs/0-small/all-own") / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(line["loss"] > line["nll"] + 1e-3 for line in map(json.loads, lines))
    settings = run.manifest("rungs/0-small/all-own/train").settings  # type: ignore[union-attr]
    assert settings["objective"] == run.manifest("rungs/0-small/correct/train").settings["recipe"]["objective"]  # type: ignore[union-attr]


def test_what_it_learnt_from_is_shown_and_explained(run: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    """The lessons are correct answers of the student's own, and every one of them lies in the packed rows."""
    folder = "rungs/0-small/all-own"
    lessons = records.read(run.file(f"{folder}/lessons.parquet"), Example)
    curated = records.read(run.file(f"{folder}/curated.parquet"), Example)
    assert len(lessons) == run.manifest(f"{folder}/train").measures["examples"]  # type: ignore[union-attr]
    assert {one.id for one in lessons}.isdisjoint(one.id for one in curated)
    assert run.optional("rungs/0-small/correct/lessons.parquet") is None
    for number in (0, len(lessons) - 1):
        show(run.directory, number, arm="all-own", plain=True)
        page = capsys.readouterr().out
        assert f"Example {number} of {len(lessons):,} (from 0), 0-small.all-own, {folder}/lessons.parquet row {number}" in page
        assert "packed in row" in page
        assert "OwnAnswers chose this text itself" in " ".join(page.split())
    told: list[str] = []
    explain(run.directory, lessons[0].problem_id, told.append)
    mine = told.index(
        next(line for line in told if "0-small.all-own" in line and "all-own-1" not in line and line[:5] == "    0")
    )
    of_problem = [one for one in lessons if one.problem_id == lessons[0].problem_id]
    assert "from the texts that its training stage OwnAnswers chose itself" in told[mine + 1]
    packed = [line for line in told[mine:] if "a text of 0-small.all-own: packed in row" in line]
    assert len(packed) == len(of_problem)


def test_the_policy_learns_from_what_it_drew(run: RunStore) -> None:
    """The loss of a step against the log-probabilities that the engine gave, and rewards against the verdicts."""
    folder = run.path("rungs/0-small/policy")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    learned = 0
    for line in lines:
        traces = records.read(folder / "drawn" / f"{line['step'] - 1}.parquet", Trace)
        rewards = np.array([trace.verdict == "correct" for trace in traces], float).reshape(16, 4)
        advantage = (rewards - rewards.mean(axis=1, keepdims=True)).reshape(-1)
        loss = -sum(each * sum(trace.logprobs) for each, trace in zip(advantage, traces, strict=True)) / (16 * 4 * 112)
        assert line["loss"] == pytest.approx(loss, abs=1e-5)
        assert line["reward"] == pytest.approx(rewards.mean())
        learned += bool(np.abs(advantage).sum())
    assert learned


def test_the_stage_counts_what_the_teacher_wrote(run: RunStore) -> None:
    lengths: dict[str, list[int]] = {}
    for path in run.below("teachers/clumsy/rung-0/"):
        for trace in records.iterate(path, Trace):
            lengths.setdefault(trace.verdict, []).append(len(trace.text.split()))
    expected = {verdict: int(np.quantile(each, 0.9, method="higher")) for verdict, each in lengths.items()}
    assert files.read_json(run.file("lengths/clumsy.json")) == expected


def test_the_tracker_has_a_row_for_every_scalar_that_a_training_logged(run: RunStore) -> None:
    folder = run.path("rungs/0-small/correct")
    rows = [line.split(",") for line in (folder / "trackers" / "sheet" / "scalars.csv").read_text().splitlines()]
    logged = journal.read(folder / "metrics.jsonl")
    for name in ("loss", "gradient_norm"):
        own = [(int(step), float(value)) for step, each, value in rows if each == f"train/{name}"]
        assert own == [(line["step"], line[name]) for line in logged]
    assert (folder / "trackers" / "sheet" / "scalars.state").read_text() == "finished"


def test_the_command_is_a_file_and_a_line(run: RunStore, tmp_path: Path) -> None:
    """In a copy of the package to which the page's line and file are added."""
    changes = _changes("/commands.py")
    assert [line[0] for change in changes for line in change.splitlines()[3:]].count("+") == 1
    _apply(changes, tmp_path)
    file = "w2sr_jax/cli/lengths.py"
    (tmp_path / file).write_text(doc_runs.named(PAGE, file).text, encoding="utf-8")
    command = [sys.executable, "-m", "w2sr_jax.cli"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    asked = subprocess.run([*command, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "w2sr lengths RUN" in asked.stdout
    done = subprocess.run([*command, "lengths", run.directory], cwd=tmp_path, env=environment, capture_output=True, text=True)
    expected = files.read_json(run.file("lengths/clumsy.json"))
    assert done.stdout.splitlines() == [f"clumsy: {verdict} {words} words" for verdict, words in expected.items()], done.stderr


def test_the_cluster_is_a_file_and_a_line(tmp_path: Path) -> None:
    """In a copy of the package to which the page's line and file are added, with stand-ins of ssh and of w2sr."""
    _apply(_changes("/launch/launch.py"), tmp_path)
    file = "w2sr_jax/launch/clusters/ssh.py"
    (tmp_path / file).write_text(doc_runs.named(PAGE, file).text, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    stands_in = {"ssh": 'bash -c "$2"', "w2sr": 'touch "${@: -1}"; exit "${@: -1}"'}
    for name, lines in stands_in.items():
        program = tmp_path / "bin" / name
        program.write_text(f'#!/usr/bin/env bash\necho "$1: ${{*:2}}" >>{tmp_path}/{name}.called\n{lines}\n', encoding="utf-8")
        program.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    config = str(ROOT / "configs" / "quickstart.py")
    asked = ["--on", "ssh", "--nodes", "2", "--root", "/shared/it's", "--set"]
    command = [sys.executable, "-m", "w2sr_jax.cli", "launch", config, *asked]
    work = tmp_path / "a directory"
    work.mkdir()
    done = subprocess.run([*command, "hosts=one,two", "--submit"], cwd=work, env=environment, capture_output=True, text=True)
    assert "ended with exit code 1" in done.stderr  # process 1 ends with its number
    calls = sorted((tmp_path / "w2sr.called").read_text().splitlines())
    meeting = "--coordinator one:4000 --processes 2 --process"
    assert calls == [f"run: {config} --grace 25 --root /shared/it's --plain --wait 900 {meeting} {process}" for process in (0, 1)]
    assert sorted(path.name for path in work.iterdir()) == ["0", "1"]
    assert [line.partition(":")[0] for line in sorted((tmp_path / "ssh.called").read_text().splitlines())] == ["one", "two"]
    done = subprocess.run([*command, "hosts=one"], cwd=work, env=environment, capture_output=True, text=True)
    assert (done.returncode, "--set hosts names 1" in done.stderr) == (2, True)


FAMILY = """
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import torch
import transformers

from w2sr_jax.models import presets, transformer
from w2sr_jax.models.hf import pretrained

config = transformers.SeedOssConfig(
    vocab_size=301, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    head_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)
torch.manual_seed(0)
model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape))
directory = Path(sys.argv[1])
model.save_pretrained(directory / "theirs")
tokens = np.random.default_rng(0).integers(3, 301, (2, 20)).astype(np.int32)
with torch.no_grad():
    want = model(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
ours, params = pretrained.load(directory / "theirs")
positions = np.broadcast_to(np.arange(20), tokens.shape)
found = transformer.logits(ours, params, transformer.forward(ours, params, tokens, positions))
np.testing.assert_allclose(np.asarray(found), want, rtol=0, atol=1e-4)
assert ours.qkv_bias and np.std(want) > 0.1
pretrained.save(directory / "ours", ours, params, extra={"model_type": "seed_oss"})
again = transformers.AutoModelForCausalLM.from_pretrained(directory / "ours")
assert type(again).__name__ == "SeedOssForCausalLM"
assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
presets.SEED_OSS_36B.check()
assert 35e9 < presets.SEED_OSS_36B.parameters() < 37e9
"""


def test_the_family_computes_what_transformers_does(tmp_path: Path) -> None:
    """In a copy of the package to which the page's changes are applied."""
    pytest.importorskip("torch")
    changes = [
        block.text for block in doc_pages.blocks(ROOT / PAGE, "diff") if "families" in block.text or "presets" in block.text
    ]
    assert len(changes) == 2
    _apply(changes, tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "XLA_FLAGS": ""}
    done = subprocess.run([sys.executable, "-c", FAMILY, tmp_path], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _changes(file: str) -> list[str]:
    """The page's changes of a file of the package."""
    changes = [block.text for block in doc_pages.blocks(ROOT / PAGE, "diff") if file in block.text.splitlines()[0]]
    assert changes
    return changes


def _apply(changes: list[str], directory: Path) -> None:
    """A copy of the package in a directory, with changes as `git diff` writes them."""
    shutil.copytree(ROOT / "w2sr_jax", directory / "w2sr_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for change in changes:
        command = ["git", "apply", "--recount", "-"]
        done = subprocess.run(command, cwd=directory, input=change, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stderr}\n{change}"
