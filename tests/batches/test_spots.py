"""An example is found in packed rows where packing has laid it, twins in their order too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.batches.encode import Encoded
from w2sr_jax.batches.packing import layout, pack, positions
from w2sr_jax.batches.spots import Spot, find, in_order, same

CAPACITY = 12


def encoded(tokens: list[int], verdict: int, weight: float) -> Encoded:
    count = len(tokens)
    return Encoded(
        np.array(tokens, np.int32),
        np.array([0, *[1] * (count - 1)], np.int8),
        np.array([False, *[True] * (count - 1)]),
        verdict,
        weight,
        np.where(np.arange(count) > 0, np.float32(-0.5 * verdict), np.float32("nan")).astype(np.float32),
    )


def spots_by_hand(examples: list[Encoded], share: bool) -> list[Spot]:
    """Where packing says that each example lies."""
    found = {}
    for row, members in enumerate(layout(examples, CAPACITY, share)):
        for at, index in enumerate(members):
            start = sum(positions(examples[other]) for other in members[:at])
            found[index] = Spot(row, at + 1, len(members), start)
    return [found[index] for index in range(len(examples))]


# Few tokens, verdicts and weights, so that there are many twins and beginnings alike.
EXAMPLES = st.lists(
    st.builds(
        encoded, st.lists(st.integers(1, 2), min_size=2, max_size=6), st.sampled_from([1, -1]), st.sampled_from([1.0, 2.0])
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(EXAMPLES, st.booleans())
def test_every_example_is_found_where_it_was_packed(examples: list[Encoded], share: bool) -> None:
    packed, wanted = pack(examples, CAPACITY, 0, share), spots_by_hand(examples, share)
    for example in examples:
        twins = [index for index, other in enumerate(examples) if same(example, other)]
        found = find(packed, example)
        assert sorted(found) == sorted(wanted[index] for index in twins)
        assert in_order(packed, found, share) == [wanted[index] for index in twins]


@pytest.mark.parametrize("change", [{"verdict": -1}, {"weight": 3.0}, {"tokens": np.array([1, 2, 2], np.int32)}])
def test_another_example_is_not_found(change: dict[str, object]) -> None:
    one = encoded([1, 2, 1], 1, 1.0)
    packed = pack([one], CAPACITY)
    assert find(packed, one) == [Spot(0, 1, 1, 0)]
    other = one._replace(**change)  # type: ignore[arg-type]
    assert find(packed, other) == []
    assert not same(one, other)
