"""Batches addressed by step: a pure function of data, seed and step, whatever the number of processes."""

import dataclasses

import jax
import numpy as np
import pytest

from w2sr_jax.batches.batch import Batch, Batches
from w2sr_jax.batches.encode import Encoded
from w2sr_jax.batches.packing import pack
from w2sr_jax.batches.settings import Batching
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.topk import TopK

LENGTH = 12


def batches(count: int, rows: int, seed: int = 0, share: bool = False) -> Batches:
    """`count` examples, example i made of tokens i alone."""
    made = []
    for i in range(count):
        n = 4 + i % 5
        supervised = np.arange(n) >= 2
        made.append(Encoded(np.full(n, i, np.int32), np.full(n, 1, np.int8), supervised, 1, 0.5, np.full(n, -0.25, np.float32)))
    return Batches(pack(made, LENGTH, 999, share), Batching(LENGTH, rows, share), seed)


def recorded_batches() -> Batches:
    """Nine examples, made as those of `batches`; two of three with recorded distributions."""
    n, supervised = 6, np.arange(6) >= 2
    rows = []
    for i in range(9):
        ids = np.where(supervised[:, None], [[i, i + 1]], -1).astype(np.int32)
        top = TopK(ids, np.full((n, 2), -0.25 * i, np.float32), np.full(n, -i, np.float32)) if i % 3 else None
        rows.append(Encoded(np.full(n, i, np.int32), np.ones(n, np.int8), supervised, 1, 1.0, np.zeros(n, np.float32), top))
    return Batches(pack(rows, LENGTH, 999, False), Batching(LENGTH, 4, False), 0)


def same(a: Batch, b: Batch) -> bool:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=x.dtype == np.float32) for x, y in leaves)


def test_a_batch_depends_on_its_step_alone() -> None:
    one, other = batches(20, 4), batches(20, 4)
    forward = [one.batch_at(step) for step in range(12)]
    backward = [other.batch_at(step) for step in reversed(range(12))][::-1]
    assert all(same(a, b) for a, b in zip(forward, backward))
    assert same(one.batch_at(10**6), other.batch_at(10**6))


def test_each_epoch_visits_every_row_once_in_an_order_of_its_own() -> None:
    data = batches(20, 4)
    assert data.steps_per_epoch == 5
    epochs = [np.concatenate([data.batch_at(5 * epoch + step).tokens[:, 0] for step in range(5)]).tolist() for epoch in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.parametrize(("count", "rows"), [(40, 8), (5, 8)])
def test_the_steps_of_a_row_are_those_whose_batch_holds_it(count: int, rows: int) -> None:
    data, total = batches(count, rows), 12
    read = [data.batch_at(step).tokens[:, 0] for step in range(total)]
    for row in (0, 2, count - 1):
        expected = [step + 1 for step in range(total) if data.packed.tokens[row, 0] in read[step]]
        assert expected
        assert data.steps_of(row, total) == expected
    assert data.steps_of(count, 2) == []


def test_seed_and_data_change_the_order() -> None:
    order = [batches(20, 20, seed).batch_at(0).tokens[:, 0].tolist() for seed in range(3)]
    assert order[0] != order[1] != order[2]
    assert batches(21, 4).digest != batches(20, 4).digest


def test_the_order_does_not_depend_on_what_a_teacher_measured() -> None:
    """The last bits of sums depend on how many devices a teacher was spread over; the tokens that it drew are the same."""
    one, rng = recorded_batches(), np.random.default_rng(0)
    top = one.packed.top
    assert top is not None
    near = top._replace(logprobs=top.logprobs * np.float32(1 + 1e-6), rest=np.nextafter(top.rest, np.float32(1)))
    measured = one.packed.teacher_logprob + rng.normal(0, 1e-6, one.packed.teacher_logprob.shape).astype(np.float32)
    for change in ({"teacher_logprob": measured}, {"top": near}, {"top": None}):
        other = dataclasses.replace(one, packed=dataclasses.replace(one.packed, **change))
        assert other.digest != one.digest
        assert [other.rows_at(step).tolist() for step in range(8)] == [one.rows_at(step).tolist() for step in range(8)]


@pytest.mark.parametrize("name", ["tokens", "target", "positions", "segments", "span", "verdict", "weight"])
def test_the_order_depends_on_everything_that_is_exact(name: str) -> None:
    one = batches(40, 40)
    values = getattr(one.packed, name).copy()
    values[7, 1] += 1
    other = dataclasses.replace(one, packed=dataclasses.replace(one.packed, **{name: values}))
    assert other.rows_at(0).tolist() != one.rows_at(0).tolist()


def test_fewer_rows_than_a_batch_repeat() -> None:
    data = batches(3, 8)
    assert data.steps_per_epoch == 1
    tokens = data.batch_at(0).tokens[:, 0].tolist()
    assert sorted(tokens[:3]) == sorted(tokens[3:6]) == [0, 1, 2]
    assert data.batch_at(5).tokens.shape == (8, LENGTH)


def test_shapes_types_and_what_is_padding() -> None:
    data = batches(20, 4, share=True)
    batch = data.batch_at(2)
    leaves = jax.tree.leaves(batch)
    assert {x.shape for x in leaves} == {(4, LENGTH)}
    assert [x.dtype for x in leaves] == [np.int32] * 6 + [np.float32] * 2
    empty = batch.segments == 0
    assert (batch.tokens[empty] == 999).all()
    assert set(np.unique(batch.weight)) == {0.0, 0.5}
    assert not batch.weight[empty].any()
    assert np.isnan(batch.teacher_logprob[empty]).all()
    for row in range(4):
        for segment in range(1, batch.segments[row].max() + 1):
            at = batch.segments[row] == segment
            assert batch.positions[row][at].tolist() == list(range(at.sum()))
            assert len({*batch.tokens[row][at], *batch.target[row][at]}) == 1


def test_statistics_count_what_is_there() -> None:
    data = batches(7, 2, share=True)
    lengths = [3 + i % 5 for i in range(7)]
    found = data.statistics
    assert (found.examples, found.tokens, found.supervised_tokens) == (7, sum(lengths), sum(lengths) - 7)
    assert found.fill == pytest.approx(sum(lengths) / (found.rows * LENGTH))


def test_settings_that_do_not_fit_the_data_are_refused() -> None:
    packed = batches(3, 2).packed
    with pytest.raises(UserError, match="packed in rows of 12 positions, not of 16"):
        Batches(packed, Batching(16, 2))
    with pytest.raises(UserError, match=r"batching.rows 0; both must be at least 1"):
        Batching(LENGTH, 0)


def test_a_step_has_the_recorded_distributions_of_its_rows() -> None:
    data = recorded_batches()
    for step in range(6):
        found, batch = data.recorded_at(step), data.batch_at(step)
        assert found is not None
        assert found.available is not None
        for row, number in enumerate(batch.tokens[:, 0].tolist()):
            own = (batch.weight[row] > 0) if number % 3 else np.zeros(LENGTH, bool)
            np.testing.assert_array_equal(found.available[row], own)
            np.testing.assert_array_equal(found.ids[row][own], np.broadcast_to([number, number + 1], (own.sum(), 2)))
            np.testing.assert_array_equal(found.rest[row][own], np.full(own.sum(), -number))
    assert batches(5, 2).recorded_at(0) is None
