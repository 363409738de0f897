"""Verdicts, the pool of workers, and inputs that try to bring it down."""

import os
import subprocess
import sys
import time
import tracemalloc
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2sr_jax.answers import pool
from w2sr_jax.answers.grade import MathGrader, NumberGrader, bare, canonical, grade, grade_all, grade_one
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Verdict

ROOT = Path(__file__).resolve().parents[2]


def running() -> set[str]:
    """Process ids of grading workers that are children of this process."""
    pids = set()
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else []:
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1] if command else ""
        except OSError:
            continue
        if b"worker.py" in command and parent == str(os.getpid()):
            pids.add(entry.name)
    return pids


def state(pid: int) -> str:
    """The state letter of a process; Z where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


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
        ("\\boxed{1-√3}", "1"),
        ("\\boxed{1-√3}", "1-\\sqrt{3}"),
    ]
    calls: list[tuple[int, int]] = []
    verdicts = grade(pairs, workers=2, timeout=30, on_progress=lambda done, total: calls.append((done, total)))
    assert [v.verdict for v in verdicts] == [
        *("correct", "incorrect", "correct", "correct", "correct", "correct"),
        *("incorrect", "correct"),
    ]
    assert [v.grader for v in verdicts] == ["math-verify"] * 3 + ["exact"] + ["math-verify"] * 4
    assert calls[0] == (1, 8)
    assert calls[-1] == (8, 8)
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
    assert [v.grader for v in grade([("#### x+1", text) for text in HOSTILE])] == ["limits"] * len(HOSTILE)


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
        "import json, os, sys, time\nfrom pathlib import Path\n\n"
        "def say(**message):\n    print(json.dumps(message), flush=True)\n\n"
        "def tries():\n    note = Path(__file__).with_name(answer)\n"
        "    note.write_text(note.read_text() + 'x' if note.exists() else 'x')\n    return len(note.read_text())\n\n"
        "say(ready=True)\n"
        "for line in sys.stdin:\n    item = json.loads(line)\n    if item is None:\n        say(ready=True)\n        continue\n"
        "    number, answer, gold, seconds, wall = item\n"
        f"    {body}\n    say(id=number, equal=answer == gold)\n"
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
        (None, "crash"),
        (True, ""),
        (None, "crash"),
    ]
    assert running() == set()


@pytest.mark.parametrize(
    "misbehaviour",
    [
        "os.write(1, b'x' * (1 << 22))",  # a line that does not end
        "os.write(1, b'garbage\\n')",
        "os.write(1, b'[' * 60000 + b'\\n')",
        "os.write(1, b'7' * 60000 + b'\\n')",
        "os.write(1, b'[1]\\n')",
        "os.write(1, b'\\xff\\xfe\\n')",
        'os.write(1, b\'{"id": 0, "eq\'); os._exit(0)',  # dies in the middle of a line
        "say(id=number + 1, equal=True)",  # an answer to another question
        "[say(id=number, equal=True) for _ in range(2)]",  # two answers to one
        "say(ready=True)",
        "os.close(1), time.sleep(100)",
    ],
)
def test_a_worker_that_talks_nonsense_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, misbehaviour: str) -> None:
    """Nothing that it says is taken for the answer to another item, and this process holds no more of it than a line."""
    stub(tmp_path, monkeypatch, f"answer == 'bad' and ({misbehaviour.replace('; ', ', ')})")
    pairs = [("a", "a"), ("bad", "x"), ("b", "x"), ("c", "c"), ("d", "x")]
    tracemalloc.start()
    outcomes = pool.compare(pairs, workers=1, timeout=20, memory=0)
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()
    assert [o.equal for o in outcomes[:1] + outcomes[2:]] == [True, False, True, False]
    assert outcomes[1] in {pool.Outcome(None, "crash"), pool.Outcome(True, "")}
    assert running() == set()


def test_a_worker_that_does_not_read_blocks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "worker.py"
    script.write_text("import time\nprint('{\"ready\": true}', flush=True)\ntime.sleep(1000)\n")
    monkeypatch.setattr(pool, "WORKER", script)
    assert pool.compare([("x" * (1 << 20), "y")], workers=1, timeout=5, memory=0) == [pool.Outcome(None, "crash")]
    assert running() == set()


def test_what_a_worker_died_over_is_tried_again_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An accident is no verdict: the second try counts, in the end, in a process that has compared nothing before."""
    stub(tmp_path, monkeypatch, "answer.startswith('once') and tries() < 2 and os._exit(9)")
    pairs = [("once", "once"), ("a", "a"), ("once2", "x"), ("b", "x"), ("c", "x")]
    sent: list[tuple[str, int, float, int]] = []
    real = pool._Worker.send

    def send(worker: pool._Worker, index: int, pair: tuple[str, str], seconds: float) -> None:
        sent.append((pair[0], worker.served, seconds, len(running())))
        real(worker, index, pair, seconds)

    monkeypatch.setattr(pool._Worker, "send", send)
    outcomes = pool.compare(pairs, workers=2, timeout=20, memory=0)
    assert [o.equal for o in outcomes] == [True, True, False, False, False]
    assert [(answer, seconds) for answer, _, seconds, _ in sent[-2:]] == [("once", 20), ("once2", 20)]
    assert [(served, alive) for _, served, _, alive in sent[-2:]] == [(0, 1), (0, 1)]
    assert {seconds for _, _, seconds, _ in sent[:-2]} == {pool.QUICK}
    assert running() == set()


def test_the_budget_is_processor_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is kept waiting, as on a busy machine, is not called slow; one that computes is ended by the kernel."""
    (tmp_path / "math_verify.py").write_text(
        "import time\n"
        "def parse(text, **_): return text\n"
        "def verify(gold, answer, **_):\n"
        "    if 'waits' in answer: time.sleep(2.5)\n"
        "    while 'computes' in answer: pass\n"
        "    return gold == answer\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    started = time.monotonic()
    outcomes = pool.compare([("waits", "waits"), ("computes", "x"), ("a", "a")], workers=1, timeout=1, memory=0)
    assert [tuple(o) for o in outcomes] == [(True, ""), (None, "timeout"), (True, "")]
    assert time.monotonic() - started < pool.WALL[0]
    monkeypatch.setattr(pool, "WALL", (0.5, 0.0))  # the backstop for one that waits for ever
    assert pool.compare([("waits", "waits")], workers=1, timeout=1, memory=0) == [pool.Outcome(None, "timeout")]
    assert running() == set()


def test_workers_order_their_sets_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "math_verify.py").write_text(
        "def parse(text, **_): return text\n"
        "def verify(gold, answer, **_): return list({chr(i) for i in range(97, 123)}) == list(gold[1:27])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    order = subprocess.run(
        [sys.executable, "-c", "print(*{chr(i) for i in range(97, 123)}, sep='')"],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert all(o.equal for o in pool.compare([(str(i), order) for i in range(9)], workers=3, timeout=5, memory=0))


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


@pytest.mark.parametrize("who", ["worker", "its child"])
def test_workers_that_are_killed_while_they_start_are_started_again(
    who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a system that runs out of memory for a moment."""
    (tmp_path / "math_verify.py").write_text(
        "def parse(text, **_): return text\ndef verify(gold, answer, **_): return gold == answer\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    times = tmp_path / "times"
    text = pool.WORKER.read_text()
    dies = f"""
def dies():
    with open({str(times)!r}, "a+") as file:
        file.write("x")
        file.seek(0)
        if len(file.read()) < {pool.TRIES}:
            os.kill(os.getpid(), signal.SIGKILL)
"""
    folder = "            _end_with(own)\n" if who == "its child" else "    parent = os.getppid()\n"
    assert text.count(folder) == 1
    call = folder[: len(folder) - len(folder.lstrip())] + "dies()\n"
    script = tmp_path / "worker.py"
    script.write_text(text.replace(folder, folder + call).replace("\ndef main()", dies + "\n\ndef main()"))
    monkeypatch.setattr(pool, "WORKER", script)
    assert [o.equal for o in pool.compare([("a", "a"), ("b", "x")], workers=1, timeout=20, memory=0)] == [True, False]
    assert len(times.read_text()) >= pool.TRIES
    assert running() == set()


def test_a_system_that_starts_no_process_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real, free = subprocess.Popen, [1]

    def starts(*args: object, **options: object) -> object:
        if not free:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        free.pop()
        return real(*args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(pool.subprocess, "Popen", starts)
    pairs = [("\\frac{1}{2}", "0.5")] * 9
    assert all(o.equal for o in pool.compare(pairs, workers=3, timeout=20, memory=0))  # one has to do
    with pytest.raises(UserError, match=r"Resource temporarily unavailable; raise the limits"):
        pool.compare(pairs, workers=3, timeout=20, memory=0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space can be limited on Linux only")
def test_memory_is_bounded() -> None:
    """With less address space than an item needs, the item fails in its worker and the next one is graded."""
    pairs = [("\\boxed{x+1}", "1+x")]
    verdict = grade(pairs, workers=1, timeout=60, memory=1 << 30)[0]
    assert verdict.verdict == "correct"
    with pytest.raises(UserError, match="allow"):
        grade(pairs, workers=1, timeout=60, memory=20 << 20)
    for big in ("bytearray(3 << 30)", "swallowed()"):
        code = (
            "import logging, sys, types; m = types.ModuleType('math_verify'); sys.modules['math_verify'] = m\n"
            "def swallowed():\n"
            "    try: return bytearray(3 << 30)\n"
            "    except Exception: logging.getLogger('math_verify.grader').debug('error', exc_info=True)\n"
            "m.parse = lambda text, **_: text\n"
            f"m.verify = lambda a, b, **_: {big} if 'big' in a else True\n"
            "import runpy; sys.argv = ['worker', str(1 << 30)]\n"
            f"runpy.run_path({str(pool.WORKER)!r}, run_name='__main__')\n"
        )
        items = b'[0, "a", "b", 9, 9]\n[1, "a", "big", 9, 9]\n'
        worker = subprocess.run([sys.executable, "-c", code], input=items, capture_output=True, timeout=60)
        assert worker.stdout.splitlines() == [
            b'{"ready": true}',
            b'{"id": 0, "equal": true}',
            b'{"lost": "memory"}',
            b'{"ready": true}',
        ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a child ends at its processor time")
def test_a_worker_ends_with_its_parent() -> None:
    """At once, with its child, even one that is busy with a hanging item when its parent is killed."""
    code = (
        "from pathlib import Path\nfrom w2sr_jax.answers import pool, grade\n"
        "real = pool._Worker.send\n"
        "def send(self, *a):\n    real(self, *a); own = self.process.pid\n"
        "    print(own, Path(f'/proc/{own}/task/{own}/children').read_text(), flush=True)\n"
        "pool._Worker.send = send\npool.QUICK = 100.0\n"
        f"pool.compare([{HANGING!r}], workers=1, timeout=100, memory=0)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert "Z" not in map(state, pids)
    parent.kill()
    parent.wait()
    for _ in range(200):
        if {*map(state, pids)} == {"Z"}:
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
