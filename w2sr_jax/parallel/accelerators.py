"""Accelerators by name: memory and peak rates. No jax.

Peak rates are the makers' for dense bfloat16 products with float32 sums, per device as jax counts them. Sources: Google's pages
"TPU v4", "TPU v5e", "TPU v5p" and "TPU v6e" (cloud.google.com/tpu/docs); NVIDIA's data sheets of A100, H100 SXM, H200 and B200.
"""

import dataclasses

GIB, TERA, GIGA = 2**30, 1e12, 1e9


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """A kind of device."""

    name: str
    platform: str
    """What jax calls its platform: tpu or gpu."""
    memory: int
    """Bytes."""
    flops: float
    """Peak operations a second."""
    bandwidth: float
    """Peak bytes a second between memory and device."""
    kinds: tuple[str, ...]
    """Beginnings of what jax calls such a device, the longest first."""
    per_host: int = 8
    """Devices of one host, where its topology does not say."""


ACCELERATORS = {
    each.name: each
    for each in (
        Accelerator("v4", "tpu", 32 * GIB, 275 * TERA, 1228 * GIGA, ("TPU v4",)),
        Accelerator("v5e", "tpu", 16 * GIB, 197 * TERA, 819 * GIGA, ("TPU v5 lite", "TPU v5e")),
        Accelerator("v5p", "tpu", 95 * GIB, 459 * TERA, 2765 * GIGA, ("TPU v5p", "TPU v5")),
        Accelerator("v6e", "tpu", 32 * GIB, 918 * TERA, 1640 * GIGA, ("TPU v6 lite", "TPU v6e")),
        Accelerator("a100", "gpu", 80 * GIB, 312 * TERA, 2039 * GIGA, ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB")),
        Accelerator("a100-40g", "gpu", 40 * GIB, 312 * TERA, 1555 * GIGA, ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB")),
        Accelerator("h100", "gpu", 80 * GIB, 989 * TERA, 3350 * GIGA, ("NVIDIA H100 80GB", "NVIDIA H100")),
        Accelerator("h200", "gpu", 141 * GIB, 989 * TERA, 4800 * GIGA, ("NVIDIA H200",)),
        Accelerator("b200", "gpu", 180 * GIB, 2250 * TERA, 8000 * GIGA, ("NVIDIA B200",)),
    )
}


def kind_of(device_kind: str) -> Accelerator | None:
    """The accelerator that jax calls `device_kind`; None for any other device."""
    named = ((start, each) for each in ACCELERATORS.values() for start in each.kinds if device_kind.startswith(start))
    return max(named, key=lambda pair: len(pair[0]), default=("", None))[1]
