"""The collective operations of a compiled program, read from its text (`jax.stages.Compiled.as_text()`)."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np

KINDS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)


class Collective(NamedTuple):
    """One array that one operation gives to each device."""

    kind: str
    """One of `KINDS`."""
    dtype: str
    """As HLO spells it: f32, bf16, s32, pred."""
    shape: tuple[int, ...]
    """Of the result on one device. An all-to-all that gives a tuple is one array, the tuple's parts along its first axis."""
    groups: tuple[tuple[int, ...], ...]
    """Numbers of the devices that exchange with each other, of a collective-permute (source, target); empty: all with all, or
    written in a way that this module does not read."""
    times: int
    """How often a run of the program does it: the product of the trip counts of the loops around it, where a loop without a
    trip count in the text counts as 1. All branches of a conditional count."""
    name: str
    """What it was compiled from, such as jit(step)/transpose(jvp(Decoder))/…; empty where the text does not say."""

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """What one device receives from one execution, its own part included."""
        digits = re.search(r"\d+", self.dtype)
        return -(-self.size * (int(digits[0]) if digits else 8) // 8)


def collectives(hlo: str) -> list[Collective]:
    """All of them, in the order of the text. A start and its end count once. Where a TPU's compiler fuses an all-reduce with the
    slice that each device keeps of it, that is a reduce-scatter."""
    calls = list(_calls(hlo))

    @cache
    def times(computation: str) -> int:
        callers = [(caller, trips) for called, caller, trips in calls if called == computation]
        return sum(times(caller) * trips for caller, trips in callers) if callers else 1

    listed = []
    scattered = {head[1]: _arrays(head[2]) for head in map(_RESULT.match, hlo.splitlines()) if head}
    for computation, line in _lines(hlo):
        match = _OPERATION.search(line)
        if match is None:
            continue
        kind, arrays = match["kind"], _arrays(match["type"])
        if match["start"]:
            arrays = _results(kind, arrays)
        if kind == "all-reduce" and computation.startswith(_SCATTERING):
            kind, arrays = "reduce-scatter", scattered[computation]
        if kind == "all-to-all" and len(arrays) > 1:
            arrays = [(arrays[0][0], (len(arrays), *arrays[0][1]))]
        name = re.search(r'op_name="([^"]*)"', line)
        for dtype, shape in arrays:
            listed.append(Collective(kind, dtype, shape, _groups(line), times(computation), name[1] if name else ""))
    return listed


_OPERATION = re.compile(rf"= (?P<type>.*?) (?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\(")
_ARRAY = re.compile(r"([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")
_HEAD = re.compile(r"^(?:ENTRY )?%?(\S+) \(.*\{\s*$")
_SCATTERING = "all-reduce-scatter"
_RESULT = re.compile(rf"^%?({_SCATTERING}\S*) \(.*\) -> (.*) \{{\s*$")
_CALLED = re.compile(r"(body|condition|calls|to_apply|true_computation|false_computation)=%?([^\s,)}]+)")
_BRANCHES = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
_CONSTANT = re.compile(r"%?(\S+) = s(?:32|64)\[\]\S* constant\((\d+)\)")
_LIMIT = re.compile(r"ROOT .* compare\(.*, (?:\S+ )?%?([^\s,()]+)\), direction=LT")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


def _lines(hlo: str) -> Iterator[tuple[str, str]]:
    """Each operation with the computation that it stands in."""
    computation = ""
    for line in hlo.splitlines():
        head = _HEAD.match(line)
        if head:
            computation = head[1]
        elif " = " in line:
            yield computation, line


def _calls(hlo: str) -> Iterator[tuple[str, str, int]]:
    """(called, caller, how often a run of the caller does it)."""
    bounds = _bounds(hlo)
    for caller, line in _lines(hlo):
        trip_count, named = _TRIPS.search(line), dict(_CALLED.findall(line))
        trips = int(trip_count[1]) if trip_count else bounds.get(named.get("condition", ""), 1)
        for how, called in named.items():
            yield called, caller, trips if how == "body" else 1
        for branches in _BRANCHES.findall(line):
            for called in branches.split(","):
                yield called.strip().lstrip("%"), caller, 1


def _bounds(hlo: str) -> dict[str, int]:
    """Of the conditions that compare with a constant how often they hold, counted from 0 by 1 as JAX counts its loops."""
    constants: dict[tuple[str, str], int] = {}
    bounds: dict[str, int] = {}
    for computation, line in _lines(hlo):
        if constant := _CONSTANT.search(line):
            constants[computation, constant[1]] = int(constant[2])
        elif (limit := _LIMIT.search(line)) and (computation, limit[1]) in constants:
            bounds[computation] = constants[computation, limit[1]]
    return bounds


def _arrays(words: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(dtype, _numbers(shape)) for dtype, shape in _ARRAY.findall(words)]


def _results(kind: str, arrays: list[tuple[str, tuple[int, ...]]]) -> list[tuple[str, tuple[int, ...]]]:
    """Of the arrays that a start names, operands first, those that its end gives."""
    if kind == "all-reduce" or len(arrays) == 1:
        return arrays
    if kind == "collective-permute":
        return arrays[1:2]
    return arrays[len(arrays) // 2 :]


def _groups(line: str) -> tuple[tuple[int, ...], ...]:
    listed = re.search(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}", line)
    if listed:
        return tuple(_numbers(group) for group in re.findall(r"\{([\d,]*)\}", listed[1]))
    counted = re.search(r"replica_groups=\[([\d,]+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)", line)
    if counted:
        return _tuples(_devices(counted[2]).reshape(_numbers(counted[1])))
    named = re.search(r"replica_groups=mesh\[([^\]]*)\],?(?: device_ids=\((\[[^)]*\)?)\))? ?\{([^}:]*)\}", line)
    if named is None:
        return ()
    sizes: Mapping[str, int] = {axis: int(size) for axis, size in re.findall(r"'([^']*)'=(\d+)", named[1])}
    devices = _devices(named[2] or f"[{prod(sizes.values())}]").reshape(tuple(sizes.values()))
    inner = re.findall(r"'([^']*)'", named[3])
    moved = [list(sizes).index(axis) for axis in inner]
    return _tuples(np.moveaxis(devices, moved, range(-len(moved), 0)).reshape(-1, prod(sizes[axis] for axis in inner)))


def _devices(words: str) -> np.ndarray:
    """[2,4]T(1,0): the numbers from 0 on in this shape, its axes exchanged so, one after the other."""
    shape, order = re.match(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", words).groups()  # type: ignore[union-attr]
    devices = np.arange(prod(_numbers(shape))).reshape(_numbers(shape))
    return (devices.transpose(_numbers(order)) if order else devices).reshape(-1)


def _numbers(words: str) -> tuple[int, ...]:
    return tuple(int(word) for word in words.split(",") if word)


def _tuples(groups: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(device) for device in group) for group in groups)
