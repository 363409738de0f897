"""docs/report.md says what holds: its examples are understood, its lists complete, its rule the page's."""

import json
import re
import shlex
from pathlib import Path

import fabricated_run
import pytest

from w2sr_jax.report import rule
from w2sr_jax.report.requirements.language import OPERATORS, QUANTITIES, Names, RungNames, parsed, target
from w2sr_jax.report.results import ANSWERS
from w2sr_jax.report.write import write

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
ARMS = ("base", "base-direct", "all", "correct", "incorrect", "gold")
QUICKSTART = Names((RungNames(0, "small", ARMS), RungNames(1, "large", ARMS)), ("teacher",))
EXAMPLES = re.findall(r"^\| `([^`|]*[<>=][^`|]*)` \|", TEXT, re.MULTILINE)
COMMANDS = [shlex.split(line) for line in re.findall(r"^w2sr .*--require.*$", TEXT, re.MULTILINE)]


@pytest.mark.parametrize("text", EXAMPLES)
def test_each_example_is_a_requirement_on_the_quickstart(text: str) -> None:
    target(parsed(text), QUICKSTART)


def test_the_commands_are_as_a_shell_reads_them() -> None:
    asked = [command[index + 1] for command in COMMANDS for index, part in enumerate(command) if part == "--require"]
    assert len(asked) == 3
    for text in asked:
        target(parsed(text), QUICKSTART)


def test_every_quantity_operator_and_answer_is_there() -> None:
    assert len(EXAMPLES) >= len(QUANTITIES)
    table = TEXT[TEXT.index("| quantity |") : TEXT.index("| requirement |")]
    for word in (*QUANTITIES, *ANSWERS):
        assert f"`{word}`" in table
    assert {parsed(text).operator for text in EXAMPLES} == set(OPERATORS) - {"<="}


def test_the_rule_is_the_one_of_the_page() -> None:
    """Sentence by sentence, marks of emphasis and line ends aside; the page has typographic apostrophes."""
    plain = " ".join(TEXT.replace("**", "").replace("'", "’").split())
    for sentence in rule.RULE.split(". ")[:2]:
        for part in re.split("; ", sentence.rstrip(".")):
            assert part[1:] in plain, part


def test_the_fields_are_there(tmp_path: Path) -> None:
    found = json.loads(write(tmp_path, fabricated_run.results(count=40)).numbers.read_text())
    for path in re.findall(r"^\| `([a-z.\[\]A-Z_]+)` \|", TEXT[: TEXT.index("## Requirements")], re.MULTILINE):
        value = found
        for part in path.replace("[]", "").split("."):
            value = value[0] if isinstance(value, list) else value
            value = next(iter(value.values())) if part.isupper() else value[part]
        assert value is not None, path
