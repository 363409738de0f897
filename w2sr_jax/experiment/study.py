"""A study: many variants of one experiment, and what they are to show.

`configs/studies/*.py` define `study() -> Study`. Its cells are all combinations of its axes' values, each an experiment; a claim
says which model of which cell is to be better than which other, and is declared before anything is computed.
"""

import dataclasses
import difflib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from w2sr_jax.core import sentences
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.evaluation.statistics import Direction
from w2sr_jax.experiment.experiment import Experiment

Change = Callable[[Experiment], Experiment]
"""Makes another experiment of one."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST = 200
"""Bytes of a cell's name, which is that of a folder."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """What is varied: by the names of its values, what each makes of an experiment. Names are letters, digits, `.`, `_`, `-`."""

    name: str
    values: Mapping[str, Change]


@dataclasses.dataclass(frozen=True)
class Of:
    """A model of a cell: by its name in tables, such as "0-small.correct", and the values of the axes that say which cell. An
    axis that has one value need not be named."""

    model: str
    at: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Claim:
    """That `left` answers more test problems right than `right` ("greater"), fewer ("less"), or another share of them."""

    name: str
    left: Of
    right: Of
    direction: Direction = "greater"


@dataclasses.dataclass(frozen=True)
class Study:
    """Variants of an experiment, with the claims that they are to decide."""

    name: str
    """The study is written to ROOT/NAME."""
    base: Experiment
    """What is varied. Its own name and seeds do not count."""
    axes: tuple[Axis, ...]
    """What is varied; cells are all combinations of their values."""
    primary: Claim
    """What the study is for, tested as it is."""
    secondary: tuple[Claim, ...] = ()
    """Further claims, whose p values are corrected together (Holm)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every cell is run with each of them."""
    alpha: float = 0.05
    """How often a primary claim that is false may come out as shown, and any of the secondary ones. All of it lies on a claim's
    side where it has one."""
    left_out: tuple[Mapping[str, str], ...] = ()
    """Combinations that are not run: every cell that has all values of one of these."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A combination of values, and the experiment that it is."""

    values: Mapping[str, str]
    experiment: Experiment

    @property
    def name(self) -> str:
        """Also the name of its run."""
        return self.experiment.name


def cells(study: Study) -> list[Cell]:
    """All cells, the last axis varying fastest. `UserError` where the study is none: fields of another type, names that cannot be
    paths, an axis without values, a change that returns no experiment, axes that clash, cells that are one experiment or one
    folder, claims about no cell."""
    _check_types(study)
    _check_names(study)
    changed = dict(_each(study))
    _check_clashes(study)
    found: list[Cell] = []
    for values in itertools.product(*(axis.values for axis in study.axes)):
        at = dict(zip((axis.name for axis in study.axes), values, strict=True))
        if any(all(at.get(name) == value for name, value in out.items()) for out in study.left_out):
            continue
        experiment = study.base
        for axis, value in at.items():
            experiment = changed[axis, value](experiment)
        found.append(Cell(at, dataclasses.replace(experiment, name=_cell_name(at), seeds=study.seeds)))
    if not found:
        raise UserError(f"the study {study.name} has no cell: left_out leaves none")
    _check_folders(found)
    _check_equal(found)
    for claim in (study.primary, *study.secondary):
        for side in (claim.left, claim.right):
            cell_of(side, found, claim)
    return found


def cell_of(side: Of, among: Sequence[Cell], claim: Claim) -> Cell:
    """The cell that a side of a claim is about. `UserError` where there is none, or several."""
    matching = [cell for cell in among if all(cell.values.get(axis) == value for axis, value in side.at.items())]
    where = ", ".join(f"{axis} {value}" for axis, value in side.at.items()) or "no axis"
    if not matching:
        known = {f"{axis} {value}" for cell in among for axis, value in cell.values.items()}
        wrong = [f"{axis} {value}" for axis, value in side.at.items() if f"{axis} {value}" not in known]
        near = difflib.get_close_matches(wrong[0], sorted(known), 1) if wrong else []
        raise UserError(
            f"the claim {claim.name!r} is about {side.model} at {where}, and there is no such cell"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    if len(matching) > 1:
        open_axes = [axis for axis in matching[0].values if len({cell.values[axis] for cell in matching}) > 1]
        raise UserError(
            f"the claim {claim.name!r} is about {side.model} at {where}, which are {len(matching)} cells; say the value of "
            f"{' and of '.join(open_axes)} too"
        )
    return matching[0]


def _each(study: Study) -> Iterator[tuple[tuple[str, str], Change]]:
    """Every value's change, with what it returns looked at."""
    for axis in study.axes:
        for name, change in axis.values.items():
            yield (axis.name, name), _checked(axis.name, name, change)


def _checked(axis: str, name: str, change: Change) -> Change:
    def checked(experiment: Experiment) -> Experiment:
        with usercode.calling(change):
            value: object = change(experiment)
        if not isinstance(value, Experiment):
            raise UserError(
                f"{usercode.defined(change)}: the value {name} of the axis {axis} returned {sentences.value(value, 40)}; it must "
                "return an Experiment"
            )
        if wrong := mistyped(value, Experiment):
            raise UserError(
                f"{usercode.defined(change)}: the value {name} of the axis {axis} returned an experiment whose {wrong}"
            )
        return value

    return checked


def is_name(text: str) -> bool:
    """Whether a cell, an axis or a value can be called that: no path, and one that every file system can hold."""
    return _NAME.fullmatch(text) is not None and len(text) <= _LONGEST


def _check_types(study: Study) -> None:
    wrong = mistyped(study, Study, "study()") or next(_unmapped(study), None)
    if wrong:
        raise UserError(wrong)


def _unmapped(study: Study) -> Iterator[str]:
    """What is wrong with the mappings of a study, in sentences; all else in it is of its type."""
    for axis in study.axes:
        change = "a function from an experiment to an experiment"
        yield from _unlike(f"the values of the axis {sentences.shown(axis.name, 60)}", axis.values, callable, change)
    for claim in (study.primary, *study.secondary):
        for side in (claim.left, claim.right):
            yield from _unlike(f"at, in the claim {claim.name!r},", side.at, _is_text, "text")
    for out in study.left_out:
        yield from _unlike("a part of left_out", out, _is_text, "text")


def _unlike(where: str, mapping: object, fits: Callable[[object], bool], kind: str) -> Iterator[str]:
    if not isinstance(mapping, Mapping):
        yield f"{where} must map names to {kind}, and this is {sentences.value(mapping, 60)}"
        return
    for name, value in mapping.items():
        if not isinstance(name, str):
            yield f"{where} must have names that are text, and one is {sentences.value(name, 60)}; write {str(name)!r}"
        elif not fits(value):
            yield f"{where} must map names to {kind}, and {sentences.shown(name, 60)} is {sentences.value(value, 60)}"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _check_names(study: Study) -> None:
    named = [("the study", study.name), *(("an axis", axis.name) for axis in study.axes)]
    named += [(f"a value of the axis {axis.name}", value) for axis in study.axes for value in axis.values]
    for what, name in named:
        if not _NAME.fullmatch(name):
            raise UserError(f"{what} is called {sentences.value(name, 60)}; names are letters, digits, '.', '_' and '-'")
    for axis in study.axes:
        if not axis.values:
            raise UserError(f"the axis {axis.name} has no values")
    names = [axis.name for axis in study.axes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two axes are called {twice}")
    claims = [claim.name for claim in (study.primary, *study.secondary)]
    if repeated := next((name for name in claims if claims.count(name) > 1), None):
        raise UserError(f"two claims are called {repeated!r}")
    if not 0 < study.alpha < 0.5:
        raise UserError(f"the study's alpha is {study.alpha}; it must lie between 0 and 0.5, such as 0.05")
    if len(set(study.seeds)) < len(study.seeds) or not study.seeds:
        raise UserError(f"the seeds of the study {study.name} are {list(study.seeds)}; give one or more, each once")


def _check_clashes(study: Study) -> None:
    """`UserError` where what two axes make depends on which comes first: one of them takes back what the other has done."""
    changed = dict(_each(study))
    for one, other in itertools.combinations(study.axes, 2):
        for left, right in itertools.product(one.values, other.values):
            first, second = changed[one.name, left], changed[other.name, right]
            if first(second(study.base)) != second(first(study.base)):
                raise UserError(
                    f"the axes {one.name} and {other.name} clash: {one.name} {left} and {other.name} {right} make another "
                    "experiment in the other order, since both set one field; let each set fields of its own"
                )


def _check_folders(found: Sequence[Cell]) -> None:
    """`UserError` where two cells would lie in one folder, on some file system, or the name of one is too long for any."""
    seen: dict[str, Cell] = {}
    for cell in found:
        if not is_name(cell.name):
            raise UserError(
                f"the cell {sentences.shown(cell.name, 60)} has a name of {len(cell.name)} bytes, and folders take at most "
                f"{_LONGEST}; give axes and values shorter names"
            )
        if other := seen.get(cell.name.casefold()):
            raise UserError(f"the cells {other.name} and {cell.name} would lie in one folder; call a value something else")
        seen[cell.name.casefold()] = cell


def _check_equal(found: Sequence[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in found:
        text = repr(dataclasses.replace(cell.experiment, name="-"))
        if text in seen:
            raise UserError(f"the cells {seen[text].name} and {cell.name} are one experiment; an axis has two equal values")
        seen[text] = cell


def _cell_name(at: Mapping[str, str]) -> str:
    return "_".join(f"{axis}-{value}" for axis, value in at.items()) or "base"
