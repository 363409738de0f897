"""Verdicts, the pool of workers, and inputs that try to bring it down."""

import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2sr_jax.answers import pool
from w2sr_jax.answers.grade import MathGrader, NumberGrader, bare, canonical, grade, grade_all, grade_one
from w2sr_jax.errors import UserError
from w2sr_jax.records import Problem, Verdict

ROOT = Path(__file__).resolve().parents[2]


def running() -> set[str]:
    """Process ids of grading workers that are children of this process."""
    found = set()
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else []:
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1] if command else ""
        except OSError:
            continue
        if b"worker.py" in command and parent == str(os.getpid()):
            found.add(entry.name)
    return found


@pytest.mark.parametrize(
    ("answer", "gold", "equal"),
    [
        ("18", "18", True),
        ("18.0", "18", True),
        ("$1,234", "1234", True),
        ("3/4", "0.75", True),
        ("\\frac34", "0.75", True),
        ("24 dollars", "24", True),
        ("5%", "5", True),
        ("5%", "0.05", True),
        ("5%", "5%", True),
        ("5%", "0.5", False),
        ("0.333333", "1/3", True),
        ("0.333334", "1/3", False),
        ("0.3333", "1/3", False),
        ("2.000001", "2", False),
        ("17", "18", False),
        ("-3", "3", False),
        ("(x - 2)", "(x-2)", True),
        ("Tuesday", "tuesday", True),
        ("x+1", "1+x", None),
        ("5x", "5", None),
    ],
)
def test_certain_comparisons(answer: str, gold: str, equal: bool | None) -> None:
    assert grade_one(answer, gold) is equal
    assert grade_one(gold, answer) is equal


@given(st.fractions(max_denominator=1000), st.fractions(max_denominator=1000))
def test_numbers_compare_as_rationals(a: Fraction, b: Fraction) -> None:
    assert grade_one(str(a), str(b)) is (a == b)
    assert (canonical(str(a)) == canonical(f"\\frac{{{b.numerator}}}{{{b.denominator}}}")) is (a == b)


@given(st.lists(st.tuples(st.text(max_size=80), st.none() | st.integers().map(str)), max_size=5))
def test_every_text_gets_a_verdict_without_workers(pairs: list) -> None:
    pairs = [(f"{text}\n#### 5" if gold else text, gold) for text, gold in pairs]
    verdicts = grade(pairs)
    assert len(verdicts) == len(pairs)
    for (_, gold), verdict in zip(pairs, verdicts, strict=True):
        expected = "ungraded" if gold is None else "correct" if int(gold) == 5 else "incorrect"
        assert (verdict.verdict, verdict.grader) == (expected, "none" if gold is None else "exact")


def test_verdicts_record_rule_and_grader() -> None:
    assert grade(
        [("#### 5", None), ("no idea", "5"), ("#### 5", "#### 5"), ("\\boxed{5}", "$6$"), ("it is 5", "\\boxed{5}")]
    ) == [
        Verdict("ungraded", "5", "####", "none"),
        Verdict("unparsed", None, "none", "none"),
        Verdict("correct", "5", "####", "exact"),
        Verdict("incorrect", "5", "boxed", "exact"),
        Verdict("correct", "5", "last_number", "exact"),
    ]
    assert bare("so\n#### 1,200") == "1,200"


def test_everything_else_goes_to_math_verify() -> None:
    pairs = [
        ("\\boxed{1+x}", "x+1"),
        ("\\boxed{x+2}", "x+1"),
        ("\\boxed{\\frac{\\sqrt{2}}{2}}", "\\frac{1}{\\sqrt{2}}"),
        ("#### 7", "7"),
        ("\\boxed{1+x}", "x+1"),
        ("\\boxed{(0,1]}", "0 < x \\leq 1"),
    ]
    calls: list[tuple[int, int]] = []
    verdicts = grade(pairs, workers=2, timeout=30, on_progress=lambda done, total: calls.append((done, total)))
    assert [v.verdict for v in verdicts] == ["correct", "incorrect", "correct", "correct", "correct", "correct"]
    assert [v.grader for v in verdicts] == ["math-verify"] * 3 + ["exact"] + ["math-verify"] * 2
    assert calls[0] == (1, 6)
    assert calls[-1] == (6, 6)
    assert running() == set()


HANGING = ("(x+1)^{9999}", "\\frac{x}{2}")  # expanded for minutes
HOSTILE = (
    "(10!)!",
    "9^{9^{9^{9}}}",
    "2**2**2**2**2",
    "999999!",
    "9" * 3000,
    "x^{123456789}",
    "(" * 4000,
    "x" * 100_000,
)


@pytest.mark.parametrize(
    ("text", "gold", "verdict"),
    [
        ("3 + 4 = 7 #### 7", "7", "correct"),
        ("#### 7.0", "7", "correct"),
        ("#### 8", "7", "incorrect"),
        ("#### seven of them", "7", "incorrect"),
        ("no idea", "7", "unparsed"),
        ("#### 7", None, "ungraded"),
    ],
)
def test_the_number_grader_starts_no_worker(text: str, gold: str | None, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "compare", lambda *_: pytest.fail("a worker was asked"))
    assert NumberGrader()(text, Problem.of("q", gold)).verdict == verdict


def test_what_cannot_be_evaluated_is_not_tried() -> None:
    verdicts = grade([(f"#### {text}", "\\frac{x}{2}") for text in HOSTILE])
    assert {v.verdict for v in verdicts} == {"unparsed"}
    assert {v.grader for v in verdicts} <= {"limits", "none"}


def test_a_hanging_item_is_killed_and_counted_and_the_others_are_graded() -> None:
    pairs = [
        (f"\\boxed{{{HANGING[0]}}}", HANGING[1]),
        ("\\boxed{x+1}", "1+x"),
        ("\\boxed{\x00\ud800 x}", "y"),
        ("\\boxed{x+3}", "1+x"),
    ]
    verdicts = grade(pairs, workers=1, timeout=3)
    assert [(v.verdict, v.grader) for v in verdicts] == [
        ("unparsed", "timeout"),
        ("correct", "math-verify"),
        ("incorrect", "math-verify"),
        ("incorrect", "math-verify"),
    ]
    assert running() == set()


def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Replace the workers' script by one whose answer to an item is `body`."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, os, sys, time\nprint(json.dumps({'ready': True}), flush=True)\n"
        "for line in sys.stdin:\n    answer, gold, seconds = json.loads(line)\n"
        f"    {body}\n    print(json.dumps({{'equal': answer == gold}}), flush=True)\n"
    )
    monkeypatch.setattr(pool, "WORKER", script)


def test_a_dying_worker_costs_one_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(tmp_path, monkeypatch, "answer.startswith('die') and os._exit(int(answer[3:]))")
    pairs = [("a", "a"), ("die7", "a"), ("b", "a"), ("die3", "a"), ("c", "c"), ("die7", "b")]
    outcomes = pool.compare(pairs, workers=2, timeout=20, memory=0)
    assert [tuple(o) for o in outcomes] == [
        (True, ""),
        (None, "crash"),
        (False, ""),
        (None, "memory"),
        (True, ""),
        (None, "crash"),
    ]
    assert running() == set()


def test_interrupting_leaves_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(tmp_path, monkeypatch, "answer == 'hang' and time.sleep(1000)")

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.compare([("hang", "a"), ("b", "b")] * 4, workers=2, timeout=100, memory=0, on_done=interrupt)
    assert running() == set()


def test_a_worker_that_cannot_start_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "worker.py"
    monkeypatch.setattr(pool, "WORKER", script)
    for body, words in (("raise SystemExit(9)", "exit code 9"), ('print(\'{"failed": "no math"}\', flush=True)', "no math")):
        script.write_text(body)
        with pytest.raises(UserError, match=words):
            pool.compare([("a", "b")], workers=1, timeout=5, memory=0)
    assert running() == set()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space can be limited on Linux only")
def test_memory_is_bounded() -> None:
    """With less address space than an item needs, the item fails in its worker and the next one is graded."""
    pairs = [("\\boxed{x+1}", "1+x")]
    verdict = grade(pairs, workers=1, timeout=60, memory=1 << 30)[0]
    assert verdict.verdict == "correct"
    with pytest.raises(UserError, match="allow"):
        grade(pairs, workers=1, timeout=60, memory=20 << 20)
    code = (
        "import sys, types; m = types.ModuleType('math_verify'); sys.modules['math_verify'] = m\n"
        "m.parse = lambda text, **_: text\n"
        "m.verify = lambda a, b, **_: bytearray(3 << 30) if 'big' in a else True\n"
        "import runpy; sys.argv = ['worker', str(1 << 30)]\n"
        f"runpy.run_path({str(pool.WORKER)!r}, run_name='__main__')\n"
    )
    worker = subprocess.run(
        [sys.executable, "-c", code], input=b'["a", "b", 9]\n["a", "big", 9]\n', capture_output=True, timeout=60
    )
    assert worker.returncode == 3
    assert worker.stdout.splitlines() == [b'{"ready": true}', b'{"equal": true}']


def test_a_worker_ends_with_its_parent() -> None:
    """Even one that is busy with a hanging item when its parent is killed."""
    code = (
        "from w2sr_jax.answers import pool, grade\n"
        "real = pool._Worker.send\n"
        "def send(self, *a):\n    real(self, *a); print(self.process.pid, flush=True)\n"
        "pool._Worker.send = send\n"
        f"pool.compare([{HANGING!r}], workers=1, timeout=2, memory=0)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(300):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except OSError:
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


def test_scripts_need_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "user.py"
    script.write_text(
        "from w2sr_jax.answers.grade import grade\nprint(grade([('\\\\boxed{x+1}', '1+x')], workers=2, timeout=60)[0].verdict)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, env=environment)
    assert (done.stdout, done.returncode) == ("correct\n", 0), done.stderr


def test_a_grader_of_ones_own() -> None:
    problems = [Problem.of("q", "yes"), Problem.of("r", "no")]

    def mine(text: str, problem: Problem) -> Verdict:
        return Verdict("correct" if problem.answer in text else "incorrect", text, "whole", "mine")

    calls: list[tuple[int, int]] = []
    verdicts = grade_all(mine, ["oh yes", "oh yes"], problems, lambda done, total: calls.append((done, total)))
    assert [v.verdict for v in verdicts] == ["correct", "incorrect"]
    assert calls == [(1, 2), (2, 2)]
    assert [v.verdict for v in grade_all(MathGrader(), ["#### 1", "#### 2"], [Problem.of("a", "1"), Problem.of("b", "1")])] == [
        "correct",
        "incorrect",
    ]
