"""`w2sr publish` on a run made by hand: the traces with their verdicts, held-out ones apart; half-made ones are not published."""

import dataclasses
from pathlib import Path

import pytest
from hand_made import commit, finish

from w2sr_jax.cli import main as cli
from w2sr_jax.configuration import saved
from w2sr_jax.convert.publish import publish
from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace, VerdictName
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.teachers import arrayrecord, recorded
from w2sr_jax.teachers.settings import Recorded

TINY = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)
EXPERIMENT = Experiment(
    name="made",
    teachers=(ModelTeacher("weak", TINY), ModelTeacher("other", TINY)),
    rungs=(Rung("small", TINY, teachers=("weak", "other"), arms=("all",)),),
)
POOL = [Problem.of(f"What is {i} + 1 ?", str(i + 1), None, "sum") for i in range(6)]
PROBE = [Problem.of(f"What is {i} + 2 ?", str(i + 2), None, "sum") for i in range(2)]


def written(of: Problem, teacher: str, sample: int) -> Trace:
    verdict: VerdictName = "incorrect" if sample else "correct"
    text = f"{teacher} {sample} #### {of.answer}"
    return Trace(
        Trace.identity(of.id, teacher, sample, text), of.id, teacher, sample, text, of.answer, verdict, "stop", 3, -0.5, "f"
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "runs" / "made"
    saved.save(run, EXPERIMENT)
    for name, rows in (("pool", POOL), ("probe", PROBE)):
        records.write(run / "problems" / f"{name}.parquet", Problem, rows)
    finish(run)
    for teacher in ("weak", "other"):
        traces = [written(of, teacher, sample) for of in (*POOL, *PROBE) for sample in range(2)]
        paths = [run / "teachers" / teacher / "rung-0" / f"traces-{number:05d}.parquet" for number in range(2)]
        for path, part in zip(paths, (traces[:9], traces[9:])):
            records.write(path, Trace, part)
        commit(run, f"rungs/0-small/traces-{teacher}", "sample", paths)
    return run


def test_traces_are_published_with_their_verdicts(run: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    out = publish(run, 0, None, tmp_path / "out", lines.append)
    problems, traces = arrayrecord.read_traces(out)
    assert problems == POOL
    assert traces == [written(of, teacher, sample) for teacher in ("weak", "other") for of in POOL for sample in range(2)]
    assert arrayrecord.read_traces(out, "probe")[0] == PROBE
    assert lines == [f"Traces of weak, other (train 24, probe 8) in {out}; a teacher reads them with path = 'tfds:{out}:train'"]
    student = recorded.load(Recorded("weak", f"tfds:{out}:train", where=(("teacher", "weak"), ("verdict", "correct"))), POOL)
    assert [trace.text for trace in student.traces] == [written(of, "weak", 0).text for of in POOL]


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["publish", str(run), "--teacher", "other", "--out", str(tmp_path / "out")]) == 0
    assert {trace.teacher for trace in arrayrecord.read_traces(tmp_path / "out")[1]} == {"other"}
    assert cli.run(["publish", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "is not empty; give a directory that does not exist yet" in capsys.readouterr().err


def test_what_is_not_there_is_not_published(run: Path, tmp_path: Path) -> None:
    for rung, teacher, sentence in (
        (1, None, "there is no rung 1"),
        (-1, None, "no rung -1"),
        (0, "strong", "it has weak, other"),
    ):
        with pytest.raises(UserError, match=sentence):
            publish(run, rung, teacher, tmp_path / "out")
    (run / "lineage" / "rungs" / "0-small" / "traces-other.json").unlink()
    with pytest.raises(UserError, match=r"traces-other has not finished; `w2sr sample .* --rung 0` makes the traces"):
        publish(run, 0, None, tmp_path / "out")
    several = tmp_path / "several"
    saved.save(several, dataclasses.replace(EXPERIMENT, seeds=(0, 1)))
    with pytest.raises(UserError, match=r"a run for each of its seeds; give one of them, such as .*seed-0"):
        publish(several, 0, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()
