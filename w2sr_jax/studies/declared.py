"""What a study was declared to show, and when: written before its first run, never taken back."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from w2sr_jax.configuration import saved
from w2sr_jax.core import codec, files
from w2sr_jax.evaluation.statistics import Direction
from w2sr_jax.experiment.study import Cell, Claim, Study, cell_of
from w2sr_jax.graph.root import STUDY
from w2sr_jax.graph.runner import now

CELLS = "cells"
"""Folder below a study with a run for each cell."""


@dataclasses.dataclass(frozen=True)
class Side:
    """A model of a cell."""

    model: str
    cell: str


@dataclasses.dataclass(frozen=True)
class DeclaredClaim:
    """A claim about models of cells."""

    name: str
    left: Side
    right: Side
    direction: Direction


@dataclasses.dataclass(frozen=True)
class DeclaredCell:
    """A cell: its name, its values by axis, and the digest of its settings."""

    name: str
    values: Mapping[str, str]
    settings: str


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What was declared at a time, when `finished` stages of the study's runs were finished already."""

    when: str
    finished: int
    alpha: float
    primary: DeclaredClaim
    secondary: tuple[DeclaredClaim, ...]
    seeds: tuple[int, ...]
    cells: tuple[DeclaredCell, ...]


def declare(directory: Path, study: Study, cells: Sequence[Cell], finished: int) -> tuple[Declaration, ...]:
    """Write down what a study is to show, unless that is what was declared last; all declarations, the first one first."""
    earlier = declarations(directory)
    own = Declaration(
        when=now(),
        finished=finished,
        alpha=study.alpha,
        primary=_claim(study.primary, cells),
        secondary=tuple(_claim(claim, cells) for claim in study.secondary),
        seeds=study.seeds,
        cells=tuple(DeclaredCell(cell.name, dict(cell.values), saved.config_hash(cell.experiment)) for cell in cells),
    )
    if earlier and dataclasses.replace(earlier[-1], when=own.when, finished=own.finished) == own:
        return earlier
    everything = (*earlier, own)
    files.write_json(directory / STUDY, codec.encode(_File(everything)))
    return everything


def declarations(directory: Path) -> tuple[Declaration, ...]:
    """What was declared of a study so far; none where it has not begun. `UserError` for a file of another shape."""
    path = directory / STUDY
    return codec.read(_File, path).declarations if path.is_file() else ()


@dataclasses.dataclass(frozen=True)
class _File:
    declarations: tuple[Declaration, ...]
    format: int = files.FORMAT


def _claim(claim: Claim, cells: Sequence[Cell]) -> DeclaredClaim:
    left, right = (Side(side.model, cell_of(side, cells, claim).name) for side in (claim.left, claim.right))
    return DeclaredClaim(claim.name, left, right, claim.direction)
