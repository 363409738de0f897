"""Examples of the pages as a reader has them: files in a directory of their own, and experiments small enough to run."""

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import doc_pages
from doc_pages import ROOT, Block

from w2sr_jax.configuration import saved
from w2sr_jax.configuration.overrides import overridden
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, Scratch

SMALL = (
    *("--mesh.data", "1", "--splits.pretrain", "0", "--splits.teacher", "0", "--splits.pool", "40", "--splits.probe", "4"),
    *("--splits.test", "8", "--rungs.0.training.steps", "2"),
)
"""Settings for an experiment like the quickstart with one rung: seconds rather than minutes."""


@contextlib.contextmanager
def inside(directory: Path) -> Iterator[None]:
    """Work in a directory that gets `configs/`. Modules that are imported from it are forgotten afterwards."""
    shutil.copytree(ROOT / "configs", directory / "configs")
    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(directory / "configs"))
    with contextlib.chdir(directory):
        try:
            yield
        finally:
            sys.path[:] = path
            for name in set(sys.modules) - before:
                if str(directory) in str(getattr(sys.modules[name], "__file__", "")):
                    del sys.modules[name]


def named(page: str, file: str) -> Block:
    """The example of a page that is this file."""
    return next(block for block in doc_pages.blocks(ROOT / page, "python") if block.file == file)


def write(page: str, directory: Path) -> None:
    """The files that a page's examples define, in a directory."""
    for block in doc_pages.blocks(ROOT / page, "python"):
        if block.file:
            file = directory / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")


def configurations(page: str) -> list[Path]:
    """The files in `configs/` that a page's examples define."""
    return [Path(block.file) for block in doc_pages.blocks(ROOT / page, "python") if block.file.startswith("configs/")]


def load(page: str, file: str, directory: Path) -> Experiment:
    """The experiment of a page's example, whose file lies in a directory beside those of the same page."""
    write(page, directory)
    return saved.load_config(directory / file)


def small(experiment: Experiment, *more: str) -> Experiment:
    """An experiment like the quickstart with its first rung alone, from random weights, and hardly any training."""
    rung = dataclasses.replace(experiment.rungs[0], start=Scratch(), gold=False, probe=Probe())
    short = dataclasses.replace(experiment, rungs=(rung,), evaluation=Evaluation(resamples=50))
    return overridden(short, [*SMALL, *more], "w2sr run")
