"""Paths of files and data sets, taken apart."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2sr_jax.core.errors import UserError
from w2sr_jax.problems.datasets import title
from w2sr_jax.problems.reference import Bound, Part, parse


@pytest.mark.parametrize(
    ("path", "kind", "name", "configs", "parts"),
    [
        ("a/b.jsonl", "file", "a/b.jsonl", (), (Part(None),)),
        ("file:a:b.jsonl", "file", "a:b.jsonl", (), (Part(None),)),
        ("hf:o/n", "hf", "o/n", (), (Part(None),)),
        ("hf:o/n:main", "hf", "o/n", ("main",), (Part(None),)),
        ("hf:o/n:test", "hf", "o/n", (), (Part("test"),)),
        ("hf:o/n::odd", "hf", "o/n", (), (Part("odd"),)),
        ("hf:o/n:a+b:train+test", "hf", "o/n", ("a", "b"), (Part("train"), Part("test"))),
        ("hf:o/n:odd[:1000]", "hf", "o/n", (), (Part("odd", None, Bound(1000)),)),
        ("hf:o/n:c:train[10%:-5]", "hf", "o/n", ("c",), (Part("train", Bound(10, True), Bound(-5)),)),
        ("tfds:gsm8k", "tfds", "gsm8k", (), (Part(None),)),
        ("tfds:a/conf:2.0.0:train[:10]", "tfds", "a/conf/2.0.0", (), (Part("train", None, Bound(10)),)),
        ("tfds:a:odd", "tfds", "a", (), (Part("odd"),)),
    ],
)
def test_paths_are_taken_apart(path: str, kind: str, name: str, configs: tuple[str, ...], parts: tuple[Part, ...]) -> None:
    parsed = parse(path)
    assert (parsed.kind, parsed.name, parsed.configs, parsed.parts) == (kind, name, configs, parts)


def test_revisions_and_titles() -> None:
    assert parse("hf:o/n@main:c:test") == parse("hf:o/n:c:test")._replace(revision="main")
    assert title("hf:o/n@main:c:test[:10]") == "o/n:c:test"
    assert title("/some/where/p.jsonl") == "p.jsonl"


@given(st.integers(0, 50), st.none() | st.integers(-60, 60), st.none() | st.integers(-60, 60))
def test_slices_are_pythons(total: int, start: int | None, stop: int | None) -> None:
    text = f"train[{'' if start is None else start}:{'' if stop is None else stop}]"
    (part,) = parse(f"hf:o/n::{text}").parts
    assert list(part.rows(total)) == list(range(total))[start:stop]


@given(st.integers(0, 300), st.integers(0, 100), st.integers(0, 100))
def test_percentages_share_out_all_rows(total: int, first: int, second: int) -> None:
    cuts = sorted([0, first, second, 100])
    parts = parse("hf:o/n::" + "+".join(f"train[{a}%:{b}%]" for a, b in itertools.pairwise(cuts))).parts
    assert [row for part in parts for row in part.rows(total)] == list(range(total))


@given(st.text(max_size=30) | st.text("hftds:/[]%+@ab1-.", max_size=30))
def test_any_path_is_parsed_or_refused(text: str) -> None:
    for path in (text, f"hf:{text}", f"tfds:{text}"):
        with contextlib.suppress(UserError):
            assert parse(path).parts
