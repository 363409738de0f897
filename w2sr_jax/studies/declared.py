"""What a study was declared to show, and when: written before its first run, never taken back."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from w2sr_jax.configuration import saved
from w2sr_jax.core import codec, files, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.statistics import Direction
from w2sr_jax.experiment.study import Cell, Claim, Study, cell_of, is_name
from w2sr_jax.graph.root import STUDY
from w2sr_jax.graph.runner import now


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
    """What was declared of a study so far; none where it has not begun. `UserError` for a file of another version or shape, and
    where a cell has a name that no study gives, which may lead anywhere."""
    path = directory / STUDY
    if not path.is_file():
        return ()
    raw = files.read_json(path)
    if isinstance(raw, dict) and raw.get("format") != files.FORMAT:
        theirs = sentences.value(raw.get("format", 1), 20)
        raise UserError(
            f"{directory} was written by another version of w2sr_jax (format {theirs}; this one reads {files.FORMAT}): "
            "open it with that version, or give the study another name"
        )
    found = codec.decode(_File, raw, str(path)).declarations
    if not found:
        raise UserError(f"{path} declares nothing; remove it, and w2sr study declares anew")
    for each in found:
        wrong = next((cell.name for cell in each.cells if not is_name(cell.name)), None)
        if wrong is not None:
            raise UserError(f"{path} names a cell {sentences.value(wrong, 60)}; names are letters, digits, '.', '_' and '-'")
        if not 0 < each.alpha < 0.5 or not each.seeds or not each.cells:
            raise UserError(f"{path} declares no cells, no seeds, or an alpha that is not between 0 and 0.5")
    return found


@dataclasses.dataclass(frozen=True)
class _File:
    declarations: tuple[Declaration, ...]
    format: int = files.FORMAT


def _claim(claim: Claim, cells: Sequence[Cell]) -> DeclaredClaim:
    left, right = (Side(side.model, cell_of(side, cells, claim).name) for side in (claim.left, claim.right))
    return DeclaredClaim(claim.name, left, right, claim.direction)
