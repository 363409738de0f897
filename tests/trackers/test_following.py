"""What trackers are told of a training: all of it once, in order, beside the training, whatever they do."""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from recorder import Recorder

from w2sr_jax.trackers import following
from w2sr_jax.trackers.following import Trackers, tracked
from w2sr_jax.trackers.secrecy import holds_secret, without_secrets
from w2sr_jax.trackers.tracker import Tracker, flat, name

SETTINGS = {"recipe.training.steps": 9}


def follow(
    directory: Path,
    *trackers: Tracker,
    steps: range = range(1, 4),
    owner: str = "o",
    earlier: Any = (),
    state: Any = "finished",
    warned: list[str] | None = None,
) -> None:
    """One sitting of a training whose loss at each step is a tenth of its number."""
    said: list[str] = [] if warned is None else warned
    with tracked(trackers, said.append) as all_of_them:
        assert all_of_them is not None
        sitting = all_of_them.following("run", "stage/train", SETTINGS, directory)
        sitting.begin(owner, earlier)
        for step in steps:
            sitting.scalars("train", step, {"loss": step / 10, "nll": None})
        sitting.end(state)
    if warned is None:
        assert said == []


def test_a_tracker_is_told_of_the_training_its_scalars_and_its_end(tmp_path: Path) -> None:
    recorder = Recorder()
    follow(tmp_path, recorder)
    (training,) = recorder.trainings
    assert (training.run, training.stage, training.settings, training.resumed) == ("run", "stage/train", SETTINGS, False)
    assert training.directory == tmp_path / "trackers" / "recorder"
    assert training.directory.is_dir()
    assert recorder.steps == [(1, {"train/loss": 0.1}), (2, {"train/loss": 0.2}), (3, {"train/loss": 0.3})]
    assert recorder.ends == ["finished"]


def test_a_training_that_is_continued_keeps_its_id_and_no_step_comes_twice(tmp_path: Path) -> None:
    first, second, third = Recorder(), Recorder(), Recorder()
    follow(tmp_path, first, steps=range(1, 7), state="stopped")
    follow(tmp_path, second, steps=range(4, 9))  # a checkpoint of step 3
    follow(tmp_path, third, steps=range(1, 9))  # from the beginning, by the same settings
    assert [step for each in (first, second, third) for step, _ in each.steps] == [*range(1, 9)]
    (a,), (b,), (c,) = first.trainings, second.trainings, third.trainings
    assert a.id == b.id == c.id
    assert (a.resumed, b.resumed, c.resumed) == (False, True, True)
    assert first.ends == ["stopped"]


def test_another_training_has_another_id_and_all_of_its_steps(tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    follow(tmp_path, first)
    follow(tmp_path, second, owner="other settings")
    assert first.trainings[0].id != second.trainings[0].id
    assert not second.trainings[0].resumed
    assert len(second.steps) == 3


def test_what_a_tracker_missed_comes_when_the_training_is_continued(tmp_path: Path) -> None:
    """It failed at its first scalar, and gets the rest from the training's files, probe and steps in order."""
    failing, sound, warned = Recorder(fails="log"), Recorder(), []
    follow(tmp_path, failing, warned=warned)
    earlier = [("train", step, {"loss": step / 10}) for step in (1, 2, 3)] + [("probe", 2, {"accuracy": 0.5})]
    follow(tmp_path, sound, steps=range(4, 6), earlier=earlier)
    assert [step for step, _ in sound.of("train/loss")] == [2, 3, 4, 5]  # the one that it refused is not repeated
    assert sound.of("probe/accuracy") == [(2, 0.5)]
    assert len(warned) == 1


def test_what_was_on_its_way_when_the_process_was_killed_comes_again(tmp_path: Path) -> None:
    """Steps 1 to 6 were sent, and 4 arrived; the training goes on from step 5."""
    killed, again = Recorder(), Recorder(reached=4)
    follow(tmp_path, killed, steps=range(1, 7))
    follow(tmp_path, again, steps=range(6, 9), earlier=[("train", step, {"loss": step / 10}) for step in range(1, 6)])
    assert [step for step, _ in again.steps] == [5, 6, 7, 8]


@pytest.mark.parametrize("fails", ["call", "log", "end"])
@pytest.mark.parametrize("error", [ConnectionError("cannot reach https://u:pass1234@host/x?token=abc"), SystemExit(1)])
def test_a_tracker_that_fails_is_named_once_and_others_go_on(tmp_path: Path, fails: str, error: BaseException) -> None:
    warned: list[str] = []
    sound = Recorder()
    follow(tmp_path, Recorder(fails, error=error), sound, warned=warned)
    (words,) = warned
    assert words.startswith("tracker recorder does not follow stage/train any further (")
    assert words.endswith("the training goes on")
    assert "pass1234" not in words
    assert "token=abc" not in words
    assert (len(sound.steps), sound.ends) == (3, ["finished"])


def test_it_is_tried_again_with_the_next_training(tmp_path: Path) -> None:
    recorder, warned = Recorder(fails="call"), list[str]()
    with tracked((recorder,), warned.append) as trackers:
        assert trackers is not None
        for stage in ("a", "b"):
            sitting = trackers.following("run", stage, SETTINGS, tmp_path / stage)
            sitting.begin("o", ())
            sitting.scalars("train", 1, {"loss": 1.0})
            sitting.end("finished")
            while len(recorder.trainings) < (1 if stage == "a" else 2):
                time.sleep(0.01)
            while stage == "a" and not warned:
                time.sleep(0.01)
            recorder.fails = ""
    assert [step for step, _ in recorder.steps] == [1]
    assert len(warned) == 1


def test_what_is_no_recording_is_refused_in_words(tmp_path: Path) -> None:
    def nothing(training: Any) -> Any:
        return None

    warned: list[str] = []
    follow(tmp_path, nothing, warned=warned)
    assert "tracker nothing" in warned[0]
    assert "it returned None, which has no log and no end" in warned[0]


def test_nobody_waits_for_a_tracker_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE", 0.2)
    let_go, warned = threading.Event(), list[str]()
    follow(tmp_path, Recorder("call", let_go), warned=warned)
    let_go.set()
    time.sleep(0.2)  # what it raises then is no second warning
    assert len(warned) == 1
    assert "tracker recorder has not taken all of" in warned[0]


def test_of_more_than_may_wait_for_a_tracker_later_steps_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MOST", 5)
    let_go, warned, recorder = threading.Event(), list[str](), Recorder()
    recorder.waits = let_go
    trackers = Trackers((recorder,), warned.append)
    sitting = trackers.following("run", "stage", SETTINGS, tmp_path)
    sitting.begin("o", ())
    for step in range(100):
        sitting.scalars("train", step, {"loss": 1.0})
    sitting.end("finished")
    let_go.set()
    trackers.close(20)
    steps = [step for step, _ in recorder.steps]
    assert 4 <= len(steps) <= 6
    assert steps == [*range(len(steps))]
    assert recorder.ends == ["finished"]
    assert len(warned) == 1


def test_what_trackers_print_is_not_shown_and_what_others_print_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loud(Recorder):
        def __call__(self, training: Any) -> Any:
            print("a banner")
            print("a warning", file=sys.stderr)
            return super().__call__(training)

    loud = Loud()
    before = sys.stdout
    with tracked((loud,), print) as trackers:
        assert trackers is not None
        trackers.following("run", "stage", SETTINGS, tmp_path).begin("o", ())
        while not loud.trainings:
            time.sleep(0.01)
        print("the console")
    assert sys.stdout is before
    assert capsys.readouterr() == ("the console\n", "")


def test_two_trackers_of_one_kind_have_files_of_their_own(tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    follow(tmp_path, first, second)
    assert first.trainings[0].directory.name == "recorder"
    assert second.trainings[0].directory.name == "recorder-2"
    assert first.trainings[0].id != second.trainings[0].id


def test_a_damaged_file_of_what_was_sent_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    follow(tmp_path, first)
    path = tmp_path / "trackers" / "recorder.jsonl"
    path.write_bytes(path.read_bytes() + b'{"group": "train", "st')
    follow(tmp_path, second, steps=range(1, 6))
    assert [step for step, _ in second.steps] == [4, 5]


def test_settings_become_plain_values_by_their_path() -> None:
    settings = {"a": {"b": 1, "c": [True, None, {"d": "x"}]}, "e": 2.5}
    assert flat(settings) == {"a.b": 1, "a.c.0": True, "a.c.1": None, "a.c.2.d": "x", "e": 2.5}


def test_a_tracker_is_called_by_its_type_or_function() -> None:
    assert (name(Recorder()), name(follow)) == ("recorder", "follow")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("401 for key hunter22", "401 for key [hidden]"),
        ("POST https://me:pw@host:5000/api?key=1 failed", "POST https://host:5000/api failed"),
        ("bad key 0123456789abcdef0123456789abcdef01234567", "bad key [hidden]"),
        ("Connection refused after 3 tries", "Connection refused after 3 tries"),
    ],
)
def test_secrets_are_not_repeated(text: str, shown: str) -> None:
    assert without_secrets(text, {"WANDB_API_KEY": "hunter22", "SHORT_TOKEN": "on", "HOME": "401"}) == shown


@pytest.mark.parametrize(
    ("address", "secret"), [("https://host:5000", False), ("http://u:p@h", True), ("http://h?token=1", True)]
)
def test_addresses_with_secrets_are_told_apart(address: str, secret: bool) -> None:
    assert holds_secret(address) == secret
