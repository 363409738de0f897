"""TPU slices by name, such as `v5p:2x2x4`: how many chips and hosts they have, and what platforms call them. No jax.

A name is a kind of chip and the arrangement of the chips, as `jax.experimental.topologies` writes it too. Sources: Google's pages
"TPU v4", "TPU v5e", "TPU v5p", "TPU v6e" and "TPUs in GKE" (cloud.google.com/tpu/docs, cloud.google.com/kubernetes-engine/docs).
"""

import dataclasses
import difflib
import re
from math import prod

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError

PER_HOST = 4
"""Chips of a host of a slice with several hosts, of every kind below."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """A kind of TPU. jax sees one device per chip of every kind here."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    """Arrangements of the chips of a slice, besides the larger ones of a three-dimensional kind (multiples of 4 along each
    axis)."""
    most: int
    """Chips of the largest slice."""
    cores: int
    """TensorCores per chip, where accelerator types count these: a `v5p-32` has 16 chips."""
    accelerator: str
    """What accelerator types begin with."""
    gke: str
    """The node label `cloud.google.com/gke-tpu-accelerator`."""
    one_host: int = PER_HOST
    """Most chips on one host, where the slice is that host."""

    @property
    def dimensions(self) -> int:
        return len(self.shapes[0])


_FLAT = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
_SOLID = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", _SOLID, 4096, 2, "v4", "tpu-v4-podslice"),
        Chip("v5e", _FLAT, 256, 1, "v5litepod", "tpu-v5-lite-podslice", one_host=8),
        Chip("v5p", _SOLID, 8960, 2, "v5p", "tpu-v5p-slice"),
        Chip("v6e", _FLAT, 256, 1, "v6e", "tpu-v6e-slice", one_host=8),
    )
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that are joined by their own links. `shape` is written as Google writes it, the shortest axis first."""

    chip: Chip
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.chip.name}:{self.topology}"

    @property
    def topology(self) -> str:
        """The arrangement as node labels have it: `2x2x4`."""
        return "x".join(map(str, self.shape))

    @property
    def chips(self) -> int:
        return prod(self.shape)

    @property
    def hosts(self) -> tuple[int, ...]:
        """How many hosts it may have, the fewest first: 8 chips of v5e or v6e are one host of 8, or two of 4."""
        whole = (1,) if self.chips <= self.chip.one_host else ()
        return whole if self.chips <= PER_HOST else (*whole, self.chips // PER_HOST)

    @property
    def accelerator_type(self) -> str:
        """What `gcloud compute tpus` calls it: `v5p-32`, `v5litepod-16`."""
        return f"{self.chip.accelerator}-{self.chips * self.chip.cores}"


def named(text: str) -> Slice:
    """The slice of a name, the axes in any order. `UserError` where there is no such chip or no such arrangement."""
    name, _, arrangement = text.partition(":")
    chip = CHIPS.get(name)
    if chip is None:
        near = difflib.get_close_matches(name, CHIPS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(CHIPS)}"
        raise UserError(f"topology {sentences.value(text)} names no TPU; {hint} (write CHIP:SHAPE, such as v5p:2x2x4)")
    if re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3}){1,2}", arrangement):
        axes = sorted(map(int, arrangement.split("x")))
        shape = next((shape for shape in chip.shapes if sorted(shape) == axes), tuple(axes))
        if shape in chip.shapes or _larger(chip, shape):
            return Slice(chip, shape)
    raise UserError(f"topology {sentences.value(text)}: {chip.name} comes as {shapes_in_words(chip)}")


def shapes_in_words(chip: Chip) -> str:
    """The arrangements that there are."""
    listed = ", ".join("x".join(map(str, shape)) for shape in chip.shapes)
    return listed if chip.dimensions == 2 else f"{listed}, or multiples of 4 along each axis up to {chip.most:,} chips"


def _larger(chip: Chip, shape: tuple[int, ...]) -> bool:
    return chip.dimensions == 3 == len(shape) and all(side % 4 == 0 for side in shape) and prod(shape) <= chip.most
