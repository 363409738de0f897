"""How likely a model finds traces that it was not trained on."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from w2sr_jax.batches.encode import Encoded
from w2sr_jax.batches.packing import Packed
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.token import Nll
from w2sr_jax.models import finite
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_divisor, batch_sharding
from w2sr_jax.parallel.processes import put
from w2sr_jax.training.likelihood import sums

LOSS = Nll()


def nll(
    config: ModelConfig, params: Any, packed: Packed, rows: int, mesh: jax.sharding.Mesh, block: int = 1024
) -> tuple[float, int]:
    """Summed negative log-likelihood (nats) of all supervised tokens, and their number. `rows` are read at a time. `UserError`
    where it is not a finite number, as of a model whose parameters are none."""
    rows = -(-rows // batch_divisor(mesh)) * batch_divisor(mesh)
    counted = (packed.weight > 0).astype(np.float32)
    total, count = 0.0, 0.0
    for start in range(0, len(packed.tokens), rows):
        part = [_rows(array, start, rows) for array in (packed.tokens, packed.positions, packed.segments, packed.target, counted)]
        sums = _sums(config, LOSS, block, mesh, params, *put(part, batch_sharding(mesh)))
        total, count = total + float(sums.nll_sum), count + float(sums.token_sum)
    if not math.isfinite(total):
        broken = finite.not_finite(params)
        why = finite.words(broken) if broken else "its parameters are finite, so that its computation overflows"
        raise UserError(f"the likelihood of held-out traces is {total} under this model: {why}; use another checkpoint of it")
    return total, round(count)


def unigram_nll(train: Iterable[Encoded], held_out: Sequence[Encoded], vocab_size: int) -> float:
    """Mean NLL (nats per token) of the held-out supervised tokens under their frequencies in `train`, add-one smoothed."""
    counts = np.ones(vocab_size)
    for example in train:
        np.add.at(counts, example.tokens[example.supervised], 1)
    return float(
        -np.log(counts / counts.sum())[np.concatenate([example.tokens[example.supervised] for example in held_out])].mean()
    )


def _rows(array: Any, start: int, rows: int) -> Any:
    part = array[start : start + rows]
    part = np.concatenate([part, np.zeros((rows - len(part), *part.shape[1:]), part.dtype)])
    return part.astype(np.float32 if part.dtype.kind == "f" else np.int32)


_sums = jax.jit(sums, static_argnums=(0, 1, 2, 3))
