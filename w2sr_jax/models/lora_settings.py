"""Settings of low-rank adapters beside frozen matrices (LoRA, Hu et al. 2021, arXiv:2106.09685) and of a quantised base under
them (QLoRA, Dettmers et al. 2023, arXiv:2305.14314). No jax."""

import math
from dataclasses import dataclass
from typing import Literal

from w2sr_jax.core.errors import UserError

Matrix = Literal["query", "key", "value", "output", "gate", "up", "down"]
Kind = Literal["none", "int8", "int4", "nf4"]

MATRICES: tuple[Matrix, ...] = ("query", "key", "value", "output", "gate", "up", "down")


@dataclass(frozen=True)
class Lora:
    """Train W + alpha / rank · A · B instead of W, where W stays as it is, A has `rank` columns and B starts at 0."""

    rank: int = 0
    """Columns of each adapter; 0: no adapters, all parameters are trained."""
    alpha: float = 32.0
    """The adapters' product is multiplied by alpha / rank."""
    targets: tuple[Matrix, ...] = MATRICES
    """Which matrices of each layer have adapters."""
    quantize: Kind = "none"
    """Type in which the layers' frozen matrices are stored: int8 with a scale per column, int4 and nf4 with one per 64 inputs."""
    embeddings: bool = False
    """Train the embedding and the output matrix too, whole."""

    def __post_init__(self) -> None:
        _require(self.rank >= 0, "rank", self.rank, "0 (no adapters) or more")
        _require(math.isfinite(self.alpha) and self.alpha > 0, "alpha", self.alpha, "above 0")
        sound = bool(self.targets) and set(self.targets) <= set(MATRICES) and len(set(self.targets)) == len(self.targets)
        _require(sound, "targets", self.targets, f"one or more of {', '.join(MATRICES)}, each once")
        _require(
            self.quantize == "none" or self.rank > 0,
            "quantize",
            self.quantize,
            "none where rank is 0: what is trained is not quantised",
        )

    @property
    def scale(self) -> float:
        """What the adapters' product is multiplied by; `rank` must not be 0."""
        return self.alpha / self.rank


def _require(sound: bool, field: str, value: object, right: str) -> None:
    if not sound:
        raise UserError(f"training.lora.{field} is {value}; it must be {right}")
