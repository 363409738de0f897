"""`w2sr grade`: parses, calls, prints."""

import argparse
import time
from pathlib import Path

from w2sr_jax.cli.arguments import local_path
from w2sr_jax.cli.console import Console
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.grading import output, summary
from w2sr_jax.grading.audit import audit
from w2sr_jax.grading.columns import Columns, read
from w2sr_jax.grading.graders import KNOWN, Named, named
from w2sr_jax.graph import store

SECOND = "second"
NARROWEST, WIDEST = 72, 120  # characters of a line


def parser(about: str) -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="w2sr grade", description=about)
    arguments.add_argument(
        "file", metavar="FILE", help="JSON Lines, JSON, CSV, TSV (all also .gz), Parquet, or hf:NAME, tfds:NAME"
    )
    arguments.add_argument(
        "--gold", required=True, metavar="COLUMN", help="gold answers, or solutions that mark them by #### or a box"
    )
    arguments.add_argument("--text", required=True, metavar="COLUMN", help="what is graded: texts, lists of texts, or messages")
    arguments.add_argument(
        "--label", metavar="COLUMN", help="what somebody else said: true or false, 1 or 0, correct or incorrect"
    )
    arguments.add_argument("--question", metavar="COLUMN", help="questions, for graders that look at them")
    arguments.add_argument("--solution", metavar="COLUMN", help="worked solutions: whether gold is one of several boxes")
    arguments.add_argument("--options", metavar="COLUMN", help="lists of options, for --grader choice")
    graders = f"{', '.join(KNOWN)}, or FILE.py:NAME"
    arguments.add_argument("--grader", default="math", metavar="NAME", help=f"{graders} (default: math)")
    arguments.add_argument(
        "--against", default=SECOND, metavar="NAME", help=f"second: cheap rules for numbers (default); or a grader: {graders}"
    )
    arguments.add_argument("--limit", type=int, metavar="N", help="only the first N rows")
    arguments.add_argument("--show", type=int, default=10, metavar="N", help="how many disagreements are printed (default: 10)")
    arguments.add_argument(
        "--out", type=local_path, metavar="FILE", help=f"write each row's verdict: {', '.join(output.SUFFIXES)}"
    )
    arguments.add_argument("--plain", action="store_true", help="plain lines instead of progress bars")
    return arguments


def run(argv: list[str], about: str, _: Stop) -> int:
    """Run the command with its arguments and return the exit code. Raises UserError."""
    options = parser(about).parse_args(argv)
    if options.show < 0:
        raise UserError(f"--show {options.show} is no number of rows; give 0 or more")
    if options.out is not None:
        output.check(options.out, options.file)
    store.check(Path(options.file))
    columns = Columns(options.gold, options.text, options.label, options.question, options.solution, options.options)
    grader = named(options.grader)
    against = None if options.against == SECOND else named(options.against)
    with Console(plain=options.plain) as console:
        console.begin("reading", 0, 2)
        began = time.monotonic()
        items, rows, rejected = read(options.file, columns, options.limit)
        console.end("reading", f"{rows:,} rows, {len(rejected):,} set aside", time.monotonic() - began)
        console.begin("grading", 1, 2)
        began = time.monotonic()
        graded = audit(items, grader, against, lambda done, total: console.progress(done, total, f"{done:,} of {total:,}"))
        console.end("grading", f"{len(items):,} text{'' if len(items) == 1 else 's'}", time.monotonic() - began)
    subject = summary.Subject(options.file, rows, grader.name, _called(against), options.label)
    width = max(NARROWEST, min(console.rich.width, WIDEST))
    console.line("")
    for line in summary.lines(subject, graded, rejected, options.show, width):
        console.line(line)
    if options.out is not None:
        output.write(options.out, graded, rejected)
        console.line(f"\nWritten: {options.out}")
    return 0


def _called(against: Named | None) -> str:
    return "the second opinion" if against is None else against.name
