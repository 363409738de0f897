"""The project's pages taken apart: their blocks of code, their links, and the names that they mention."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = tuple(sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]))
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*$")
"""A comment directly before a block that cannot be run, with the reason."""
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ \t]*$", re.M | re.S)
_FILE = re.compile(r"^# ([\w/.-]+\.py)(?:\s.*)?\n")


class Block(NamedTuple):
    """A fenced block: the page (relative to the repository), its line there, its language, and its text.

    `file` is the file that it is, as its first line says (`# configs/focal.py`); "" for one without such a line. `reason` is why
    it is not run, "" for one that is.
    """

    page: str
    line: int
    language: str
    text: str
    file: str
    reason: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The blocks of a page in their order; only those of one language where it is given."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before, body = text[: match.start()], match["text"]
        reason = NOT_RUN.search(before)
        file = _FILE.match(body)
        found.append(
            Block(
                page.relative_to(ROOT).as_posix(),
                before.count("\n") + 1,
                match["language"],
                body,
                file[1] if file and match["language"] == "python" else "",
                reason[1] if reason else "",
            )
        )
    return [block for block in found if language in (None, block.language)]


def every(language: str | None = None) -> list[Block]:
    """The blocks of all pages."""
    return [block for page in PAGES for block in blocks(page, language)]


def prose(page: Path) -> str:
    """A page without its blocks; lines keep their numbers."""
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text(encoding="utf-8"))


def code(page: Path) -> list[str]:
    """What stands between single backticks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(page))


def links(page: Path) -> list[str]:
    """The targets of links and pictures that lead nowhere outside."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The names under which the headings of a page can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def command_lines(block: Block) -> Iterator[list[str]]:
    """The commands of a block for a shell, as the shell would read them: comments dropped, continued lines joined, variables that
    are set before a command left out."""
    joined = block.text.replace("\\\n", " ")
    for line in joined.splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_][A-Z0-9_]*=.*", words[0]):
            words = words[1:]
        if words:
            yield words
