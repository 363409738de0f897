"""Results written as JSON and read back; files that are something else are refused by name."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2sr_jax.core import codec
from w2sr_jax.core.codec import Inline, LeftOut
from w2sr_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Part:
    share: float | None
    count: int


@dataclasses.dataclass(frozen=True)
class Tree:
    name: str
    branches: tuple["Tree", ...] = ()


@dataclasses.dataclass(frozen=True)
class Whole:
    kind: Literal["a", "b"]
    right: bool
    own: Inline[Part]
    parts: Mapping[str, Part]
    pair: tuple[int, str]
    settings: Mapping[str, object]
    tree: Tree | None
    cost: LeftOut[float | None] = None


WHOLE = Whole("a", True, Part(0.5, 2), {"x": Part(None, 0)}, (1, "one"), {"any": [1, {"thing": None}]}, Tree("t", (Tree("u"),)))
JSON = {
    "kind": "a",
    "right": True,
    "share": 0.5,
    "count": 2,
    "parts": {"x": {"share": None, "count": 0}},
    "pair": [1, "one"],
    "settings": {"any": [1, {"thing": None}]},
    "tree": {"name": "t", "branches": [{"name": "u", "branches": []}]},
}


def changed(path: str, value: Any) -> Any:
    """`JSON` with another value at a path; `...` takes the field away."""
    whole = json.loads(json.dumps(JSON))
    *outer, last = path.split(".")
    inner = whole
    for key in outer:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[int(last) if isinstance(inner, list) else last] = value
    return whole


def test_a_result_is_its_fields_and_comes_back() -> None:
    assert codec.encode(WHOLE) == JSON
    assert codec.decode(Whole, JSON, "file") == WHOLE
    paid = dataclasses.replace(WHOLE, cost=0.25)
    assert codec.encode(paid) == {**JSON, "cost": 0.25}
    assert codec.decode(Whole, {**JSON, "cost": 0.25}, "file") == paid


@given(st.floats(-1e100, 1e100) | st.sampled_from((math.nan, math.inf)), st.integers(-(2**62), 2**62), st.text())
def test_what_is_written_is_read_as_the_same(share: float, count: int, name: str) -> None:
    value = dataclasses.replace(WHOLE, own=Part(share, count), tree=Tree(name))
    text = json.dumps(codec.encode(value), allow_nan=False)
    read = codec.decode(Whole, json.loads(text), "file")
    assert json.dumps(codec.encode(read)) == text
    assert read.own == (Part(share, count) if math.isfinite(share) else Part(None, count))


def test_a_field_with_a_default_may_be_missing() -> None:
    assert codec.decode(Tree, {"name": "t"}, "file") == Tree("t")


def test_other_fields_are_let_be_only_where_that_is_asked_for() -> None:
    line = {"share": 0.5, "count": 1, "tokens": 9}
    assert codec.decode(Part, line, "file", others=True) == Part(0.5, 1)
    with pytest.raises(UserError, match=r"^file has an unknown field 'tokens'$"):
        codec.decode(Part, line, "file")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("kind", "c", "file, kind is 'c'; it must be 'a' or 'b'"),
        ("kind", ..., "file has no field 'kind'"),
        ("right", 1, "file, right is 1; it must be true or false"),
        ("share", "much", "file, share is 'much'; it must be a number"),
        ("share", math.inf, "file, share is inf; it must be a number"),
        ("share", math.nan, "file, share is nan; it must be a number"),
        ("share", -1e101, "file, share is -1e\\+101; it must be a number"),
        ("share", True, "file, share is True; it must be a number"),
        ("share", 10**400, "file, share is 1"),
        ("count", 1.5, "file, count is 1.5; it must be a whole number"),
        ("count", None, "file, count is None; it must be a whole number"),
        ("parts", [], "file, parts is \\[\\]; it must be an object"),
        ("parts.x.count", ..., "file, parts.x has no field 'count'"),
        ("parts.x", "\x1b[2J", r"file, parts.x is '\\x1b\[2J'; it must be an object"),
        ("pair", [1], "file, pair has 1 entries; it must have 2"),
        ("pair", {"a": 1}, "file, pair is .*; it must be a list"),
        ("pair.1", 2, "file, pair.1 is 2; it must be text"),
        ("tree.branches.0.name", None, "file, tree.branches.0.name is None; it must be text"),
        ("tree.leaf", 1, "file, tree has an unknown field 'leaf'"),
        ("settings.any", math.nan, "file, settings.any holds a number that is not finite"),
    ],
)
def test_what_has_another_shape_is_named_in_one_sentence(path: str, value: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        codec.decode(Whole, changed(path, value), "file")
    assert len(str(error.value)) < 200
    assert str(error.value).isprintable()


def test_what_is_nested_without_end_is_refused() -> None:
    deep: Any = []
    tree: Any = {"name": "leaf"}
    for _ in range(5000):
        deep, tree = [deep], {"name": "t", "branches": [tree]}
    for value in (changed("settings.any", 1) | {"settings": {"deep": deep}}, changed("right", True) | {"tree": tree}):
        with pytest.raises(UserError, match="nested too deeply"):
            codec.decode(Whole, value, "file")


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, Part])
def test_what_is_no_result_is_not_written(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be a part of a result"):
        codec.encode(value)


def test_files_hold_results(tmp_path: Path) -> None:
    codec.write(tmp_path / "part.json", Part(0.5, 3))
    assert codec.read(Part, tmp_path / "part.json") == Part(0.5, 3)
    with pytest.raises(UserError, match=r"part\.json has no field 'name'|unknown field"):
        codec.read(Tree, tmp_path / "part.json")
    with pytest.raises(UserError, match="does not exist"):
        codec.read(Part, tmp_path / "none.json")
