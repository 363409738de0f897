"""Differences of JSON values, against what was changed."""

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2sr_jax.core.differing import differing, differing_among, same

LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=3)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3))


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, [("a.1.b", 2, 3)]),
        ({"a": 1, "b": 1}, {"a": 2}, [("a", 1, 2), ("b", 1, ...)]),
        ([1], [1, 2], [("1", ..., 2)]),
        ({"x": {"type": "A", "v": 1}}, {"x": {"type": "B", "v": 1}}, [("x", {"type": "A", "v": 1}, {"type": "B", "v": 1})]),
        ({"x": {}}, {"x": []}, [("x", {}, [])]),
        (1, 1.0, [("", 1, 1.0)]),
        (True, 1, [("", True, 1)]),
        (math.nan, math.nan, []),
    ],
)
def test_each_place_is_named_with_both_values(old: Any, new: Any, found: list[tuple[str, Any, Any]]) -> None:
    assert list(differing(old, new)) == found


def test_several_values_are_laid_side_by_side() -> None:
    values = [{"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2, "d": 4}}, {"a": 3, "b": {"c": 2}}]
    assert list(differing_among(values)) == [("a", (1, 1, 3)), ("b.d", (..., 4, ...))]


@given(VALUES, VALUES)
def test_there_is_a_difference_where_the_json_texts_differ(old: Any, new: Any) -> None:
    texts = [json.dumps(value, sort_keys=True) for value in (old, new)]
    if same(old, new):
        assert list(differing(old, new)) == []
    elif old not in ({}, []) and new not in ({}, []):
        assert texts[0] != texts[1] or "-0.0" in texts[0] + texts[1]
    assert list(differing(old, copy.deepcopy(old))) == []
