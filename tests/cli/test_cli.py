import subprocess
import sys

import minimal_results
import pytest

from w2sr_jax.cli import commands
from w2sr_jax.cli import main as cli

TINY = """
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Splits

def experiment():
    return Experiment("tiny", (Rung("a", ModelConfig()),), splits=Splits(teacher=5, pool=5, test=5))
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny_cli_config.py"
    path.write_text(TINY)
    yield path
    sys.modules.pop("tiny_cli_config", None)


def test_help_teaches_and_imports_nothing_heavy():
    heavy = {"jax", "numpy", "tyro", "rich"}
    code = f"import sys; from w2sr_jax.cli import main as cli; cli.run(['--help']); sys.exit(bool({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    names = ("run", "sample", "curate", "train", "evaluate", "report", "show", "import", "export", "publish", "--shrink")
    for command in (*names, "configs/quickstart.py"):
        assert command in shown


def test_a_finished_run_is_looked_at_without_what_only_work_needs():
    """What takes long to import: programs that train, draw, read data sets or ask servers."""
    idle = {"grain", "matplotlib", "orbax", "transformers", "datasets", "tensorflow_datasets", "openai", "tensorboardX"}
    modules = "preflight.checks, w2sr_jax.runs.requirements, w2sr_jax.stages.execute, w2sr_jax.cli.console, w2sr_jax.report.write"
    code = f"import sys, w2sr_jax.{modules}; print(sorted({idle} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", ["run", "sample"])
def test_help_of_a_command(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run([command, "--help"])
    assert ended.value.code == 0
    assert "--rung" in capsys.readouterr().out


@pytest.mark.parametrize("command", commands.all_commands())
def test_every_command_is_there_and_helps(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: w2sr {command}" in shown
    assert commands.all_commands()[command].about.split(", ")[0][:30] in " ".join(shown.split())


def test_help_of_a_configuration_lists_every_setting(config, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(["run", str(config), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--rungs.0.training.learning-rate" in shown
    assert "Peak learning rate" in shown


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["rnu"], "did you mean 'run'"),
        (["run", "absent.py"], "absent.py does not exist"),
        (["show", "nowhere"], "not a run directory"),
        (["publish", "nowhere", "--out", "there"], "not a run directory"),
        (["import", "./nowhere", "there"], "does not exist"),
        (["export", "nowhere", "there"], "nowhere"),
        (["export", "nowhere", "there", "--shard-size", "much"], "is not a size"),
        (["import", "owner/name", "there", "--processes", "2"], "coordinator"),
        (["report", "nowhere"], "neither a configuration"),
        (["run", "{config}", "--rungs.0.teachers", "nobody"], "'nobody' is not among"),
        (["run", "{config}", "--rung", "7"], "no rung 7"),
        (["run", "{config}", "--mesh.data", "3", "--mesh.fsdp", "5"], "mesh"),
        (["run", "{config}", "--splits.pool", "-3"], "split pool"),
        (["run", "{config}", "--problems.largest", "2"], "largest"),
        (["evaluate", "{config}"], "nothing to evaluate yet"),
        (["run", "{config}", "--root", "az://bucket/runs"], "nothing here reads or writes az://"),
        (["run", "{config}", "--root", "gs:///runs"], "nothing here reads or writes gs://"),
        (["report", "hdfs://host/runs/mine"], "nothing here reads or writes hdfs://"),
        (["plan", "az://bucket/runs/mine", "--topology", "v5p:2x2x4"], "nothing here reads or writes az://"),
        (["show", "az://bucket/runs/mine"], "nothing here reads or writes az://"),
        (["run", "{config}", "--scratch", "gs://bucket/there"], "nothing here reads or writes gs://"),
        (["import", "owner/name", "gs://bucket/there"], "nothing here reads or writes gs://"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(config, capsys, argv, said):
    assert cli.run([part.format(config=config) for part in argv]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def test_weights_that_are_not_there_are_refused_before_anything_is_written(config, tmp_path, capsys):
    config.write_text(
        TINY.replace('Rung("a", ModelConfig())', 'Rung("a", ModelConfig(), FromCheckpoint("./nowhere"))').replace(
            "import Experiment,", "import Experiment, FromCheckpoint,"
        )
    )
    assert cli.run(["run", str(config)]) == 2
    assert "'./nowhere' does not exist" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_an_unknown_option_suggests_the_right_one(config, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(["run", str(config), "--rungs.0.training.learning-rat", "1"])
    assert ended.value.code == 2
    assert "--rungs.0.training.learning-rate" in capsys.readouterr().err


def manifests(root):
    return {path.stem: path.stat().st_mtime_ns for path in (root / "runs" / "tiny" / "lineage").rglob("*.json")}


@pytest.mark.parametrize(
    ("override", "anew", "said"),
    [
        (["--seeds", "5"], set(), None),
        (["--rungs.0.training.steps", "3"], set(), None),
        (["--tokenizer.largest", "999"], {"tokenizer"}, "tokenizer is done again, since settings.largest is 999, was 99"),
        (["--splits.pool", "6"], {"problems", "tokenizer"}, "problems is done again, since splits.pool is 6, was 5"),
    ],
)
def test_other_settings_make_anew_what_lies_downstream_of_them(config, capsys, override, anew, said):
    assert cli.run(["sample", str(config), "--plain"]) == 2  # prepared, but nothing to sample yet
    assert "teachers/teacher/train (w2sr train)" in capsys.readouterr().err
    before = manifests(config.parent)
    assert before.keys() == {"problems", "tokenizer"}
    assert cli.run(["sample", str(config), "--plain", *override]) == 2
    heard = capsys.readouterr()
    assert "teachers/teacher/train (w2sr train)" in heard.err
    after = manifests(config.parent)
    assert {name for name in before if after[name] != before[name]} == anew
    assert heard.out.count("is done again") == len(anew)
    assert said is None or said in heard.out


def test_a_dry_run_says_what_would_be_done_and_does_nothing(config, capsys):
    assert cli.run(["sample", str(config), "--plain"]) == 2
    before = {path: path.stat().st_mtime_ns for path in (config.parent / "runs").rglob("*")}
    capsys.readouterr()
    assert cli.run(["run", str(config), "--dry-run", "--tokenizer.largest", "999"]) == 0
    said = capsys.readouterr().out.splitlines()
    states = {line.split()[1]: line.split()[0] for line in said[:-1]}
    assert states["problems"] == "stands"
    assert set(states.values()) == {"stands", "to"}
    assert any(line.startswith("to do") and line.endswith("settings.largest is 999, was 99") for line in said)
    assert said[-1].startswith("1 stands, ")
    assert said[-1].endswith("Nothing was written.")
    assert {path: path.stat().st_mtime_ns for path in (config.parent / "runs").rglob("*")} == before


def test_settings_of_an_existing_run_cannot_be_changed(config, capsys):
    cli.run(["sample", str(config)])
    capsys.readouterr()
    assert cli.run(["train", "runs/tiny", "--rungs.0.training.steps", "3"]) == 2
    assert "cannot be changed" in capsys.readouterr().err


def test_a_second_process_on_a_run_is_refused(config, capsys):
    from w2sr_jax.core.process.lock import locked

    with locked(config.parent / "runs" / "tiny"):
        assert cli.run(["run", str(config)]) == 2
    assert "tiny is in use by process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (["--rungs.0.training.batching.rows", "0"], "batching.rows"),
        (["--rungs.0.training.batching.length", "-7"], "batching.length"),
        (["--rungs.0.model.width", "-7"], "rungs.0 (a): the model's width is -7"),
        (["--rungs.0.model.heads", "0"], "rungs.0 (a): the model's heads is 0"),
        (["--rungs.0.model.rope-theta", "-7"], "rope_theta"),
        (["--teachers.0.samples", "0"], "teachers.0 (teacher): samples is 0"),
        (["--teachers.0.weight", "-7"], "teachers.0 (teacher): weight is -7"),
        (["--decoding.max-tokens", "0"], "decoding.max_tokens is 0"),
        (["--decoding.temperature", "nan"], "decoding.temperature"),
        (["--evaluation.temperature", "0", "--evaluation.samples", "2"], "evaluation.temperature is 0"),
        (["--rungs.0.probe.patience", "0"], "probe.patience is 0"),
        (["--tokenizer.largest", "-7"], "tokenizer.largest"),
    ],
)
def test_a_setting_out_of_range_is_refused_before_anything_is_computed(config, capsys, override, said):
    try:
        code = cli.run(["run", str(config), *override])
    except SystemExit as ended:  # raised by what parses the command line
        code = ended.code
    assert code == 2
    assert said.replace(" ", "") in "".join(capsys.readouterr().err.split()).replace("│", "")
    assert not (config.parent / "runs").exists()


def test_a_run_that_finished_nothing_gives_way_to_the_mended_command(config, capsys):
    assert cli.run(["run", str(config), "--problems.largest", "2"]) == 2
    assert cli.run(["run", str(config), "--splits.pool", "-3"]) == 2
    assert "split pool" in capsys.readouterr().err
    assert cli.run(["run", str(config), "--rung", "0", "--splits.test", "-3"]) == 2
    said = capsys.readouterr().err
    assert "split test" in said
    assert "is done again" not in said
    assert cli.run(["sample", str(config), "--plain"]) == 2
    assert "waits for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["run", "{config}", "--require", "vs_teachers>0"], "did you mean 'vs_teacher'?"),
        (["run", "{config}", "--require", "vs_teacher>0", "--require", "b.accuracy>0"], "there is no 'b' here"),
        (["run", "{config}", "--require", "a.majority.accuracy>0"], "there is no 'a.majority' here"),
        (["run", "{config}", "--require", "vs_teacher"], "has no comparison"),
        (["run", "{config}", "--require=vs_teacher==0"], "which no single number equals"),
        (["train", "{config}", "--require", "vs_teacher>0"], "--require is for w2sr run and w2sr report"),
        (["train", "{config}", "--require=vs_teacher>0"], "--require is for w2sr run and w2sr report"),
    ],
)
def test_a_requirement_that_means_nothing_is_refused_before_anything_is_written(config, capsys, argv, said):
    assert cli.run([part.format(config=config) for part in argv]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (config.parent / "runs").exists()


def finished(low, **more):
    """What takes the place of the work: a report on rung "a" whose student is so much better, at the least."""

    def execute(experiment, run, *_):
        from w2sr_jax.report.write import write

        growth = minimal_results.difference(0.1, low, 0.2, n=50, left=0.6, right=0.5)
        comparison = minimal_results.comparison(vs_teacher=growth, teacher="teacher")
        rung = minimal_results.rung(0, "a", ["teacher"], {"correct": "0-a.correct"}, {"correct": comparison})
        return write(run / "report", minimal_results.results([rung], name="tiny", test_problems=50, **more)).index

    return execute


@pytest.mark.parametrize("command", ["run", "report"])
@pytest.mark.parametrize(
    ("low", "wanted", "code"),
    [
        (0.05, ["vs_teacher>0"], 0),
        (-0.05, ["vs_teacher>0"], 3),
        (0.05, ["vs_teacher>0", "a.correct.vs_teacher>=5%", "verdict==yes", "test_problems>=50"], 0),
        (0.05, ["vs_teacher>0", "seeds>=3"], 3),
        (0.05, ["rgr>0"], 3),  # not known is not met
        (-0.05, [], 0),
    ],
)
def test_a_requirement_that_is_not_met_is_an_exit_code_of_its_own(config, capsys, monkeypatch, command, low, wanted, code):
    monkeypatch.setattr("w2sr_jax.stages.execute.execute", finished(low))
    assert cli.run([command, str(config), *(part for one in wanted for part in ("--require", one))]) == code
    said = capsys.readouterr()
    assert "the student “a” (W2SR-P)" in said.out
    assert ("not met" in said.err) == (code == 3)
    assert said.out.count("required ") + said.err.count("required ") == len(wanted)


def test_without_a_report_no_requirement_is_met(config, capsys, monkeypatch):
    monkeypatch.setattr("w2sr_jax.stages.execute.execute", lambda *_: None)
    assert cli.run(["run", str(config), "--require", "vs_teacher>-1"]) == 3
    assert "there is no report yet" in capsys.readouterr().err
    assert cli.run(["run", str(config)]) == 0


def test_a_rehearsal_says_so_before_and_after_and_meets_no_verdict(config, capsys, monkeypatch):
    monkeypatch.setattr("w2sr_jax.stages.execute.execute", finished(0.05, rehearsal=True))
    assert cli.run(["run", str(config), "--rehearsal", "--require", "verdict==yes"]) == 3
    said = capsys.readouterr().out
    assert said.count("Rehearsal: tiny models that began with random weights") == 2
    assert "Answer: unknown, since this is a rehearsal." in said
    monkeypatch.setattr("w2sr_jax.stages.execute.execute", finished(0.05))
    assert cli.run(["run", str(config)]) == 0
    assert "ehearsal" not in capsys.readouterr().out
