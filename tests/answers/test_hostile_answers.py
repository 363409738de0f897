"""Texts that are made to hang, to grow or to break what reads them; the fuzzer `tools/fuzz/grader.py` in its short setting."""

import importlib.util
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.answers import choice, equal
from w2sr_jax.answers import grade as grading
from w2sr_jax.answers.extract import boxes, extract
from w2sr_jax.answers.second import second_opinion
from w2sr_jax.answers.steps import steps
from w2sr_jax.core import thinking
from w2sr_jax.core.records import Verdict

ROOT = Path(__file__).resolve().parents[2]
LENGTH = 600_000
SECONDS = 30  # of processor time for one function on all texts; a few texts in quadratic time take more
MEMORY = 2 << 30
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are watched by /proc")

MARKS = (
    *(
        "\\boxed{",
        "{",
        "(",
        "####",
        "#### 1\n",
        "\\(",
        "\\[",
        "$",
        "$$",
        "answer is ",
        "A:",
        "\\boxed{1} ",
        "\\left(",
        "|",
        "\\sqrt{",
    ),
    *(
        " ",
        "\n",
        "\t*",
        ".",
        ". ",
        ";",
        "*",
        "* ",
        "-",
        "1,",
        "1/",
        "12 ",
        "aa, ",
        "1+",
        "1 = ",
        "1+1=2 ",
        "<<1+1=2>>",
        "<<1+1=2>> 1+1=2 ",
    ),
    *(
        "1+1 = ((((1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1 ",
        "1+1 = 1+1+1+1+1+1+1+1+1+1+1+1+1+1 2 2 2 2 2 2 2 2 ",
        "9^12)^12 = 1 ",
        "\x00",
        "\u202e",
    ),
)


def texts() -> list[str]:
    whole = [mark * (LENGTH // len(mark)) for mark in MARKS]
    half = LENGTH // 2
    pairs = (("{", "}"), ("(", ")"), ("\\(", "\\)"), ("\\sqrt{", "}"), ("1+(", ")"))
    nested = [left * (half // len(left)) + "1" + right * (half // len(left)) for left, right in (*pairs, ("\\boxed{", "}"))]
    gaps = [f"answer is {i}" + " " * 29_000 + "1" for i in range(8)]
    powers = [f"#### {i}^" + " " * 1400 + "x" for i in range(16)]
    return [*whole, *nested, *gaps, *powers, "#### 1" + " " * 1400 + "/x"]


@linux
@pytest.mark.parametrize("name", ["extract", "bare", "canonical", "final_consistent", "loops", "overruns"])
def test_reading_takes_time_and_memory_in_proportion(name: str) -> None:
    """Hundreds of thousands of characters of anything; a process with little time and memory reads them all."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_hostile_answers import texts
from w2sr_jax.answers import pool, steps
from w2sr_jax.answers.extract import extract
from w2sr_jax.answers.grade import bare, canonical, grade
from w2sr_jax.answers.quality import loops
from w2sr_jax.evaluation.process import overruns
final_consistent = lambda text: steps.final_consistent(text, "5")
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
for text in texts():
    {name}(text)
pool.compare = lambda pairs, *_: [pool.Outcome(None, "timeout")] * len(pairs)
for pairs in {{"extract": [(t, "x") for t in texts()], "bare": [("#### x", t) for t in texts()]}}.get({name!r}, []):
    assert len(grade([pairs])) == 1
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:] or f"ended by signal {-done.returncode}"


def test_of_boxes_within_boxes_the_innermost_counts() -> None:
    assert [content for _, _, content in boxes("\\boxed{x = \\boxed{5}} and \\boxed{a \\boxed{}}")] == ["5", "a \\boxed{}", ""]
    assert extract("\\boxed{x = \\boxed{5}}") == ("5", "boxed")


ODD = (  # letters that equal others without case, digits and signs of other scripts, and the words that reading looks for
    *("ſ", "K", "ı", "İ", "5 mıllion", "$3K", ", and 5 cents", "<thınk>", "<|ſTART_THINKING|>", "0xſ", "ſ_8", "10_", "(base 5)"),
    *(
        "1",
        "2",
        "/",
        "\\frac",
        "{",
        "}",
        "^",
        "\\overline",
        "0.",
        "...",
        "(",
        "）",
        "½",
        "²",
        "٣",
        "۵",
        "％",
        "=",
        "≥",
        ">",
        "\\pmod",
    ),
    *(
        "\\equiv",
        "7",
        "km",
        " per ",
        " dollars",
        " out of ",
        "half",
        "hundred",
        "dozen",
        "minus ",
        "一",
        "万",
        "<answer>",
        "####",
    ),
    *(
        "\\boxed{",
        "the answer is ",
        "答案是",
        "Final Answer\n",
        "\n",
        "$",
        "%",
        "\\text{",
        "\u0305",
        "°",
        "am",
        ":",
        "8:34",
        "ﬁ",
        "𝟓",
    ),
)


@settings(max_examples=400)
@given(st.lists(st.sampled_from(ODD) | st.sampled_from([" ", "", ", "]), max_size=9).map("".join))
def test_odd_characters_break_nothing(text: str) -> None:
    """Whatever a model writes has a reading; `ı` and `ſ` match `i` and `s` without case but are other letters."""
    extract(text)
    second_opinion(text, "5")
    choice.read(text, ["a", "b"], "AB")
    thinking.read(text)
    for gold in ("5", "x", text + "x"):
        equal.grade_one(text, gold)
        equal.grade_one(gold, text)
    equal.canonical(equal.bare(text))
    equal.algebraic(text)
    equal.too_large(text)


def test_a_formula_begins_at_its_last_opening() -> None:
    assert extract("see \\( and \\(x+y\\)") == ("x+y", "last_math")


def test_towers_in_equations_are_not_computed() -> None:
    tower = "(" * 9 + "9^12)" + "^12)" * 8 + "^12 = 1"
    assert steps(tower) == []
    assert [(step.stated, step.valid) for step in steps("2^12 * 2^12 = 16777216")] == [(Fraction(2) ** 24, True)]


@pytest.mark.parametrize(
    ("text", "stated", "valid"),
    [
        ("1 + 1 = 2 - ", 2, True),
        ("1 + 1 = (1 + 1) (1", 2, True),
        ("4 * 2 = 2 * 4 = 8", 8, True),
        ("1 + 1 = 1/0", 1, False),
        ("1 + 1 = ) 2", None, False),
        ("5 + 5 = 20% of 50", 10, True),
        ("6 = 2 (3)", None, False),
        ("3 * 2 = 2 (3)", 6, True),
        ("2 + 2 = -(-4) ^", 4, True),
        ("1 + 1 = (2) / 0 * 1", 2, True),
        ("1 + 1 = (2) / 0 * 1 * 1 * 1 * 1 * 1 * 1 * 1 * 1", None, False),
        ("<<1+1=2>> 2 + 2 = 4 <<2*3=6>>", 2, True),
    ],
)
def test_what_follows_an_equals_sign_is_read_as_far_as_it_goes(text: str, stated: int | None, valid: bool) -> None:
    parsed = steps(text)
    assert [(int(step.stated), step.valid) for step in parsed[:1]] == ([] if stated is None else [(stated, valid)])


@pytest.mark.parametrize("gap", [" ", "\t", "\u00a0"])
def test_large_exponents_are_seen_behind_spaces(gap: str) -> None:
    assert grading.grade([(f"#### x^{gap * 9}{{{gap * 9}-{gap}12345}}", "x")])[0].grader == "limits"


def fuzzer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_grader", ROOT / "tools" / "fuzz" / "grader.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@linux
def test_the_grader_outlives_hostile_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    tool = fuzzer()
    verdicts = tool.fuzz(tool.SHORT, seed=1, timeout=tool.SHORT_TIMEOUT, workers=2)
    assert not verdicts.violations, "\n".join([tool.table(verdicts), *verdicts.violations])
    assert {verdict.grader for verdict in verdicts.verdicts} >= {"exact", "math-verify", "limits", "timeout"}
    assert verdicts.watch.memory > 0
    assert verdicts.watch.processor > 0.3 * tool.SHORT_TIMEOUT


@linux
def test_the_fuzzer_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong verdict, a slow function and a worker above its memory are findings."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    tool = fuzzer()
    monkeypatch.setattr(tool, "IN_PROCESS", -1.0)
    monkeypatch.setattr(tool.grading, "grade", lambda pairs, *_: [Verdict("incorrect", "1", "####", "exact")] * len(pairs))
    violations = tool.fuzz(1, seed=0, timeout=1.0, workers=1).violations
    assert sum(" took " in violation for violation in violations) >= len(tool.FUNCTIONS)
    assert any("honest" in violation and "incorrect" in violation for violation in violations)
    complaints = tool.Findings(growth=1 << 40)
    complaints.watch.memory, complaints.watch.processor, complaints.watch.wall = 1 << 40, 99.0, 999.0
    tool._judge(complaints, 0, 1.0, 1 << 30)
    assert len(complaints.violations) == 4
