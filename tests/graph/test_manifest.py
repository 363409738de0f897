import pytest

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph import manifest
from w2sr_jax.graph.manifest import Stage


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


def finish(run, name, text="data", settings="s", needs=(), reads=()):
    stage = Stage(run, name, "prepare", settings, needs, reads)
    path = run / f"{name.replace('/', '-')}.txt"
    files.write_text(path, text)
    stage.commit([path], {}, {"seconds": 1.0})
    return stage


def test_a_stage_is_current_once_committed(run):
    stage = Stage(run, "a", "prepare", "s")
    assert stage.current() is None
    assert finish(run, "a").current() is not None


def test_other_settings_or_a_changed_output_make_it_stale(run):
    finish(run, "a")
    assert Stage(run, "a", "prepare", "other").current() is None
    stage = Stage(run, "a", "prepare", "s")
    (run / "a.txt").write_text("tampered")
    assert stage.current() is None
    (run / "a.txt").unlink()
    assert stage.current() is None


def test_a_change_upstream_reaches_every_stage_below(run):
    finish(run, "a", "one")
    finish(run, "b", needs=("a",))
    finish(run, "c", needs=("b",))
    assert all(Stage(run, name, "prepare", "s", (need,)).current() for name, need in (("b", "a"), ("c", "b")))
    finish(run, "a", "two")
    assert Stage(run, "b", "prepare", "s", ("a",)).current() is None
    assert Stage(run, "c", "prepare", "s", ("b",)).current() is not None  # until b has been made again with other contents
    finish(run, "b", "other", needs=("a",))
    assert Stage(run, "c", "prepare", "s", ("b",)).current() is None


def test_times_do_not_enter_digests(run):
    stage = Stage(run, "a", "prepare", "s")
    files.write_text(run / "a.txt", "data")
    first = stage.commit([run / "a.txt"], {}, {"seconds": 1.0})
    second = stage.commit([run / "a.txt"], {}, {"seconds": 2.0})
    assert first.digest() == second.digest()


def test_a_users_file_is_an_input_by_content(run, tmp_path):
    path = tmp_path / "traces.jsonl"
    path.write_text("1")
    stage = finish(run, "a", reads=(path,))
    assert stage.current() is not None
    path.write_text("22")
    assert stage.current() is None
    path.unlink()
    with pytest.raises(UserError, match="does not exist"):
        stage.current()


def test_replacing_leaves_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "x"
    files.write_text(path, "old")

    def fail():
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_versions_name_what_a_claim_depends_on():
    assert {"python", "jax", "numpy", "w2sr-jax"} <= set(manifest.versions())


def test_a_damaged_output_is_named(run):
    stage = finish(run, "a")
    (run / "a.txt").write_text("tampered")
    standing = stage.standing()
    assert standing.damaged == (run / "a.txt",)
    assert str(run / "a.txt") in standing.words
    assert Stage(run, "a", "prepare", "other").standing() == (None, (), "")  # other settings: nobody says damage


def test_a_sealed_file_must_stay_as_it_is_but_does_not_enter_the_digest(run):
    stage = Stage(run, "a", "report", "s")
    files.write_text(run / "a.txt", "data")
    digests = set()
    for text in ("12:00", "12:01"):
        files.write_text(run / "page.html", text)
        digests.add(stage.commit([run / "a.txt"], {}, {}, [run / "page.html"]).digest())
    assert len(digests) == 1
    assert stage.current() is not None
    (run / "page.html").write_text("12:02")
    assert stage.standing().damaged == (run / "page.html",)


def test_a_sealed_directory_must_stay_as_it_is(run):
    stage, step = Stage(run, "a", "train", "s"), run / "checkpoints" / "10"
    files.write_text(step / "params" / "array", "weights")
    files.seal(step)
    stage.commit([], {"checkpoints/10": "digest"}, {})
    assert stage.current() is not None
    (step / "params" / "array").write_text("weighty")
    assert stage.standing().damaged == (step,)
    assert "array" in stage.standing().words
    (step / "params" / "array").unlink()
    assert "is missing" in stage.standing().words


def test_every_byte_of_a_manifest_counts(run, caplog):
    stage = finish(run, "a")
    path = manifest.manifest_path(run, "a")
    sound = path.read_bytes()
    ignored = 0
    for index in range(len(sound)):
        path.write_bytes(sound[:index] + bytes([sound[index] ^ 1]) + sound[index + 1 :])
        found = manifest.load(run, "a")
        if found is not None:  # white space between values says nothing
            assert sound[index : index + 1].isspace()
            assert found == manifest.load(run, "a")
            ignored += 1
    assert ignored < len(sound) / 10
    path.write_bytes(sound[: len(sound) // 2])
    caplog.clear()
    assert stage.current() is None
    assert str(path) in caplog.text
    path.write_bytes(sound)
    assert stage.current() is not None
