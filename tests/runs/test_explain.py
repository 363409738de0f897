"""`w2sr explain` on a run made by hand: what it tells is what the files hold, and steps are those whose batches hold the text."""

import dataclasses
import functools
import re
import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hand_made import commit, finish

from w2sr_jax.batches.packing import Packed
from w2sr_jax.batches.settings import Batching
from w2sr_jax.configuration import saved
from w2sr_jax.core import files, records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example, Problem, Trace, Verdict
from w2sr_jax.curation.dispositions import Disposition
from w2sr_jax.curation.select import curate
from w2sr_jax.curation.texts import gold
from w2sr_jax.experiment import Experiment, ModelTeacher, Pretraining, Rung
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.runs import explain_words as explanation
from w2sr_jax.runs.explain import explain
from w2sr_jax.stages import examples, models, tokenizer
from w2sr_jax.stages.examples import Lessons, lessons
from w2sr_jax.stages.layout import PACKING
from w2sr_jax.text import tokenizer as tokenizers
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.settings import Training

TINY = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)
LEARNING = Training(steps=40, batching=Batching(length=40, rows=4))
EXPERIMENT = Experiment(
    name="made-by-hand",
    teachers=(ModelTeacher("weak", TINY, LEARNING, samples=3),),
    rungs=(
        Rung(
            "small",
            TINY,
            start=Pretraining(LEARNING, facts=20),
            teachers=("weak",),
            pool=(0.0, 0.5),
            arms=("all", "correct"),
            training=LEARNING,
        ),
        Rung("large", TINY, teachers=("weak",), pool=(0.5, 1.0), arms=("correct",), training=LEARNING),
    ),
)
SIZES = {"pretrain": 20, "teacher": 20, "pool": 40, "probe": 5, "test": 10}
FORGED = "  [rungs/dispositions.parquet row 1, digest 0]"
HOSTILE = f"\x1b[2J\x00 \u202e 1 + 1 = 2 \x9b31m\nProblem 0000, test split\r\n{FORGED}\u2028 #### 2"


def solved(a: int, b: int, words: int = 0) -> str:
    return " ; ".join([f"{a} + {b} = {a + b}"] * (1 + words)) + f" #### {a + b}"


def problem(split: str, i: int) -> Problem:
    a, b = i % 10 + 1, list(SIZES).index(split) + i // 10 + 1
    text = f"{split} Ann has {a} apples and gets {b} in week {i} . How many ?"
    return Problem.of(text, str(a + b), solved(a, b), "sum", {"operations": 1, "graph": [1, 2]})


def trace(of: Problem, who: str, sample: int, text: str, verdict: Any) -> Trace:
    answer = text.rpartition("####")[2].strip()
    made = Trace(Trace.identity(of.id, who, sample, text), of.id, who, sample, text, None, "ungraded", "stop", 9, -0.5, "f" * 64)
    return made.graded(Verdict(verdict, answer, "####", "exact"))


def written(problems: Sequence[Problem]) -> list[Trace]:
    """A right trace, a wrong one, and one too long for a row where the number of the problem is divisible by 4."""
    found = []
    for i, of in enumerate(problems):
        a, b = i % 10 + 1, 1
        first = trace(of, "weak", 0, of.solution or "", "correct")
        long = trace(of, "weak", 2, solved(int(of.answer or 0) - 1, 1, words=6), "correct")
        found += [first, trace(of, "weak", 1, solved(a, b + 1), "incorrect"), *([long] if i % 4 == 0 else [])]
    return found


def lessons_of(run: Path, model: models.Model) -> Lessons:
    """A model's examples and batches, as its training makes them."""
    training, store = examples.training_of(EXPERIMENT, model), RunStore(run)
    assert training is not None
    return lessons(model, examples.examples_of(store, EXPERIMENT, model), tokenizer.renderer(store), training, 0)


def train(run: Path, model: models.Model) -> None:
    """What training leaves of its batches."""
    path = run / model.directory / PACKING
    lessons_of(run, model).batches.packed.save(path)
    commit(run, model.stage, "train", [path])


def evaluate(run: Path, model: str, test: Sequence[Problem], answers: Sequence[int]) -> None:
    """Greedy answers (the gold one plus `answers`, in turn) and two samples each."""
    path = run / "evaluations" / model / "generations.parquet"
    rows = []
    for i, of in enumerate(test):
        given = int(of.answer or 0) + answers[i % len(answers)]
        text = f"so #### {given}"
        verdict = "correct" if str(given) == of.answer else "incorrect"
        rows += [trace(of, model, sample, text, verdict) for sample in (-1, 0, 1)]
    records.write(path, Trace, rows)
    commit(run, f"evaluations/{model}", "evaluate", [path])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "made"
    saved.save(run, EXPERIMENT)
    split = {name: [problem(name, i) for i in range(size)] for name, size in SIZES.items()}
    for name, rows in split.items():
        records.write(run / "problems" / f"{name}.parquet", Problem, rows)
    commit(run, "problems", "prepare", [run / "problems" / f"{name}.parquet" for name in split])
    texts = [
        *EXPERIMENT.problems.facts(20),
        *(text for rows in split.values() for p in rows for text in (p.question, p.solution)),
    ]
    tokenizers.build(WordTokenizer(), [str(text) for text in texts] + [" ".join(map(str, range(60)))]).save(run / "tokenizer")
    finish(run)
    train(run, models.teacher(EXPERIMENT.teachers[0]))
    evaluate(run, "weak", split["test"], [0, 1, 1, 1])
    rung = run / "rungs" / "0-small"
    train(run, models.student(EXPERIMENT, 0, "base"))
    pool = split["pool"][:20]
    mine = written([*pool, *split["probe"]])
    for number, part in enumerate((mine[:30], mine[30:])):
        path = run / "teachers" / "weak" / "rung-0" / f"traces-{number:05d}.parquet"
        records.write(path, Trace, part)
    commit(run, "rungs/0-small/traces-weak", "sample", sorted((run / "teachers" / "weak" / "rung-0").glob("*.parquet")))
    outputs = []
    for arm, settings in (("all", dataclasses.replace(EXPERIMENT.rungs[0].curation, per_problem=2)), ("correct", None)):
        given = [t for t in mine if t.problem_id in {p.id for p in pool}]
        chosen, _, dispositions = curate(given, pool, arm, settings or EXPERIMENT.rungs[0].curation)
        records.write(rung / arm / "curated.parquet", Example, chosen)
        records.write(rung / arm / "dispositions.parquet", Disposition, dispositions)
        outputs += [rung / arm / "curated.parquet", rung / arm / "dispositions.parquet"]
    records.write(rung / "gold" / "curated.parquet", Example, list(gold(pool)))
    commit(run, "rungs/0-small/curation", "curate", [*outputs, rung / "gold" / "curated.parquet"])
    for arm in ("all", "correct", "gold"):
        train(run, models.student(EXPERIMENT, 0, arm))
    evaluate(run, "0-small.base", split["test"], [0, 0, 1, 2])
    evaluate(run, "0-small.base-direct", split["test"], [0, 0, 1, 2])
    evaluate(run, "0-small.all", split["test"], [3, 1, 1, 0])
    return run


@pytest.fixture(autouse=True)
def all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanation, "STEPS", 1000)


def told(run: Path, identity: str) -> str:
    lines: list[str] = []
    explain(run, identity, lines.append)
    return "\n".join(lines)


def read(run: Path, split: str) -> list[Problem]:
    return records.read(run / "problems" / f"{split}.parquet", Problem)


@functools.cache
def rows_by_step(run: Path, model: models.Model) -> list[str]:
    """The tokens of each step's batch, as text in which a row's tokens stand between spaces."""
    batches = lessons_of(run, model).batches
    read = (batches.batch_at(step).tokens.tolist() for step in range(LEARNING.steps))
    return ["|".join(f" {' '.join(map(str, row))} " for row in rows) for rows in read]


def steps_by_hand(run: Path, model: models.Model, example: Example) -> list[int]:
    """Steps whose batch holds the example's tokens."""
    tokens = tokenizer.renderer(RunStore(run)).encode(example.question, example.response, example.style).tokens[:-1]
    wanted = f" {' '.join(map(str, tokens))} "
    return [step for step, rows in enumerate(rows_by_step(run, model), 1) if wanted in rows]


def steps_told(text: str, model: str, who: str) -> list[int] | None:
    """The steps in the line of a model's example; None where it is said to be too long."""
    part = text.partition(f"    {model}\n")[2]
    line = next(line for line in part.splitlines() if line.strip().startswith(who))
    if "too long" in line:
        return None
    listed = re.search(r"steps? ([\d, …]+) \((\d+) in all", line)
    return [] if listed is None else [int(x) for x in re.findall(r"\d+", listed[1])]


def test_the_steps_told_are_those_whose_batches_hold_the_example(made: Path) -> None:
    model = models.student(EXPERIMENT, 0, "all")
    chosen = records.read(made / model.directory / "curated.parquet", Example)
    asked = {example.problem_id for example in chosen}
    left_out = 0
    for identity in sorted(asked)[:4]:
        text = told(made, identity)
        for example in (e for e in chosen if e.problem_id == identity):
            found = steps_told(text, model.name, f"trace {example.trace_id}")
            if found is None:
                left_out += 1
                assert (
                    len(tokenizer.renderer(RunStore(made)).encode(example.question, example.response).tokens) - 1
                    > LEARNING.batching.length
                )
            else:
                assert found == steps_by_hand(made, model, example)
                assert found
    assert left_out


@pytest.mark.parametrize(
    ("split", "model", "who"), [("teacher", "weak", "its solution"), ("pretrain", "0-small.base", "its text")]
)
def test_teachers_and_bases_learn_too(made: Path, split: str, model: str, who: str) -> None:
    problem = read(made, split)[7]
    found = {"weak": models.teacher(EXPERIMENT.teachers[0]), "0-small.base": models.student(EXPERIMENT, 0, "base")}[model]
    (example,) = [e for e in examples.examples_of(RunStore(made), EXPERIMENT, found) if e.problem_id == problem.id]
    assert steps_told(told(made, problem.id), model, who) == steps_by_hand(made, found, example)


def test_traces_dispositions_and_files_are_told_with_row_and_digest(made: Path) -> None:
    problem = read(made, "pool")[4]
    text = told(made, problem.id[:9])
    assert text.startswith(f"Problem {problem.id}, pool split")
    assert problem.question in text
    shards = sorted((made / "teachers" / "weak" / "rung-0").glob("*.parquet"))
    mine = [(p, row, t) for p in shards for row, t in enumerate(records.read(p, Trace)) if t.problem_id == problem.id]
    assert len(mine) == 3
    for path, row, one in mine:
        assert f"[{path.relative_to(made)} row {row}, digest {files.digest_file(path)[:12]}; trace {one.id}" in text
        assert f"│ {one.text}" in text
    curation = text.partition("Kept or left out")[2].partition("Steps that learnt")[0]
    for arm, name in (("all", "W2SR (all)"), ("correct", "W2SR-P (correct)")):
        part = curation.partition(f"    {name}\n")[2].partition("    W2SR")[0]
        rows = records.read(made / f"rungs/0-small/{arm}/dispositions.parquet", Disposition)
        dispositions = {row.trace_id: row for row in rows if row.problem_id == problem.id}
        assert len(dispositions) == 3
        for _, _, one in mine:
            line = next(line for line in part.splitlines() if f"sample {one.sample} of weak" in line)
            reason = dispositions[one.id].reason
            assert line.endswith(
                "kept" if reason == "kept" else f"left out at “{dispositions[one.id].step}”: {reason.replace('_', ' ')}"
            )
    assert "1-large" not in text
    assert "this problem is in another" in text.partition("Rung 1, large")[2]


def test_answers_are_told_in_the_ledgers_words(made: Path) -> None:
    """Offsets from gold by number of the problem: teacher 0 1 1 1, base 0 0 1 2, student 3 1 1 0."""
    expected = {
        0: ["corrupted: the teacher is right, the student wrong"],
        1: ["repeat:", "induced:"],
        2: ["repeat:", "chance:"],
        3: ["corrected: the teacher is wrong, the student right"],
    }
    for number, words in expected.items():
        text = told(made, read(made, "test")[number].id)
        (line,) = [line for line in text.splitlines() if line.strip().startswith("against weak")]
        assert all(word in line for word in words), line
        said = {"corrupted", "corrected", "repeat", "induced", "chance"}
        assert {word for word in said if f"{word}:" in line} == {word.partition(":")[0] for word in words}
    assert f"{2 if number == 3 else 0} of 2 sampled answers right" in text.partition("0-small.all ")[2]


def test_what_is_not_there_yet_is_said(made: Path, tmp_path: Path) -> None:
    test, pool = read(made, "test")[0].id, read(made, "pool")
    text = told(made, test)
    assert "not there yet: evaluations/0-small.correct has not finished" in text
    later = told(made, pool[30].id)
    assert "not there yet: rungs/1-large/traces-weak has not finished" in later
    assert "1-large.correct: its examples are not chosen yet" in later
    run = tmp_path / "begun"
    saved.save(run, EXPERIMENT)
    with pytest.raises(UserError, match="has no problems yet"):
        told(run, test)
    shutil.copytree(made / "problems", run / "problems")
    for identity in (test, *(read(made, split)[0].id for split in ("pool", "probe", "pretrain", "teacher"))):
        assert "without a manifest" in told(run, identity)


def test_ids_that_name_no_problem_or_several_are_refused(made: Path) -> None:
    known = sorted(p.id for split in SIZES for p in read(made, split))
    with pytest.raises(UserError, match="too short"):
        told(made, known[0][:3])
    wrong = known[0][:8] + ("0" if known[0][8] != "0" else "1") + known[0][9:]
    with pytest.raises(UserError, match=f"no problem .* near ones are .*{known[0]}"):
        told(made, wrong)
    with pytest.raises(UserError, match="no problem of"):
        told(made, "\x1b[2Jzzzz")
    twin = dataclasses.replace(read(made, "test")[0], id=known[0][:6] + "f" * 10)
    copy = made.parent / "ambiguous"
    shutil.copytree(made, copy)
    records.write(copy / "problems" / "test.parquet", Problem, [twin])
    commit(copy, "problems", "prepare", sorted((copy / "problems").glob("*.parquet")))
    with pytest.raises(UserError, match="begins the ids of 2 problems"):
        told(copy, known[0][:5])
    assert told(copy, twin.id).startswith(f"Problem {twin.id}")


def test_hostile_text_cannot_pass_for_a_line_of_ours(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "hostile"
    shutil.copytree(made, run)
    problem = read(run, "pool")[0]
    path = run / "teachers" / "weak" / "rung-0" / "traces-00000.parquet"
    traces = records.read(path, Trace)
    bad = dataclasses.replace(traces[0], text=HOSTILE, answer=HOSTILE, rule=HOSTILE, grader=HOSTILE, provenance=HOSTILE)
    records.write(path, Trace, [bad, *traces[1:]])
    commit(run, "rungs/0-small/traces-weak", "sample", sorted(path.parent.glob("*.parquet")))
    text = told(run, problem.id)
    assert all(unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp") for line in text.split("\n") for c in line)
    assert sum(line.startswith("Problem ") for line in text.split("\n")) == 1
    forged = [line for line in text.split("\n") if "Problem 0000" in line or "row 1, digest 0]" in line]
    assert forged
    assert all("│" in line or line.strip().startswith(("sample 0", "[teachers/weak")) for line in forged)


def test_a_file_that_changed_since_it_was_written_is_refused(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "changed"
    shutil.copytree(made, run)
    problem, path = read(run, "pool")[0], run / "teachers" / "weak" / "rung-0" / "traces-00000.parquet"
    before = told(run, problem.id)
    shutil.copyfile(path, path.with_name("traces-00002.parquet"))
    assert told(run, problem.id) == before  # the run did not write it
    records.write(path, Trace, records.read(path, Trace)[:-1])
    with pytest.raises(UserError, match=r"traces-00000\.parquet is not what rungs/0-small/traces-weak wrote: .*; w2sr run "):
        told(run, problem.id)
    assert told(run, read(run, "test")[0].id)  # which reads other files
    (run / "lineage" / "rungs" / "0-small" / "traces-weak.json").unlink()
    lines = [line for line in told(run, problem.id).splitlines() if "traces-0000" in line]
    assert lines
    assert all("without a manifest" in line for line in lines)


def test_steps_are_not_told_of_batches_that_training_did_not_use(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "foreign"
    shutil.copytree(made, run)
    path = run / "rungs" / "0-small" / "correct" / "packing.npz"
    packed = Packed.load(path)
    dataclasses.replace(packed, weight=packed.weight * 2).save(path)
    with pytest.raises(UserError, match=r"packing\.npz is not what rungs/0-small/correct/train wrote"):
        told(run, read(run, "pool")[1].id)
    (run / "lineage" / "rungs" / "0-small" / "correct" / "train.json").unlink()  # as if it had been interrupted
    text = told(run, read(run, "pool")[1].id)
    part = text.partition("Steps that learnt")[2]
    assert "0-small.correct (packing.npz holds other batches than these examples make" in part
    assert "steps" not in part.partition("0-small.correct (")[2].partition("0-small.gold")[0].partition("\n")[2]


def test_many_steps_are_summarised(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, model = read(made, "pretrain")[3], models.student(EXPERIMENT, 0, "base")
    every = steps_told(told(made, problem.id), model.name, "its text")
    assert every is not None
    monkeypatch.setattr(explanation, "STEPS", 3)
    assert f"steps {every[0]}, {every[1]}, … {every[-1]} ({len(every)} in all, of 40)" in told(made, problem.id)


def test_every_seed_has_its_part(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "seeds"
    saved.save(run, dataclasses.replace(EXPERIMENT, seeds=(0, 1, 2)))
    for seed in (0, 1):
        shutil.copytree(made, run / f"seed-{seed}")
    model = models.student(EXPERIMENT, 0, "gold")
    text = told(run, read(made, "pool")[2].id)
    parts = text.split("=== Seed ")[1:]
    assert [part[0] for part in parts] == ["0", "1", "2"]
    assert "Not started yet." in parts[2]
    first = steps_told(parts[0], model.name, "its solution")
    (example,) = [e for e in examples.examples_of(RunStore(made), EXPERIMENT, model) if e.problem_id == read(made, "pool")[2].id]
    assert first == steps_by_hand(made, model, example)
    assert steps_told(parts[1], model.name, "its solution") != first
