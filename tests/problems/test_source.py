"""A source of problems of a user's own, defined here alone, and the two that are built in, behind one protocol."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from w2sr_jax.configuration import encoding, overrides
from w2sr_jax.core.code.unloaded import Unloaded
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.core.records import Problem
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems import generated
from w2sr_jax.problems.rows import Quarantine, Rejected
from w2sr_jax.problems.settings import Files, Generated
from w2sr_jax.problems.source import ProblemSource, load


@dataclasses.dataclass(frozen=True)
class Doubles(ProblemSource):
    """Twice a number, for as many numbers as `path` has lines; lines without a number are set aside."""

    path: str
    factor: int = 2

    def load(self, limit: int | None = None) -> tuple[list[Problem], Quarantine]:
        problems, rejected = [], []
        for line, text in enumerate(Path(self.path).read_text().splitlines()[:limit], 1):
            if text.isdecimal():
                answer = str(self.factor * int(text))
                problems.append(Problem.of(f"What is {self.factor} times {text}?", answer, task="doubles"))
            else:
                rejected.append(Rejected(self.path, line, "not a number"))
        return problems, Quarantine(tuple(rejected))

    def paths(self) -> tuple[str, ...]:
        return (self.path,)


@dataclasses.dataclass(frozen=True)
class Returning(ProblemSource):
    """Returns whatever `make` returns; for mistakes."""

    make: Callable[[], Any]

    def load(self, limit: int | None = None) -> tuple[list[Problem], Quarantine]:
        returned: tuple[list[Problem], Quarantine] = self.make()
        return returned


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """Has one of the members alone, and extends nothing."""

    def load(self, limit: int | None = None) -> tuple[list[Problem], Quarantine]:
        return [], Quarantine()


@dataclasses.dataclass(frozen=True)
class Settings:
    problems: ProblemSource = Generated()
    test_problems: Files | ProblemSource | None = None


ONE = Problem.of("How many?", "1")


def numbers(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines))
    return str(path)


def test_a_source_of_ones_own_is_one_dataclass_with_one_method(tmp_path: Path) -> None:
    source = Doubles(numbers(tmp_path / "n.txt", "3", "four", "5"))
    problems, quarantine = load(source)
    assert [(problem.question, problem.answer) for problem in problems] == [
        ("What is 2 times 3?", "6"),
        ("What is 2 times 5?", "10"),
    ]
    assert quarantine.rows == (Rejected(source.path, 2, "not a number"),)
    assert load(source, 2)[0] == problems[:1]
    assert source.paths() == (source.path,)
    assert (source.is_endless(), source.available(), source.at_hand(), source.facts(3)) == (False, None, True, [])
    assert source.describe().startswith("Doubles(path=")
    assert mistyped(Settings(source, source), Settings) is None


def test_its_settings_are_saved_and_read_back_without_its_code(tmp_path: Path) -> None:
    source = Doubles(str(tmp_path / "n.txt"), 3)
    saved = encoding.encode(source)
    assert saved["type"].endswith(":Doubles")
    assert (saved["path"], saved["factor"]) == (source.path, 3)
    stand_in = encoding.decode(json.loads(json.dumps(saved)), tmp_path / "experiment.json", resolve=Unloaded)
    assert stand_in.factor == 3
    assert mistyped(Settings(stand_in), Settings) is None
    with pytest.raises(UserError, match="Doubles is code of the run's own, which was not executed"):
        load(stand_in)
    assert not stand_in.is_endless()  # what every source answers


def test_its_settings_can_be_given_on_the_command_line() -> None:
    rung = Rung("small", ModelConfig(width=8, layers=1, heads=1, kv_heads=1))
    settings = Experiment("own", (rung,), problems=Doubles("a.txt"))
    changed = overrides.overridden(settings, ["--problems.factor", "7", "--problems.path", "b.txt"], "w2sr")
    assert changed.problems == Doubles("b.txt", 7)
    settings = Experiment("own", (rung,), problems=Generated(), test_problems=Files("a.jsonl"))
    changed = overrides.overridden(settings, ["--problems.largest", "12", "--test-problems.limit", "4"], "w2sr")
    assert (changed.problems, changed.test_problems) == (Generated(largest=12), Files("a.jsonl", limit=4))


def test_generated_problems_are_the_same_through_the_protocol() -> None:
    source = Generated(seed=3, largest=19)
    problems, quarantine = load(source, 12)
    assert problems == generated.generate(source, 12)
    assert len(quarantine) == 0
    assert source.facts(5) == generated.facts(source, 5)
    assert source.is_endless()
    assert (source.available(), source.paths(), source.at_hand()) == (None, (), True)
    assert source.describe() == "generated, 2 to 4 operations, numbers up to 19"
    with pytest.raises(UserError, match="largest 3 is too small"):
        load(Generated(largest=3), 1)


def test_files_are_the_same_through_the_protocol(tmp_path: Path) -> None:
    rows = [json.dumps({"question": f"What is {n}?", "answer": n}) for n in range(6)]
    path = numbers(tmp_path / "p.jsonl", *rows[:2], "{", *rows[2:], "")
    source = Files(path)
    problems, quarantine = load(source)
    assert [problem.answer for problem in problems] == ["0", "1", "2", "3", "4", "5"]
    assert [row.line for row in quarantine.rows] == [3]
    assert [len(part) for part in load(source, 4)] == [3, 1]
    assert [len(part) for part in load(Files(path, limit=2), 4)] == [2, 0]
    assert [len(part) for part in load(Files(path, limit=5), 4)] == [3, 1]
    assert (source.available(), Files(path, limit=3).available(), Files("none.jsonl").available()) == (7, 3, None)
    assert (source.is_endless(), source.at_hand(), source.facts(2)) == (False, True, [])
    assert source.paths() == (source.describe(),) == (path,)
    with pytest.raises(UserError, match="limit 0 leaves no rows"):
        load(Files(path, limit=0), 4)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: [ONE], "it must return a tuple of a list of problems and a Quarantine"),
        (lambda: ([ONE], None), "it must return a tuple of a list of problems and a Quarantine"),
        (lambda: ([], Quarantine()), r"Returning.load returned \[\]; it must return a list of at least one problem"),
        (lambda: (iter([ONE]), Quarantine()), "it must return a list of at least one problem"),
        (lambda: ([ONE] * 3, Quarantine()), "Returning.load returned 3 problems; its limit was 2"),
        (lambda: ([ONE, "What?"], Quarantine()), "problem 2 is no sound problem: it is 'What[?]', of type str"),
        (lambda: ([dataclasses.replace(ONE, answer=1)], Quarantine()), "problem 1 is no sound problem: it.answer is 1"),
        (lambda: ([Problem.of(" ", "1")], Quarantine()), "problem 1 has an empty question"),
        (lambda: ([Problem.of("q", "1", meta={"a": {1}})], Quarantine()), "problem 1 has a meta that is no JSON object"),
        (lambda: ([dataclasses.replace(ONE, id="1")], Quarantine()), "problem 1 has the id '1', which is not the digest"),
        (lambda: 1 // 0, r"test_source.py, line \d+: ZeroDivisionError"),
    ],
)
def test_what_a_source_of_ones_own_does_wrong_is_one_sentence(make: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        load(Returning(make), 2)
    assert "test_source.py" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_source_is_refused_and_what_it_lacks_is_named() -> None:
    unfinished: Any = Unfinished()
    assert mistyped(Settings(unfinished), Settings) == (
        "problems is Unfinished(), of type Unfinished; it must be a ProblemSource; it lacks is_endless, available, paths, "
        "at_hand, facts, rehearsed, describe"
    )
    kind: Any = Generated
    assert str(mistyped(Settings(kind), Settings)).endswith("it must be a ProblemSource: write Generated(…)")
    text: Any = "gsm8k"
    assert "it must be Files or a ProblemSource or None; it lacks load," in str(mistyped(Settings(test_problems=text), Settings))
    with pytest.raises(TypeError, match="abstract"):
        dataclasses.make_dataclass("Empty", [], bases=(ProblemSource,), frozen=True)()
