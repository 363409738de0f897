"""`w2sr launch`: what it prints, hands over and refuses."""

from pathlib import Path

import jobs
import pytest

from w2sr_jax.cli import main as cli

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "quickstart.py")


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_job_is_printed_and_nothing_submitted(tmp_path, capsys) -> None:
    options = ["--nodes", "2", "--root", "/shared/runs", "--set", "partition=p"]
    overrides = ["--name", "mine", "--rungs.0.training.learning-rate", "3e-4", "--rung", "0"]
    assert cli.run(["launch", CONFIG, "--on", "slurm", *options, *overrides]) == 0
    text = capsys.readouterr().out
    assert "#SBATCH --job-name=mine\n" in text
    assert f"run {CONFIG} --grace 25 {' '.join(overrides)} --root /shared/runs" in text
    assert list(tmp_path.iterdir()) == []


def test_a_job_is_handed_to_the_tool(tmp_path, monkeypatch, capsys) -> None:
    jobs.program(tmp_path, "sbatch", f'cp "$1" {tmp_path}/submitted; [ ! -e {tmp_path}/broken ]')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    command = ["launch", CONFIG, "--on", "slurm", "--nodes", "2", "--root", "/shared/runs"]
    assert cli.run(command) == 0
    assert cli.run([*command, "--submit"]) == 0
    assert capsys.readouterr().out == (tmp_path / "submitted").read_text()
    (tmp_path / "broken").touch()
    assert cli.run([*command, "--submit"]) == 2
    assert "sbatch ended with exit code 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "needs --on: slurm, jobset, tpu-vm, skypilot, xpk"),
        (["--on", "slurn", "--nodes", "2"], "did you mean 'slurm'? there are slurm, jobset, tpu-vm, skypilot, xpk"),
        (["--on", "slurm"], "how many hosts?"),
        (["--on", "slurm", "--nodes", "2"], "--root runs is a directory of this machine"),
        (["--on", "slurm", "--nodes", "2", "--image", "i"], "--on slurm has no use for --image"),
        (["--on", "xpk", "--topology", "v5p:2x2x4", "--nodes", "1"], "would run on the head host only"),
        (["--on", "jobset", "--topology", "v5p:2x2x3"], "v5p comes as"),
        (["--on", "slurm", "--nodes", "1", "--process", "1"], "--process is not for a job"),
        (["--on", "slurm", "--nodes", "1", "--require", "nonsense"], "nonsense"),
        (["--on", "slurm", "--nodes", "2", "--gpus", "4", "--mesh.fsdp", "3"], "does not divide the 8 GPU devices"),
        (["--on", "xpk", "--topology", "v5p:2x2x4", "--mesh.data", "2", "--mesh.fsdp", "4"], "uses 8 of 16 devices"),
        (["--on", "slurm", "--nodes", "1", "--job", "a b"], "names no job everywhere"),
    ],
)
def test_what_would_not_run_is_refused(options: list[str], words: str, capsys) -> None:
    assert cli.run(["launch", CONFIG, *options]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


def test_a_tool_that_is_missing_is_named(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    command = ["launch", CONFIG, "--on", "jobset", "--nodes", "1", "--root", "gs://b/runs", "--image", "i", "--submit"]
    assert cli.run(command) == 2
    assert "hands the job to kubectl, which is not on this machine's path" in capsys.readouterr().err


def test_help_lists_the_settings_of_every_cluster(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.run(["launch", "--help"])
    text = capsys.readouterr().out
    for words in ("--set with --on xpk", "partition", "zone", "claim", "--scratch"):
        assert words in text
