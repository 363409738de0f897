"""`w2sr grade`: what it counts, what it shows of disagreements, what it writes, and what it refuses."""

import csv
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len

from w2sr_jax.cli import main as cli
from w2sr_jax.grading.kinds import kind

ROWS = [
    {"gold": "7", "trace": "3 + 4 = 7\n#### 7", "ok": True},
    {"gold": "7", "trace": "3 + 4 = 8\n#### 8", "ok": False},
    {"gold": "7", "trace": "3 + 4 = 9\n#### 9", "ok": True},
    {"gold": "\\frac{1}{2}", "trace": "So it is \\boxed{0.5}.", "ok": True},
    {"gold": "(1,2)", "trace": "So it is \\boxed{(1,2)}.", "ok": True},
    {"gold": "7", "trace": "It makes seven or so, I think", "ok": False},
    {"gold": "7", "trace": "First 7, then 8", "ok": False},
]


@pytest.fixture
def graded(tmp_path, monkeypatch, capsys):
    """Runs the command on rows, or on a file; its exit code, lines and errors."""
    monkeypatch.chdir(tmp_path)

    def run(rows, *argv, width=80, name="rows.jsonl"):
        monkeypatch.setenv("COLUMNS", str(width))
        if not isinstance(rows, Path):
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            Path(name).write_text("\n".join(lines) + "\n")
            rows = Path(name)
        code = cli.run(["grade", str(rows), "--gold", "gold", "--text", "trace", *argv])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    return run


def section(lines, title):
    start = next(number for number, line in enumerate(lines) if line.startswith(title))
    end = next((number for number in range(start, len(lines)) if not lines[number]), len(lines))
    return [line.split() for line in lines[start + 1 : end]]


def table_rows(lines, title, name):
    """The cells of a table's row."""
    return next(cells for cells in section(lines, title) if cells[0] == name)


def test_verdicts_rules_graders_and_kinds_are_counted(graded):
    code, lines, _ = graded(ROWS, "--grader", "number")
    assert code == 0
    assert "rows.jsonl: 7 rows graded by NumberGrader" in lines
    assert table_rows(lines, "Verdicts", "correct") == ["correct", "3", "42.9", "%"]
    assert table_rows(lines, "Verdicts", "incorrect")[1] == "3"
    assert table_rows(lines, "Verdicts", "unparsed")[1] == "1"
    assert table_rows(lines, "Where the answer stood", "####") == ["####", "3", "42.9", "%", "33.3", "%"]
    assert table_rows(lines, "Where the answer stood", "boxed")[1] == "2"
    assert table_rows(lines, "Where the answer stood", "last_number")[:4] == ["last_number", "(a", "guess)", "1"]
    assert table_rows(lines, "What compared", "exact")[1] == "6"
    assert table_rows(lines, "Kinds of gold", "integer") == [
        "integer",
        "5",
        "71.4",
        "%",
        "20.0",
        "%",
        "20.0",
        "%",
        "4",
        "100.0",
        "%",
    ]
    assert table_rows(lines, "Kinds of gold", "fraction")[1] == "1"
    assert table_rows(lines, "Kinds of gold", "tuple") == ["tuple", "1", "14.3", "%", "100.0", "%", "0.0", "%", "0", "–"]


def test_disagreements_with_a_label_are_listed_and_agreement_is_not(graded):
    _, lines, _ = graded(ROWS, "--grader", "number", "--label", "ok")
    start = next(number for number, line in enumerate(lines) if line.startswith("Against the label ok"))
    printed_lines = "\n".join(lines[start:])
    assert "6 of 7 alike (85.71 %)" in printed_lines
    assert re.search(r"^ +3  7 +9 +#### +incorrect +correct$", printed_lines, re.M)
    assert "│ 3 + 4 = 9 ⏎ #### 9" in printed_lines
    assert "│ 3 + 4 = 8" not in printed_lines


def test_disagreements_are_counted_where_they_are_not_shown(graded):
    rows = [{"gold": "7", "trace": "#### 8", "ok": 1}] * 25
    _, lines, _ = graded(rows, "--label", "ok", "--show", "4")
    assert sum("│" in line for line in lines) == 4
    assert any(line.startswith("  21 more") for line in lines)
    _, lines, _ = graded(rows, "--label", "ok", "--show", "0")
    assert not any("│" in line for line in lines)
    assert any("0 of 25 alike" in line for line in lines)


def test_what_the_second_opinion_says_otherwise_is_listed(graded, tmp_path):
    """By a grader that errs: what it calls incorrect and the rules for numbers call correct."""
    (tmp_path / "grade_command_blind.py").write_text(
        "from w2sr_jax.core.records import Verdict\n"
        "def blind(text, problem):\n"
        "    return Verdict('incorrect', '0', 'blind', 'blind')\n"
    )
    _, lines, _ = graded(ROWS[:4], "--grader", "grade_command_blind.py:blind")
    printed_lines = "\n".join(lines)
    assert "2 of 4 alike (50.00 %)" in printed_lines
    assert re.search(r"^ +1  7 +0 +blind +incorrect  correct: 7$", printed_lines, re.M)
    assert not re.search(r"^ +2  7 +0 +blind", printed_lines, re.M)
    _, lines, _ = graded(ROWS[:4], "--grader", "number", "--against", "grade_command_blind.py:blind")
    assert any("2 of 4 alike" in line for line in lines)
    assert "Against blind" in lines


def test_guessing_is_warned_of_where_it_is_common_and_not_elsewhere(graded):
    guessing, stating = {"gold": "7", "trace": "First 7, then 8"}, {"gold": "7", "trace": "#### 7"}
    _, lines, _ = graded([guessing] * 2 + [stating] * 8)
    assert "Warning: 2 of 10 texts (20.0 %)" in " ".join(lines)
    _, lines, _ = graded([guessing] + [stating] * 9)
    assert "Warning" not in " ".join(lines)
    _, lines, _ = graded([{"gold": "7", "trace": "7"}] * 10)  # answers alone: nothing to guess
    assert "Warning" not in " ".join(lines)
    assert "(the whole text)" in " ".join(lines)


def test_letters_that_are_read_as_text_are_noticed(graded):
    rows = [{"gold": "B", "trace": "The answer is (B).", "options": ["3", "4"]}] * 3
    _, lines, _ = graded(rows)
    assert "--grader choice" in " ".join(lines)
    _, lines, _ = graded(rows, "--grader", "choice", "--options", "options")
    assert "--grader choice" not in " ".join(lines)
    assert table_rows(lines, "Verdicts", "correct")[1] == "3"


def test_bad_rows_are_set_aside_with_line_and_reason(graded):
    rows = [
        ROWS[0],
        "{broken",
        {"gold": "", "trace": "#### 7"},
        {"gold": "7", "trace": None},
        {"gold": "7", "trace": "#### 7", "ok": "perhaps"},
        {"gold": "7", "trace": "\ud800 7"},
        ROWS[1],
        {"gold": "7", "trace": ""},  # a model that says nothing is wrong, not absent
    ]
    code, lines, _ = graded(rows, "--label", "ok", "--out", "out.jsonl")
    assert code == 0
    assert "Set aside: 5 rows" in lines
    printed_lines = "\n".join(lines)
    assert re.search(r"^ +1 +3  field 'gold' is empty$", printed_lines, re.M)
    assert re.search(r"^ +1 +2  not valid JSON", printed_lines, re.M)
    assert table_rows(lines, "Verdicts", "unparsed")[1] == "1"
    written = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["line"] for row in written] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [row["verdict"] for row in written] == ["correct", None, None, None, None, None, "incorrect", "unparsed"]
    assert "perhaps" in written[4]["set_aside"]


def test_rows_are_written_as_lines_and_as_a_table(graded):
    graded(ROWS, "--label", "ok", "--out", "out.jsonl")
    graded(ROWS, "--label", "ok", "--out", "deep/out.parquet")
    graded(ROWS, "--label", "ok", "--out", "out.jsonl.gz")
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    with gzip.open("out.jsonl.gz", "rt") as packed:
        assert [json.loads(line) for line in packed] == lines
    assert pq.read_table("deep/out.parquet").to_pylist() == lines
    assert {name: lines[2][name] for name in ("line", "verdict", "answer", "rule", "grader", "second", "label")} == {
        "line": 3,
        "verdict": "incorrect",
        "answer": "9",
        "rule": "####",
        "grader": "exact",
        "second": "incorrect",
        "label": True,
    }
    assert lines[4]["second"] is None


@pytest.mark.parametrize(
    "name", ["rows.csv", "rows.tsv", "rows.csv.gz", "rows.json", "rows.parquet", "rows.jsonl.gz", "semi.csv"]
)
def test_all_kinds_of_files_give_the_same_verdicts(graded, tmp_path, name):
    path, rows = tmp_path / name, [{**row, "ok": str(row["ok"])} for row in ROWS]
    if "sv" in name:
        separator = "\t" if "tsv" in name else ";" if "semi" in name else ","
        with (gzip.open if name.endswith("gz") else open)(path, "wt", newline="") as stream:
            table = csv.DictWriter(stream, ["gold", "trace", "ok"], delimiter=separator)
            table.writeheader()
            table.writerows(rows)
    elif name == "rows.json":
        path.write_text(json.dumps(rows))
    elif name == "rows.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with gzip.open(path, "wt") as stream:
            stream.write("\n".join(map(json.dumps, rows)))
    code, lines, _ = graded(path, "--label", "ok", "--out", "out.jsonl")
    assert code == 0
    assert table_rows(lines, "Verdicts", "correct")[1] == "3"
    written = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["label"] for row in written] == [row["ok"] for row in ROWS]


def test_rows_of_a_csv_that_do_not_fit_its_header_are_set_aside_with_their_line(graded, tmp_path):
    (tmp_path / "a.csv").write_bytes(b'gold,trace\n7,"one\ntwo\n#### 7"\n7\n7,\xff 7\n8,#### 8\n')
    code, _, _ = graded(tmp_path / "a.csv", "--out", "out.jsonl")
    assert code == 0
    written = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [(row["line"], row["verdict"]) for row in written] == [(2, "correct"), (5, None), (6, None), (7, "correct")]
    assert "1 values where the first line names 2 columns" in written[1]["set_aside"]
    assert "not UTF-8" in written[2]["set_aside"]


def test_lists_of_texts_and_dialogues_are_read(graded):
    turns = [{"role": "user", "content": "3 + 4?"}, {"role": "assistant", "content": "#### 7"}]
    rows = [
        {"gold": "7", "trace": ["#### 7", "#### 8"], "ok": [1, 1]},
        {"gold": "7", "trace": turns, "ok": 1},
        {"gold": "7", "trace": turns + turns, "ok": 1},  # two answers: which one?
        {"gold": "7", "trace": ["#### 7"], "ok": [1, 0]},  # two labels for one text
    ]
    code, lines, _ = graded(rows, "--label", "ok")
    assert code == 0
    assert "rows.jsonl: 3 texts of 4 rows graded by MathGrader" in lines
    assert table_rows(lines, "Verdicts", "correct")[1] == "2"
    assert "Set aside: 2 rows" in lines
    assert any(re.match(r" +1\.1  7 +8 +#### +incorrect +correct$", line) for line in lines)


@pytest.mark.parametrize("width", [72, 80, 120])
def test_hostile_content_is_spelt_out_and_tables_fit(graded, width):
    rows = [
        {"gold": "\x1b]0;pwned\x07 5", "trace": "\x1b[31mred\x1b[0m \u202e \r over\n#### 4", "ok": 1},
        {"gold": "12", "trace": "所以，小明一共有十二个苹果，然后他又买了很多苹果。" * 9 + "答案是13。", "ok": 1},
        {"gold": "7", "trace": "Z" + "\u0301" * 300 + " #### 8", "ok": 1},
        {"gold": "9" * 400, "trace": "#### " + "8" * 400, "ok": 1},
        {"gold": "7", "trace": "#### 7", "ok": "\x1b[2J" + "x" * 500},
    ]
    code, lines, error = graded(rows, "--label", "ok", width=width)
    assert code == 0
    assert all(character.isprintable() for line in [*lines, *error.splitlines()] for character in line)
    assert "␛[31mred␛[0m" in "\n".join(lines)
    start = lines.index("Verdicts")
    assert max(cell_len(line) for line in lines[start:]) <= width
    bars = [line for line in lines if "│" in line]
    assert len(bars) == 4


def test_hostile_names_in_errors_are_spelt_out(graded):
    code, _, error = graded([{"g\x1b[2J": 1}])
    assert code == 2
    assert "\x1b" not in error
    assert "has no column" in error


@pytest.mark.parametrize(
    ("rows", "argv", "printed"),
    [
        ([{"golt": "7", "trace": "7"}], [], "no column 'gold' (--gold); did you mean 'golt'? Its columns are golt, trace"),
        ([{"gold": "7", "text": "7"}], [], "no column 'trace' (--text)"),
        (ROWS, ["--label", "is_right"], "no column 'is_right' (--label)"),
        (ROWS, ["--label", "trace"], "says neither correct nor incorrect"),
        (ROWS, ["--grader", "maths"], "there is no grader 'maths'"),
        (ROWS, ["--against", "third"], "there is no grader 'third'"),
        (ROWS, ["--grader", "nowhere.py:mine"], "nowhere.py does not exist"),
        (ROWS, ["--limit", "0"], "leaves no rows"),
        (ROWS, ["--show", "-1"], "no number of rows"),
        (ROWS, ["--out", "out.txt"], "must end in"),
        (ROWS, ["--out", "rows.jsonl"], "is the file that is graded"),
        (ROWS, ["--out", "rows.jsonl/x.jsonl"], "no directory that you may write"),
        ([""], [], "is empty"),
        (["{broken"], [], "not valid JSON"),
        (Path("nowhere.jsonl"), [], "does not exist"),
        (Path("nowhere.csv"), [], "does not exist"),
        (Path("nowhere.txt"), [], "unknown kind of file"),
        (Path("object.json"), [], "not hold a list of objects"),
        (Path("lines.json"), [], "must end in .jsonl"),
        (Path("twice.csv"), [], "two columns that are called 'gold'"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(graded, tmp_path, rows, argv, printed):
    (tmp_path / "object.json").write_text(json.dumps({"gold": 1}))
    (tmp_path / "lines.json").write_text('{"gold": 1}\n{"gold": 2}\n')
    (tmp_path / "twice.csv").write_text("gold,gold,trace\n1,1,1\n")
    code, _, error = graded(rows, *argv)
    assert code == 2
    assert printed in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out.txt").exists()


def test_a_grader_that_raises_is_a_sentence_with_its_line(graded, tmp_path):
    (tmp_path / "grade_command_raising.py").write_text("def mine(text, problem):\n    raise ValueError('no')\n")
    code, _, error = graded(ROWS, "--grader", "grade_command_raising.py:mine")
    assert code == 2
    assert "grade_command_raising.py, line 2: ValueError: no" in error


def test_golds_may_be_worked_solutions(graded):
    solution = "3 + 4 = <<3+4=7>>7\n#### 7"
    _, lines, _ = graded(
        [{"gold": solution, "trace": "#### 8", "ok": 1}, {"gold": solution, "trace": "#### 7", "ok": 1}], "--label", "ok"
    )
    assert table_rows(lines, "Verdicts", "correct")[1] == "1"
    assert any(re.match(r" +1  7 +8 +#### +incorrect +correct$", line) for line in lines)


def test_a_share_is_all_only_where_it_is(graded):
    rows = [{"gold": "7", "trace": "#### 7", "ok": 1}] * 3000 + [{"gold": "7", "trace": "#### 8", "ok": 1}]
    _, lines, _ = graded(rows, "--label", "ok")
    assert table_rows(lines, "Verdicts", "correct")[2] == "99.9"
    assert any("3,000 of 3,001 alike (99.97 %)" in line for line in lines)


def test_only_the_first_rows_are_graded_where_that_is_asked(graded):
    _, lines, _ = graded(ROWS, "--limit", "2")
    assert any("2 rows graded" in line for line in lines)


def test_nothing_heavy_is_imported():
    heavy = {"jax", "torch", "tensorflow", "sympy", "datasets", "transformers", "matplotlib"}
    code = f"import sys, w2sr_jax.cli.grade; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ("72", "integer"),
        ("-1,234", "integer"),
        ("90^\\circ", "integer"),
        ("3 + 4 = 7\n#### 7", "integer"),
        (".5", "decimal"),
        ("\\frac34", "fraction"),
        ("$2\\frac{1}{2}$", "fraction"),
        ("18\\%", "percentage"),
        ("4.5e33", "scientific"),
        ("$1.6 \\times 10^{-19}$", "scientific"),
        ("\\$40", "number with a unit"),
        ("24 dollars", "number with a unit"),
        ("twelve", "number in words"),
        ("9\\pi", "expression"),
        ("x^2 + 1", "expression"),
        ("y = 2x + 3", "equation"),
        ("x \\le 5", "inequality"),
        ("(0, 1]", "interval"),
        ("(-\\infty, 3)", "interval"),
        ("\\left(1, 2\\right)", "tuple"),
        ("\\{1, 2\\}", "set"),
        ("1, 2", "list"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "matrix"),
        ("C", "choice letter"),
        ("\\text{(B)}", "choice letter"),
        ("\\text{east}", "text"),
        ("Consider the line y = x and the point on it", "text"),
        ("", "none"),
    ],
)
def test_kinds_of_gold(gold, expected):
    assert kind(gold) == expected


def test_recorded_traces_with_labels(graded, shared_data):
    _, lines, _ = graded(shared_data / "traces" / "openai_gsm8k_test.jsonl.gz", "--label", "is_correct")
    assert any("4,220 of 4,220 alike (100.00 %)" in line for line in lines)
    assert any("0 correct there" in line for line in " ".join(lines).split("."))
    assert table_rows(lines, "Where the answer stood", "A:")[1] == "4,210"
