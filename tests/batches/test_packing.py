"""Packing: every example once, whole, in a row that holds it; the same plan and the same bytes every time."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.batches import packing
from w2sr_jax.batches.encode import Encoded
from w2sr_jax.batches.packing import Packed, layout, pack, plan
from w2sr_jax.batches.stored import StoredExamples, sizes
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.topk import TopK

CAPACITY = 24
PAD = 99


def recorded(rng: np.random.Generator, supervised: np.ndarray) -> TopK | None:
    """What a teacher recorded at the supervised tokens; one in three did not, others listed one to three tokens."""
    count = int(rng.integers(0, 4))
    if not count:
        return None
    ids = np.where(supervised[:, None], rng.integers(0, 50, (len(supervised), count)), -1).astype(np.int32)
    logprobs, rest = (-rng.random(shape).astype(np.float32) for shape in (ids.shape, len(supervised)))
    return TopK(ids, logprobs, rest)


def example(rng: np.random.Generator, length: int) -> Encoded:
    supervised = np.zeros(length, bool)
    supervised[rng.integers(0, length) :] = True
    logprob = np.where(supervised, -rng.random(length), np.nan).astype(np.float32)
    return Encoded(
        rng.integers(0, 50, length).astype(np.int32),
        rng.integers(0, 4, length).astype(np.int8),
        supervised,
        int(rng.integers(-1, 2)),
        float(rng.choice([0.5, 1.0, 2.0])),
        logprob,
        recorded(rng, supervised),
    )


encoded_sets = st.builds(
    lambda lengths, seed: [example(np.random.default_rng([seed, i]), length) for i, length in enumerate(lengths)],
    st.lists(st.integers(2, CAPACITY + 1), min_size=1, max_size=40),
    st.integers(0, 99),
)


def reference_best_fit(lengths: list[int], capacity: int) -> int:
    """Rows that textbook best-fit-decreasing needs."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
            rooms.append(min(fitting) - length)
        else:
            rooms.append(capacity - length)
    return len(rooms)


@given(st.lists(st.integers(1, CAPACITY), max_size=200))
def test_each_item_once_no_row_too_full_and_as_few_rows_as_best_fit_decreasing(lengths: list[int]) -> None:
    rows = plan(lengths, CAPACITY)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(row and sum(lengths[index] for index in row) <= CAPACITY for row in rows)
    assert len(rows) == reference_best_fit(lengths, CAPACITY)
    assert rows == plan(list(lengths), CAPACITY)


@given(st.integers(CAPACITY + 1, 1000))
def test_an_item_larger_than_a_row_is_refused(length: int) -> None:
    with pytest.raises(UserError, match=f"needs {length} positions but a row has {CAPACITY}"):
        plan([1, length], CAPACITY)


def unpacked(packed: Packed) -> list[tuple[object, ...]]:
    """What each segment of each row says, token by token."""
    found = []
    for row in range(len(packed.tokens)):
        for segment in range(1, packed.segments[row].max() + 1):
            at = packed.segments[row] == segment
            assert np.array_equal(packed.positions[row][at], np.arange(at.sum()))
            names = ("tokens", "target", "span", "verdict", "weight", "teacher_logprob")
            columns = tuple(tuple(np.nan_to_num(getattr(packed, name)[row][at], nan=7.0).tolist()) for name in names)
            found.append((*columns, listed_at(packed.top, (row, at))))
    return found


def listed_at(top: TopK | None, at: Any) -> list[object]:
    """What is listed at some positions, as dictionaries with the rest; None where nothing is known."""
    if top is None:
        return []
    rows = zip(top.ids[at].tolist(), top.logprobs[at].tolist(), top.rest[at].tolist(), strict=True)
    every = [(dict(zip(ids, logprobs, strict=True)), rest) for ids, logprobs, rest in rows]
    known = [({token: value for token, value in one.items() if token >= 0}, rest) for one, rest in every]
    return [each if each[0] else None for each in known]


@settings(deadline=None)
@given(encoded_sets, st.booleans())
def test_no_token_is_lost_or_crosses_examples(examples: list[Encoded], share: bool) -> None:
    packed = pack(examples, CAPACITY, PAD, share)
    expected = []
    for one in examples:
        n = len(one.tokens) - 1
        weight = np.where(one.supervised[1:], one.weight, 0.0)
        logprob = np.nan_to_num(one.teacher_logprob[1:], nan=7.0)
        columns = (one.tokens[:-1], one.tokens[1:], one.span[1:], np.full(n, one.verdict), weight, logprob)
        own = listed_at(one.top, slice(1, None)) or ([] if packed.top is None else [None] * n)
        expected.append((*(tuple(column.tolist()) for column in columns), own))
    assert sorted(map(repr, unpacked(packed))) == sorted(map(repr, expected))
    assert (packed.top is None) == all(one.top is None for one in examples)
    empty = packed.segments == 0
    assert (packed.tokens[empty] == PAD).all()
    assert (packed.target[empty] == PAD).all()
    assert (packed.weight[empty] == 0).all()
    if not share:
        assert len(packed.tokens) == len(examples)


@settings(deadline=None)
@given(encoded_sets, st.booleans())
def test_the_layout_says_where_pack_puts_each_example(examples: list[Encoded], share: bool) -> None:
    packed, rows = pack(examples, CAPACITY, PAD, share), layout(examples, CAPACITY, share)
    assert len(rows) == len(packed.tokens)
    assert sorted(index for row in rows for index in row) == list(range(len(examples)))
    for row, members in enumerate(rows):
        assert packed.segments[row].max() == len(members)
        for segment, index in enumerate(members, 1):
            at = packed.segments[row] == segment
            assert np.array_equal(packed.tokens[row][at], examples[index].tokens[:-1])
            assert np.array_equal(packed.target[row][at], examples[index].tokens[1:])


@settings(deadline=None)
@given(encoded_sets, st.booleans(), st.integers(1, 3))
def test_what_is_written_row_by_row_from_the_disk_equals_what_is_packed_in_memory(
    examples: list[Encoded], share: bool, together: int
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "TOGETHER", together)
        folder = Path(name)
        pack(examples, CAPACITY, PAD, share).save(folder / "memory.npz")
        stored = StoredExamples(folder, iter(examples))
        assert list(sizes(stored)) == [len(one.tokens) for one in examples]
        written = packing.write(folder / "disk.npz", stored, CAPACITY, PAD, share)
        assert (folder / "disk.npz").read_bytes() == (folder / "memory.npz").read_bytes()
        assert written.digest == Packed.load(folder / "memory.npz").digest
        assert sorted(path.name for path in folder.iterdir()) == ["disk.npz", "memory.npz"]


@settings(deadline=None)
@given(encoded_sets)
def test_examples_on_the_disk_are_a_sequence_of_the_same_examples(examples: list[Encoded]) -> None:
    with tempfile.TemporaryDirectory() as name:
        stored = StoredExamples(Path(name), iter(examples))
        assert len(stored) == len(examples)
        for found, given_ in zip([*stored, stored[-1], *stored[1:]], [*examples, examples[-1], *examples[1:]], strict=True):
            (*found, top), (*given_, other_top) = found, given_
            assert (top is None) == (other_top is None)
            for one, other in zip([*found, *(top or ())], [*given_, *(other_top or ())], strict=True):
                np.testing.assert_array_equal(one, other)
                assert np.asarray(one).dtype == np.asarray(other).dtype
        with pytest.raises(IndexError):
            stored[len(examples)]


def test_equal_data_gives_equal_bytes_and_other_data_another_digest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    examples = [example(rng, length) for length in (5, 9, 25, 3)]
    packed = pack(examples, CAPACITY, PAD)
    packed.save(tmp_path / "a.npz")
    pack(examples, CAPACITY, PAD).save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    loaded = Packed.load(tmp_path / "a.npz")
    assert loaded.digest == packed.digest
    assert isinstance(loaded.tokens.base, np.memmap)  # left on the disk
    assert not loaded.tokens.flags.writeable
    assert unpacked(loaded) == unpacked(packed)
    changed = examples[0]._replace(weight=examples[0].weight + 1)
    assert pack([changed, *examples[1:]], CAPACITY, PAD).digest != packed.digest


def test_damaged_and_missing_files_and_empty_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Packed.load(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK not really")
    with pytest.raises(UserError, match="is not a packed data set"):
        Packed.load(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", tokens=np.zeros(3))
    with pytest.raises(UserError, match="is not a packed data set"):
        Packed.load(tmp_path / "other.npz")
    packed = pack([example(np.random.default_rng(0), 5)], CAPACITY, PAD)
    packed.save(tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-30])
    with pytest.raises(UserError, match="is not a packed data set"):
        Packed.load(tmp_path / "cut.npz")
    np.savez_compressed(tmp_path / "compressed.npz", **vars(packed))
    with pytest.raises(UserError, match="is compressed"):
        Packed.load(tmp_path / "compressed.npz")
    np.savez(tmp_path / "objects.npz", allow_pickle=True, **{**vars(packed), "tokens": np.array([{}], object)})
    with pytest.raises(UserError, match="not an array of numbers"):
        Packed.load(tmp_path / "objects.npz")
    with pytest.raises(UserError, match="no example to train on"):
        pack([], CAPACITY)
