"""The most probable next tokens at each position of a text, with the mass of all others: how a distribution over a vocabulary is
recorded, stored and read. No jax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from jaxtyping import Array, Bool, Float, Int

COLUMNS = ("top_ids", "top_logprobs", "top_rest")
"""Of a table whose rows are texts: `TopK.ids` and `TopK.logprobs` one position after the other, and `TopK.rest`. All are empty
where nothing was recorded."""


class TopK(NamedTuple):
    """At each of some positions (any leading axes, written N here) the K most probable next tokens, arrays of NumPy or JAX.

    The mass of all tokens that are not listed is taken to be spread evenly over them.
    """

    ids: Int[Array | Any, "N K"]
    """Token ids, int32, the most probable first; -1 where a position lists fewer than K tokens."""
    logprobs: Float[Array | Any, "N K"]
    """Their log-probabilities, float32, natural logarithm."""
    rest: Float[Array | Any, " N"]
    """Logarithm of the mass of all tokens that are not listed, float32; -inf where all are."""
    available: Bool[Array | Any, " N"] | None = None
    """Where the distribution is known; None: everywhere. Elsewhere nothing of the other arrays counts."""

    @property
    def nbytes(self) -> int:
        return int(self.ids.nbytes + self.logprobs.nbytes + self.rest.nbytes)


def fields() -> list[pa.Field]:
    """`COLUMNS` as a schema has them."""
    import pyarrow as pa

    kinds = (pa.int32(), pa.float32(), pa.float32())
    return [pa.field(name, pa.list_(kind), nullable=False) for name, kind in zip(COLUMNS, kinds, strict=True)]


def columns(texts: Sequence[TopK | None]) -> list[pa.Array]:
    """The `COLUMNS` of texts; None where nothing was recorded of one."""
    import numpy as np
    import pyarrow as pa

    arrays = []
    for name, field in zip(TopK._fields, fields(), strict=False):
        parts = [np.zeros(0) if text is None else np.asarray(getattr(text, name)).reshape(-1) for text in texts]
        values = np.concatenate([*parts, np.zeros(0)]).astype(field.type.value_type.to_pandas_dtype())
        starts = np.cumsum([0, *map(len, parts)], dtype=np.int32)
        arrays.append(pa.ListArray.from_arrays(pa.array(starts), pa.array(values)).cast(field.type))
    return arrays


def texts(table: pa.Table) -> list[TopK | None]:
    """What `columns` made of texts. `ValueError` where the columns of one do not fit together."""
    parts = table.select(list(COLUMNS)).combine_chunks()  # in many chunks, every row would have to be searched for
    return [_text(*(column[row].values for column in parts.columns)) for row in range(len(table))]


def _text(ids: pa.Array, logprobs: pa.Array, rest: pa.Array) -> TopK | None:
    count = len(rest)
    if not count:
        return None
    if len(ids) != len(logprobs) or not len(ids) or len(ids) % count:
        raise ValueError(f"columns {COLUMNS[0]!r}, {COLUMNS[1]!r} and {COLUMNS[2]!r} do not have the same positions")
    listed, own = (part.to_numpy(zero_copy_only=False).reshape(count, -1).copy() for part in (ids, logprobs))
    return TopK(listed, own, rest.to_numpy(zero_copy_only=False).copy())
