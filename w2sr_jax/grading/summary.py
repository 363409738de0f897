"""The lines that `w2sr grade` prints: verdicts, rules, graders, kinds of gold, and disagreements."""

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from w2sr_jax.answers import extract
from w2sr_jax.answers.equal import bare
from w2sr_jax.answers.extract import GUESSES, MOST_GUESSED
from w2sr_jax.core import sentences
from w2sr_jax.core.records import VERDICTS
from w2sr_jax.grading.audit import Count, Graded, counts
from w2sr_jax.grading.kinds import KINDS
from w2sr_jax.grading.layout import Column, one_line, share, shortened, table, tail
from w2sr_jax.problems.rows import Rejected

LETTERS = "choice letter"
_REASONS = 8  # reasons for setting rows aside that are listed
_LONG = 60  # cells of an answer that are printed
_COMPARED = {
    "exact": "exact values or equal spelling",
    "math-verify": "computer algebra",
    "numeric": "exact values within the tolerance",
    "none": "nothing to compare",
    "limits": "too long or large to compare",
    "timeout": "took too long",
    "memory": "took too much memory",
    "recursion": "nested too deeply",
    "crash": "the process died",
    "no number": "the answer is no number",
}


class Subject(NamedTuple):
    """What was graded: the file, the number of its rows, the names of the grader and of the other opinion (`against`), and the
    column of labels, if there is one."""

    path: str
    rows: int
    grader: str
    against: str
    label: str | None


def lines(subject: Subject, rows: Sequence[Graded], rejected: Sequence[Rejected], show: int, width: int) -> Iterator[str]:
    """All lines of the audit, without invisible characters. `show`: how many disagreements of each kind are listed; `width`: in
    cells."""
    path = sentences.printable(subject.path)
    several = f"{_many(len(rows), 'text')} of " if subject.rows - len(rejected) != len(rows) else ""
    yield from _wrapped(f"{path}: {several}{_many(subject.rows, 'row')} graded by {subject.grader}", width)
    yield from _verdicts(rows, width)
    yield from _rules(rows, width)
    yield from _graders(rows, width)
    yield from _kinds(subject, rows, width)
    yield from _label(subject, rows, show, width)
    yield from _against(subject, rows, show, width)
    yield from _rejected(rejected, width)


def _verdicts(rows: Sequence[Graded], width: int) -> Iterator[str]:
    numbers: Counter[str] = Counter(row.verdict.verdict for row in rows)
    shown = [
        (name, f"{numbers[name]:,}", share(numbers[name], len(rows))) for name in VERDICTS if numbers[name] or name == "correct"
    ]
    yield from _section("Verdicts")
    yield from table([Column("verdict"), Column("n", True), Column("share", True)], shown, width)


def _rules(rows: Sequence[Graded], width: int) -> Iterator[str]:
    yield from _section("Where the answer stood")
    columns = [Column("rule", gives_way=True), Column("n", True), Column("share", True), Column("correct", True)]
    shown = [(count.name, *_n(count, len(rows)), share(count.correct, count.graded)) for count in counts(rows, _rule)]
    yield from table(columns, shown, width)
    guessed = sum(map(_guessed, rows))
    if guessed > MOST_GUESSED * len(rows):
        warning = (
            f"Warning: {guessed:,} of {_many(len(rows), 'text')} ({share(guessed, len(rows))}) state no answer in a form that is "
            f"known, and what stands last was taken for it. That is more than {MOST_GUESSED:.0%}: look at some of them."
        )
        yield from _wrapped(warning, width)


def _rule(row: Graded) -> str:
    name = one_line(row.verdict.rule)
    if row.verdict.rule not in GUESSES:
        return name
    return f"{name} (a guess)" if _guessed(row) else f"{name} (the whole text)"


def _guessed(row: Graded) -> bool:
    return extract.guessed(row.item.text, row.verdict.answer, row.verdict.rule)


def _graders(rows: Sequence[Graded], width: int) -> Iterator[str]:
    yield from _section("What compared it with gold")
    columns = [Column("grader"), Column("n", True), Column("share", True), Column("correct", True), Column("", gives_way=True)]
    groups = counts(rows, lambda row: row.verdict.grader)
    shown = [
        (one_line(count.name), *_n(count, len(rows)), share(count.correct, count.graded), _COMPARED.get(count.name, ""))
        for count in groups
    ]
    yield from table(columns, shown, width)


def _kinds(subject: Subject, rows: Sequence[Graded], width: int) -> Iterator[str]:
    groups = sorted(counts(rows, lambda row: row.kind), key=lambda count: KINDS.index(count.name))
    columns = [
        Column("kind", gives_way=True),
        *(Column(name, True) for name in ("n", "share", "correct", "unparsed", "two opinions", "alike")),
    ]
    shown = [
        (
            count.name,
            *_n(count, len(rows)),
            share(count.correct, count.graded),
            share(count.unparsed, count.n),
            f"{count.judged:,}",
            share(count.alike, count.judged),
        )
        for count in groups
    ]
    yield from _section("Kinds of gold")
    yield from table(columns, shown, width)
    yield from _wrapped(
        f"Two opinions: texts on which {subject.against} has one as well; alike: right for both, or for neither.", width
    )
    letters = sum(count.n for count in groups if count.name == LETTERS)
    if 2 * letters > len(rows) and subject.grader != "ChoiceGrader":
        yield from _wrapped(
            f"{letters:,} of {_many(len(rows), 'gold answer')} are letters: --grader choice reads the letter that a text settles "
            "on, with --options COLUMN also where it is given in words.",
            width,
        )


def _label(subject: Subject, rows: Sequence[Graded], show: int, width: int) -> Iterator[str]:
    if subject.label is None:
        return
    labelled = [row for row in rows if row.item.label is not None and row.right is not None]
    differ = [row for row in labelled if row.label_differs]
    yield from _section(f"Against the label {sentences.shown(subject.label, 40)}")
    more = sum(row.right is True for row in differ)
    without = len(rows) - len(labelled)
    yield from _wrapped(
        f"  {_alike(len(labelled) - len(differ), len(labelled))}. Correct here and wrong by the label: {more:,}; correct by the "
        f"label and not here: {len(differ) - more:,}{f'; without a label: {without:,}' if without else ''}.",
        width,
    )
    yield from _differing(differ, "label", lambda row: "correct" if row.item.label else "incorrect", show, width)


def _against(subject: Subject, rows: Sequence[Graded], show: int, width: int) -> Iterator[str]:
    judged = [row for row in rows if row.judged]
    differ = [row for row in judged if row.other_differs]
    wrong = [row for row in rows if row.verdict.verdict == "incorrect"]
    both = sum(row.other.verdict == "incorrect" for row in wrong)
    doubted = sum(row.other.verdict == "correct" for row in wrong)
    yield from _section(f"Against {subject.against}")
    wrongs = f"{both:,} incorrect there too, {doubted:,} correct there, {len(wrong) - both - doubted:,} without an opinion"
    yield from _wrapped(
        f"  {_alike(len(judged) - len(differ), len(judged))}; without an opinion: {len(rows) - len(judged):,}. Of {len(wrong):,} "
        f"incorrect here: {wrongs}.",
        width,
    )
    yield from _differing(differ, "other", lambda row: f"{row.other.verdict}: {row.other.answer or ''}", show, width)


def _differing(rows: Sequence[Graded], other: str, opinion: Callable[[Graded], str], show: int, width: int) -> Iterator[str]:
    """A table of the first `show` rows on which opinions differ, each with the end of its text on a line below it."""
    if not rows or not show:
        return
    columns = [
        Column("line", True),
        Column("gold", gives_way=True),
        Column("answer read", gives_way=True),
        Column("rule", gives_way=True),
        Column("verdict"),
        Column(other, gives_way=True),
    ]
    cells = [
        (
            _position(row),
            _short(bare(row.item.problem.answer or "")),
            _short(row.verdict.answer),
            one_line(row.verdict.rule),
            row.verdict.verdict,
            _short(opinion(row)),
        )
        for row in rows[:show]
    ]
    heading, *shown = table(columns, cells, width)
    yield ""
    yield heading
    for row, line in zip(rows, shown):
        yield line
        yield f"        │ {tail(row.item.text, width - 10)}"
    if len(rows) > show:
        yield f"  {len(rows) - show:,} more; --show N prints more of them, --out FILE writes all."


def _rejected(rejected: Sequence[Rejected], width: int) -> Iterator[str]:
    if not rejected:
        return
    first: dict[str, int] = {}
    for row in reversed(rejected):
        first[row.reason] = row.line
    reasons = Counter(row.reason for row in rejected).most_common()
    yield from _section(f"Set aside: {_many(len(rejected), 'row')}")
    columns = [Column("n", True), Column("first line", True), Column("reason", gives_way=True)]
    yield from table(columns, [(f"{n:,}", f"{first[reason]:,}", reason) for reason, n in reasons[:_REASONS]], width)
    if len(reasons) > _REASONS:
        yield f"  {len(reasons) - _REASONS:,} more reasons; --out FILE writes all."


def _section(title: str) -> Iterator[str]:
    yield ""
    yield title


def _n(count: Count, whole: int) -> tuple[str, str]:
    return f"{count.n:,}", share(count.n, whole)


def _position(row: Graded) -> str:
    return f"{row.item.line}" if row.item.sample is None else f"{row.item.line}.{row.item.sample}"


def _short(text: str | None) -> str:
    return "–" if text is None else shortened(one_line(text[: 4 * _LONG]), _LONG)


def _alike(part: int, whole: int) -> str:
    """A share in percent, which is 100 only where the part is the whole."""
    exact = f" ({min(100 * part / whole, 100 if part == whole else 99.99):.2f} %)" if whole else ""
    return f"{part:,} of {whole:,} alike{exact}"


def _many(count: int, one: str) -> str:
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def _wrapped(text: str, width: int) -> Iterator[str]:
    indent = "  "
    yield from textwrap.wrap(
        text.strip(), width, initial_indent=indent if text.startswith(indent) else "", subsequent_indent=indent
    )
