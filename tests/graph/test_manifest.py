"""What a manifest says, what of it counts, and that damage to it and to what it names is told."""

import dataclasses
from pathlib import Path

import pytest
from hand_made import commit

from w2sr_jax.core import files
from w2sr_jax.graph import manifest


@pytest.fixture
def run(tmp_path: Path) -> Path:
    files.write_text(tmp_path / "run" / "a.txt", "data")
    return tmp_path / "run"


def broken(run: Path, stage: str) -> list[tuple[str, str]]:
    made = manifest.read(run, stage)
    assert made is not None
    return manifest.broken_files(run, made)


def test_it_is_read_as_it_was_written(run: Path) -> None:
    made = commit(run, "deep/a", "prepare", [run / "a.txt"], needs=("b",))
    assert manifest.read(run, "deep/a") == made
    assert made.outputs == {"a.txt": files.digest_file(run / "a.txt")}
    assert manifest.read(run, "a") is None


def test_counts_and_times_do_not_enter_digests(run: Path) -> None:
    made = commit(run, "a", "prepare", [run / "a.txt"])
    assert dataclasses.replace(made, measures={"seconds": 2.0}, versions={"jax": "9"}).digest() == made.digest()
    files.write_text(run / "a.txt", "other data")
    assert commit(run, "a", "prepare", [run / "a.txt"]).digest() != made.digest()


def test_versions_name_what_a_claim_depends_on() -> None:
    assert {"python", "jax", "numpy", "w2sr-jax"} <= set(manifest.versions())


def test_a_sealed_file_must_stay_as_it_is_but_does_not_enter_the_digest(run: Path) -> None:
    digests = set()
    for text in ("12:00", "12:01"):
        files.write_text(run / "page.html", text)
        digests.add(commit(run, "a", "report", [run / "a.txt"], seals=[run / "page.html"]).digest())
    assert len(digests) == 1
    assert broken(run, "a") == []
    (run / "page.html").write_text("12:02")
    assert broken(run, "a") == [("page.html", f"{run / 'page.html'} does not have the digest in its manifest")]


def test_a_sealed_directory_must_stay_as_it_is(run: Path) -> None:
    step = run / "checkpoints" / "10"
    files.write_text(step / "params" / "array", "weights")
    files.seal(step)
    commit(run, "a", "train", artifacts={"checkpoints/10": "digest"})
    assert broken(run, "a") == []
    (step / "params" / "array").write_text("weighty")
    ((name, words),) = broken(run, "a")
    assert (name, "array" in words) == ("checkpoints/10", True)
    (step / "params" / "array").unlink()
    ((name, words),) = broken(run, "a")
    assert (name, "is missing" in words) == ("checkpoints/10", True)


def test_every_byte_of_a_manifest_counts(run: Path) -> None:
    made = commit(run, "a", "prepare", [run / "a.txt"])
    path = manifest.path(run, "a")
    sound = path.read_bytes()
    ignored = 0
    for index in range(len(sound)):
        path.write_bytes(sound[:index] + bytes([sound[index] ^ 1]) + sound[index + 1 :])
        found = manifest.read(run, "a")
        if found is not None:  # white space between values says nothing
            assert sound[index : index + 1].isspace()
            assert found == made
            ignored += 1
    assert ignored < len(sound) / 10
    path.write_bytes(sound[: len(sound) // 2])
    assert manifest.read(run, "a") is None
    path.write_bytes(sound)
    assert manifest.read(run, "a") == made


def test_a_manifest_that_names_a_file_outside_of_the_run_is_not_sound(run: Path) -> None:
    made = commit(run, "a", "prepare", [run / "a.txt"])
    (digest,) = made.outputs.values()
    manifest.write(run, dataclasses.replace(made, outputs={"../outside.txt": digest}))
    assert manifest.read(run, "a") is None
