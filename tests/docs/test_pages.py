"""Whatever README, CONTRIBUTING and docs/ name is there: files, modules, links, settings, options, commands."""

import argparse
import contextlib
import functools
import importlib
import io
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import doc_pages
import doc_runs
import pytest
from doc_pages import NAMES, PAGES, ROOT, Block

from w2sr_jax.cli import commands
from w2sr_jax.cli import main as cli
from w2sr_jax.configuration import saved
from w2sr_jax.configuration.overrides import overridden
from w2sr_jax.core.errors import UserError
from w2sr_jax.experiment.study import cells
from w2sr_jax.runs import requirements

LANGUAGES = {"python", "bash", "text", "json", "diff"}
MOST_NOT_RUN = 4
STAGES = (*commands.EXPERIMENTS, *commands.STAGES)
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
SHELL = {"cd", "source", "git", "export"}
"""Commands of a shell that may stand in a block."""
FOLDERS = ("w2sr_jax", "tools", "tests", "docs", "configs")
FILES = (".py", ".json", ".jsonl", ".gz", ".parquet")
QUOTING = ("grading.md", "test-problems.md")
"""Pages whose code marks hold texts of models and questions."""


class Read(SystemExit):
    """Raised in the place of the work that a command line asks for, once it was parsed."""

    def __init__(self, options: argparse.Namespace, rest: list[str]) -> None:
        super().__init__(0)
        self.options, self.rest = options, rest


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Parses a command line as `w2sr` does, and does nothing of what it asks for."""
    plain = argparse.ArgumentParser.parse_known_args

    def known(parser: argparse.ArgumentParser, args: list[str] | None = None, namespace: None = None) -> object:
        raise Read(*plain(parser, args, namespace))

    def alone(parser: argparse.ArgumentParser, args: list[str] | None = None, namespace: None = None) -> object:
        options, rest = plain(parser, args, namespace)
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        raise Read(options, [])

    def read(words: list[str]) -> Read:
        with monkeypatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_known_args", known)
            patch.setattr(argparse.ArgumentParser, "parse_args", alone)
            with pytest.raises(Read) as found:
                cli.run(words)
        return found.value

    return read


@pytest.fixture
def configurations(directory: Path) -> Path:
    """A directory with `configs/`, and with the files that the pages define."""
    for page in NAMES:
        doc_runs.write(page, directory)
    return directory


@functools.cache
def options() -> frozenset[str]:
    """The settings that the configurations have, as the command line calls them."""
    found: set[str] = set()
    for path in CONFIGS:
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
            overridden(saved.load_config(path), ["--help"], "w2sr run")
        found |= set(re.findall(r"--([a-z][\w.-]+)", printed.getvalue()))
    return frozenset(found)


@functools.cache
def sources() -> str:
    """All code of the package and its tools."""
    return "\n".join(
        path.read_text(encoding="utf-8") for folder in ("w2sr_jax", "tools") for path in (ROOT / folder).rglob("*.py")
    )


def test_every_block_says_its_language() -> None:
    assert [block.where for block in doc_pages.every() if block.language not in LANGUAGES] == []


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [block for block in doc_pages.every() if block.reason]
    assert len(left_out) <= MOST_NOT_RUN, [block.where for block in left_out]
    assert all(len(block.reason.split()) >= 3 for block in left_out)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1500


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in doc_pages.links(page):
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), target
        assert not anchor or anchor in doc_pages.anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_and_modules_that_are_named_are_there(page: Path) -> None:
    for text in doc_pages.code(page):
        for word in text.split():
            word = word.strip(",;:()'\"").rstrip(".").partition(":")[0]
            if re.fullmatch(r"[A-Z]+\.py", word):  # stands for any file
                continue
            if re.fullmatch(r"w2sr_jax(\.\w+)+", word):
                assert _importable(word), word
            elif re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*", word) or re.fullmatch(r"[\w/-]+\.(py|sh|md|toml|lock)", word):
                near = (ROOT, ROOT / "w2sr_jax", ROOT / "docs", page.parent)
                assert any((folder / word).exists() for folder in near) or word in _defined(), word


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_classes_that_are_named_are_there(page: Path) -> None:
    for text in doc_pages.code(page) if page.name not in QUOTING else ():
        found = re.fullmatch(r"([A-Z][a-z]+(?:[A-Z][a-zA-Z]*)*)(?:\.\w+|\(.*\))?", text)
        if found:
            assert re.search(rf"\b{found[1]}\b", sources()), text


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_settings_that_are_named_are_there(page: Path) -> None:
    """`--evaluation.pool` in full, `training.reference_top` as the end of a setting's name."""
    groups = {part for option in options() for part in option.split(".")[:-1] if not part.isdecimal()}
    for text in doc_pages.code(page):
        for word in text.split():
            name = word.removeprefix("--").partition("=")[0].rstrip(",").replace("_", "-")
            if word.startswith("--") and "." in name:
                assert name in options(), word
            elif re.fullmatch(r"[a-z-]+(\.[a-z0-9-]+)+", name) and name.split(".")[0] in groups and not name.endswith(FILES):
                assert any(f".{name}." in f".{option}." for option in options()), word


COMMANDS = [(block, words) for block in doc_pages.every("bash") for words in doc_pages.command_lines(block)]


@pytest.mark.parametrize(("block", "words"), COMMANDS, ids=[f"{block.where} {' '.join(words)}" for block, words in COMMANDS])
def test_commands_can_be_given(block: Block, words: list[str], parsed, configurations: Path) -> None:
    program, *rest = words
    if program == "w2sr":
        _check_w2sr(rest, parsed)
    elif program in ("bash", "python"):
        _check_script(rest)
    elif program == "pip":
        _check_installation(rest)
    else:
        assert program in SHELL, words


def _check_w2sr(words: list[str], parsed) -> None:
    if words[0] in ("--help", "--version"):
        return
    asks = "--help" in words
    read = parsed([word for word in words if word != "--help"])
    if words[0] not in STAGES:
        return
    target = read.options.target
    assert target is not None
    if not target.endswith(".py"):
        assert not read.rest, read.rest
        return
    if words[0] == "study":
        assert cells(saved.load_study(Path(target if target != "STUDY.py" else "configs/studies/noise.py")))
        assert not read.rest, read.rest
        return
    experiment = saved.load_config(Path(target if target != "CONFIG.py" else "configs/quickstart.py"))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit) if asks else contextlib.nullcontext():
        overridden(experiment, [*read.rest, *(["--help"] if asks else [])], "w2sr")
    requirements.understood(getattr(read.options, "require", []), experiment)


def _check_script(words: list[str]) -> None:
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1].split(".")[0]), words
        return
    script = ROOT / words[0]
    assert script.is_file(), script
    text = "\n".join(path.read_text(encoding="utf-8") for path in script.parent.rglob(f"*{script.suffix}"))
    for word in words[1:] if script.suffix == ".py" else ():
        assert not word.startswith("--") or f'"{word.partition("=")[0]}"' in text, word


def _check_installation(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert words[0] == "install"
    if words[1] == "-r":
        assert (ROOT / words[2]).is_file(), words
    else:
        assert words[1] == "-e", words
        assert all(extra in extras for extra in re.findall(r"\[(\w+)\]", words[2])), words


def _importable(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        with contextlib.suppress(ImportError):
            value = importlib.import_module(".".join(parts[:count]))
            return all((value := getattr(value, part, None)) is not None for part in parts[count:])
    return False


@functools.cache
def _defined() -> set[str]:
    """The files that examples on the pages define."""
    found = {block.file for block in doc_pages.every("python")}
    return found | {Path(name).name for name in found}


def test_a_command_line_that_cannot_be_given_is_noticed(parsed, configurations: Path) -> None:
    for words in (["run", "configs/quickstart.py", "--nothing.like.it", "3"], ["export", "a", "b", "--nothing"], ["rnu"]):
        with pytest.raises((UserError, SystemExit, BaseException)) as error:
            _check_w2sr(words, parsed)
        assert not isinstance(error.value, Read)
