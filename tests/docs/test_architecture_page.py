"""docs/architecture.md shows the layers and folders that there are; docs/methods.md the sources that the code names."""

import re
import tomllib

import doc_pages
from doc_pages import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
METHODS = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "w2sr_jax"
LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
PAPER = re.compile(r"\b\d{4}\.\d{5}\b")


def test_the_layers_are_those_that_are_checked() -> None:
    layers = next(contract["layers"] for contract in LINTER if contract["type"] == "layers")
    shown = [block.text.strip().splitlines() for block in doc_pages.blocks(ROOT / "docs" / "architecture.md", "text")]
    assert layers in shown


def test_what_does_not_import_jax_is_named() -> None:
    rule = next(contract for contract in LINTER if "jax" in contract.get("forbidden_modules", ()))
    sentence = PAGE[PAGE.index("what runs on a laptop") : PAGE.index("does not import jax")]
    assert {f"w2sr_jax.{name}" for name in re.findall(r"`(\w+)`", sentence)} == set(rule["source_modules"])


def test_every_folder_is_described() -> None:
    rows = re.findall(r"^\| `w2sr_jax/([\w.]+)/?` \|", PAGE, re.M)
    there = {path.name for path in PACKAGE.iterdir() if path.name not in ("__init__.py", "__pycache__")}
    assert sorted(rows) == sorted(there)


def test_the_papers_that_the_code_names_are_among_the_sources() -> None:
    named = {paper for path in PACKAGE.rglob("*.py") for paper in PAPER.findall(path.read_text(encoding="utf-8"))}
    assert len(named) >= 8
    assert named - set(PAPER.findall(METHODS)) == set()


def test_every_loss_has_its_formula() -> None:
    from w2sr_jax.losses import token

    others = {"Loss", "Divergence", "Sum", "Weighted", "OnCorrect", "OnIncorrect", "OnSpans"}
    losses = {name for name, kind in vars(token).items() if isinstance(kind, type) and issubclass(kind, token.Loss)} - others
    assert {name for name in losses if f"| `{name}` |" not in METHODS} == set()
    training = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert {name for name in losses if f"`{name}`" not in training} == set()


def test_every_command_and_exit_code_is_described() -> None:
    from w2sr_jax.cli import commands, main

    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for name in commands.all_commands():
        assert re.search(rf"`(?:w2sr )?{name}\b", page), name
    codes = set(re.findall(r"\d+", (main.__doc__ or "").split("Exit codes:")[1].split("\n\n")[0]))
    shown = set(re.findall(r"\d+", "\n".join(re.findall(r"^\| ([\d, ]+) \|", page, re.M))))
    assert codes == shown
