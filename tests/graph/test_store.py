"""A run's files are given out as their manifests say, and refused in a sentence otherwise."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hand_made import commit

from w2sr_jax.cli import main as cli
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph import manifest, store
from w2sr_jax.graph.store import RunStore

MADE, STANDS_ON_IT = "problems", "rungs/0-a/traces-t"
TABLE, SHARD = "problems/pool.parquet", "teachers/t/rung-0/traces-00000.parquet"
STEP = "teachers/t/checkpoints/8"


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    """Two stages of which one needs the other, and a sealed directory."""
    run = RunStore(tmp_path / "run")
    for name in (TABLE, SHARD, f"{STEP}/params/a", f"{STEP}/lineage/metadata", "tokenizer/one.json", "tokenizer/two.json"):
        run.path(name).parent.mkdir(parents=True, exist_ok=True)
        run.path(name).write_text(f"what {name} holds")
    files.seal(run.path(STEP))
    commit(run.directory, MADE, "prepare", [run.path(TABLE)])
    commit(run.directory, "tokenizer", "prepare", sorted(run.path("tokenizer").iterdir()))
    commit(run.directory, STANDS_ON_IT, "sample", [run.path(SHARD)], needs=(MADE,))
    commit(run.directory, "teachers/t/train", "train", artifacts={STEP: "d" * 64})
    return run


def test_what_a_stage_wrote_is_given_out(run: RunStore) -> None:
    assert run.file(TABLE) == run.optional(TABLE) == run.path(TABLE)
    assert run.below("teachers/t/rung-0/traces-") == [run.path(SHARD)]
    assert run.folder("tokenizer") == run.path("tokenizer")
    assert run.digest(TABLE) == files.digest_file(run.path(TABLE))
    assert run.artifact("teachers/t/train") == (run.path(STEP), "d" * 64)
    assert {made.stage for made in run.manifests()} == {MADE, "tokenizer", STANDS_ON_IT, "teachers/t/train"}
    store.check(run.path(TABLE))
    store.check(run.path("elsewhere.txt"))


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
def test_a_damaged_file_is_refused_with_its_stage(run: RunStore, damage: Callable[[Path], None]) -> None:
    assert run.file(SHARD)
    damage(run.path(SHARD))
    for ask in (
        lambda: run.file(SHARD),
        lambda: run.optional(SHARD),
        lambda: run.below("teachers/t/rung-0/"),
        lambda: store.check(run.path(SHARD)),
    ):
        with pytest.raises(UserError, match=rf"{SHARD}.* {STANDS_ON_IT} wrote.*; w2sr run .* makes it anew"):
            ask()
    assert run.file(TABLE)  # is not concerned


def test_what_no_stage_wrote_is_not_given_out(run: RunStore) -> None:
    beside = "teachers/t/rung-0/traces-00001.parquet"
    shutil.copyfile(run.path(SHARD), run.path(beside))
    assert run.optional(beside) is None
    assert run.below("teachers/t/rung-0/traces-") == [run.path(SHARD)]
    with pytest.raises(UserError, match=r"traces-00001.* was not written by a finished stage: no manifest names it"):
        run.file(beside)
    with pytest.raises(UserError, match=r"pretrain.parquet is not there yet"):
        run.file("problems/pretrain.parquet")
    run.path("tokenizer/added_tokens.json").write_text("{}")
    with pytest.raises(UserError, match=r"added_tokens.json was not written by the run"):
        run.folder("tokenizer")


def test_a_manifest_that_is_damaged_or_another_stages_is_refused(run: RunStore) -> None:
    path, other = (manifest.path(run.directory, stage) for stage in (STANDS_ON_IT, MADE))
    sound = path.read_bytes()
    for data in (b"", sound[:-20], sound.replace(b'"sample"', b'"simple"'), other.read_bytes()):
        path.write_bytes(data)
        for ask in (lambda: run.file(SHARD), lambda: run.manifest(STANDS_ON_IT)):
            with pytest.raises(UserError, match=rf"the manifest .*{STANDS_ON_IT}.json is damaged, of another version or another"):
                ask()
        assert run.file(TABLE)
        assert run.damaged_manifests() == [path]
    path.write_bytes(sound)
    assert run.file(SHARD)


def test_what_was_made_from_other_inputs_is_refused(run: RunStore) -> None:
    run.path(TABLE).write_text("other problems")
    commit(run.directory, MADE, "prepare", [run.path(TABLE)])
    assert run.file(TABLE)
    for ask in (lambda: run.file(SHARD), lambda: run.manifest(STANDS_ON_IT)):
        with pytest.raises(UserError, match=f"{STANDS_ON_IT} of .* was made from another {MADE} than is there now"):
            ask()
    commit(run.directory, "rungs/0-a/curation", "curate", [run.path("tokenizer/one.json")], needs=(STANDS_ON_IT,))
    with pytest.raises(UserError, match=f"was made from another {MADE} than"):
        run.manifest("rungs/0-a/curation")


def test_a_manifest_on_which_others_stand_is_missed(run: RunStore) -> None:
    manifest.path(run.directory, MADE).unlink()
    for ask in (lambda: run.file(TABLE), lambda: run.manifest(MADE), lambda: run.manifests()):
        with pytest.raises(UserError, match=f"{MADE}.json, on which {STANDS_ON_IT} stands, is missing"):
            ask()
    manifest.path(run.directory, STANDS_ON_IT).unlink()  # as in a run that has not come so far
    assert run.manifest(MADE) is None
    with pytest.raises(UserError, match="no manifest names it"):
        run.file(TABLE)


def test_a_sealed_directory_is_the_one_that_was_made(run: RunStore) -> None:
    made = run.artifact("teachers/t/train")
    assert run.part(made, "lineage/metadata") == run.path(f"{STEP}/lineage/metadata")
    flip(run.path(f"{STEP}/lineage/metadata"))
    with pytest.raises(UserError, match=r"lineage/metadata does not have the digest in DIGESTS.json"):
        run.part(made, "lineage/metadata")
    files.seal(run.path(STEP))  # sound again, and another one
    with pytest.raises(UserError, match=r"checkpoints/8/DIGESTS.json is not what teachers/t/train wrote"):
        run.artifact("teachers/t/train")
    (damaged,) = manifest.broken_files(run.directory, manifest.read(run.directory, "teachers/t/train"))
    assert damaged[0] == STEP  # all of it, so that none of it is trained on
    shutil.rmtree(run.path(STEP))
    with pytest.raises(UserError, match="checkpoints/8, which teachers/t/train made, is missing"):
        run.artifact("teachers/t/train")


def test_grading_a_file_of_a_run_compares_it_with_its_manifest(run: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    graded = run.path("evaluations/t/answers.jsonl")
    graded.parent.mkdir(parents=True)
    graded.write_text('{"gold": "4", "text": "#### 4"}\n')
    commit(run.directory, "evaluations/t", "evaluate", [graded])
    command = ["grade", str(graded), "--gold", "gold", "--text", "text", "--plain"]
    assert cli.run(command) == 0
    graded.write_text('{"gold": "5", "text": "#### 4"}\n')
    assert cli.run(command) == 2
    assert "answers.jsonl is not what evaluations/t wrote" in capsys.readouterr().err
