"""A run's files are given out as their manifests say, and refused in a sentence otherwise."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from w2sr_jax.cli import main as cli
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph import manifest, verified

MADE, STANDS_ON_IT = "problems", "rungs/0-a/traces-t"
TABLE, SHARD = "problems/pool.parquet", "teachers/t/rung-0/traces-00000.parquet"
STEP = "teachers/t/checkpoints/8"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two stages of which one needs the other, and a sealed directory."""
    run = tmp_path / "run"
    for name in (TABLE, SHARD, f"{STEP}/params/a", f"{STEP}/lineage/metadata", "tokenizer/one.json", "tokenizer/two.json"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(f"what {name} holds")
    files.seal(run / STEP)
    manifest.Stage(run, MADE, "prepare", "0").commit([run / TABLE], {}, {})
    manifest.Stage(run, "tokenizer", "prepare", "0").commit(sorted((run / "tokenizer").iterdir()), {}, {})
    manifest.Stage(run, STANDS_ON_IT, "sample", "0", needs=(MADE,)).commit([run / SHARD], {}, {})
    manifest.Stage(run, "teachers/t/train", "train", "0").commit([], {STEP: "d" * 64}, {})
    return run


def test_what_a_stage_wrote_is_given_out(run: Path) -> None:
    assert verified.file(run, TABLE) == verified.optional(run, TABLE) == run / TABLE
    assert verified.below(run, "teachers/t/rung-0/traces-") == [run / SHARD]
    assert verified.folder(run, "tokenizer") == run / "tokenizer"
    assert verified.digest(run, TABLE) == files.digest_file(run / TABLE)
    assert verified.artifact(run, "teachers/t/train") == (run / STEP, "d" * 64)
    assert {made.stage for made in verified.manifests(run)} == {MADE, "tokenizer", STANDS_ON_IT, "teachers/t/train"}
    verified.check(run / TABLE)
    verified.check(run / "elsewhere.txt")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def emptied(path: Path) -> None:
    path.write_text("")


def removed(path: Path) -> None:
    path.unlink()


def made_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [flip, emptied, removed, made_a_directory])
def test_a_damaged_file_is_refused_with_its_stage(run: Path, damage: Callable[[Path], None]) -> None:
    assert verified.file(run, SHARD)
    damage(run / SHARD)
    for ask in (
        lambda: verified.file(run, SHARD),
        lambda: verified.optional(run, SHARD),
        lambda: verified.below(run, "teachers/t/rung-0/"),
        lambda: verified.check(run / SHARD),
    ):
        with pytest.raises(UserError, match=rf"{SHARD}.* {STANDS_ON_IT} wrote.*; w2sr run .* makes it anew"):
            ask()
    assert verified.file(run, TABLE)  # is not concerned


def test_what_no_stage_wrote_is_not_given_out(run: Path) -> None:
    beside = "teachers/t/rung-0/traces-00001.parquet"
    shutil.copyfile(run / SHARD, run / beside)
    assert verified.optional(run, beside) is None
    assert verified.below(run, "teachers/t/rung-0/traces-") == [run / SHARD]
    with pytest.raises(UserError, match=r"traces-00001.* was not written by a finished stage: no manifest names it"):
        verified.file(run, beside)
    with pytest.raises(UserError, match=r"pretrain.parquet is not there yet"):
        verified.file(run, "problems/pretrain.parquet")
    (run / "tokenizer" / "added_tokens.json").write_text("{}")
    with pytest.raises(UserError, match=r"added_tokens.json was not written by the run"):
        verified.folder(run, "tokenizer")


def test_a_manifest_that_is_damaged_or_another_stages_is_refused(run: Path) -> None:
    path, other = (manifest.manifest_path(run, stage) for stage in (STANDS_ON_IT, MADE))
    sound = path.read_bytes()
    for data in (b"", sound[:-20], sound.replace(b'"sample"', b'"simple"'), other.read_bytes()):
        path.write_bytes(data)
        for ask in (lambda: verified.file(run, SHARD), lambda: verified.manifest(run, STANDS_ON_IT)):
            with pytest.raises(UserError, match=rf"the manifest .*{STANDS_ON_IT}.json is damaged, of another version or another"):
                ask()
        assert verified.file(run, TABLE)
        assert verified.damaged(run) == [path]
    path.write_bytes(sound)
    assert verified.file(run, SHARD)


def test_what_was_made_from_other_inputs_is_refused(run: Path) -> None:
    (run / TABLE).write_text("other problems")
    manifest.Stage(run, MADE, "prepare", "0").commit([run / TABLE], {}, {})
    assert verified.file(run, TABLE)
    for ask in (lambda: verified.file(run, SHARD), lambda: verified.manifest(run, STANDS_ON_IT)):
        with pytest.raises(UserError, match=f"{STANDS_ON_IT} of .* was made from another {MADE} than is there now"):
            ask()
    behind = manifest.Stage(run, "rungs/0-a/curation", "curate", "0", needs=(STANDS_ON_IT,))
    behind.commit([run / "tokenizer/one.json"], {}, {})
    with pytest.raises(UserError, match=f"was made from another {MADE} than"):
        verified.manifest(run, "rungs/0-a/curation")


def test_a_manifest_on_which_others_stand_is_missed(run: Path) -> None:
    manifest.manifest_path(run, MADE).unlink()
    for ask in (lambda: verified.file(run, TABLE), lambda: verified.manifest(run, MADE), lambda: verified.manifests(run)):
        with pytest.raises(UserError, match=f"{MADE}.json, on which {STANDS_ON_IT} stands, is missing"):
            ask()
    manifest.manifest_path(run, STANDS_ON_IT).unlink()  # as in a run that has not come so far
    assert verified.manifest(run, MADE) is None
    with pytest.raises(UserError, match="no manifest names it"):
        verified.file(run, TABLE)


def test_a_sealed_directory_is_the_one_that_was_made(run: Path) -> None:
    made = verified.artifact(run, "teachers/t/train")
    assert verified.part(run, made, "lineage/metadata") == run / STEP / "lineage/metadata"
    flip(run / STEP / "lineage/metadata")
    with pytest.raises(UserError, match=r"lineage/metadata does not have the digest in DIGESTS.json"):
        verified.part(run, made, "lineage/metadata")
    files.seal(run / STEP)  # sound again, and another one
    with pytest.raises(UserError, match=r"checkpoints/8/DIGESTS.json is not what teachers/t/train wrote"):
        verified.artifact(run, "teachers/t/train")
    stage = manifest.Stage(run, "teachers/t/train", "train", "0")
    assert stage.standing().damaged == (run / STEP,)  # all of it, so that none of it is trained on
    shutil.rmtree(run / STEP)
    with pytest.raises(UserError, match="checkpoints/8, which teachers/t/train made, is missing"):
        verified.artifact(run, "teachers/t/train")


def test_grading_a_file_of_a_run_compares_it_with_its_manifest(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graded = run / "evaluations" / "t" / "answers.jsonl"
    graded.parent.mkdir(parents=True)
    graded.write_text('{"gold": "4", "text": "#### 4"}\n')
    manifest.Stage(run, "evaluations/t", "evaluate", "0").commit([graded], {}, {})
    command = ["grade", str(graded), "--gold", "gold", "--text", "text", "--plain"]
    assert cli.run(command) == 0
    graded.write_text('{"gold": "5", "text": "#### 4"}\n')
    assert cli.run(command) == 2
    assert "answers.jsonl is not what evaluations/t wrote" in capsys.readouterr().err
