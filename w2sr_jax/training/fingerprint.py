"""A digest that stands for the weights in a Hugging Face directory, in a moment even where they take many gigabytes.

It covers `config.json` and, of every tensor, its name, type, shape, and first, middle and last bytes. Any training changes it;
how tensors are spread over files does not. It does not find a flipped byte elsewhere: who needs that compares the digests of
whole files.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

from w2sr_jax.core import files
from w2sr_jax.models.hf import snapshot
from w2sr_jax.models.hf.safetensors_files import Stored

PIECE = 16 * 1024
"""Bytes read at the beginning, middle and end of a tensor."""


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that hold a model. `UserError` for what is missing or damaged, as far as headers tell."""
    return sorted({stored.path for stored in snapshot.tensors(directory).values()})


def fingerprint(directory: Path) -> str:
    """sha256 of what stands for the model in a Hugging Face directory, wherever that lies. `UserError` as `weight_files`."""
    stored = snapshot.tensors(directory)
    ends = _ends(stored)
    config = directory / snapshot.CONFIG
    total = hashlib.sha256((files.digest_file(config) if config.is_file() else "no configuration").encode())
    with contextlib.ExitStack() as stack:
        opened = {path: stack.enter_context(open(path, "rb")) for path in {each.path for each in stored.values()}}
        for name, tensor in sorted(stored.items()):
            total.update(files.canonical_json([name, tensor.dtype, list(tensor.shape)]).encode())
            low, high = tensor.offset, ends[name]
            for start in sorted({low, max(low, (low + high - PIECE) // 2), max(low, high - PIECE)}):
                opened[tensor.path].seek(start)
                total.update(opened[tensor.path].read(min(PIECE, high - start)))
    return total.hexdigest()


def _ends(stored: Mapping[str, Stored]) -> dict[str, int]:
    """Where in its file each tensor ends: where the next one begins, since there are no gaps."""
    ends: dict[str, int] = {}
    for path in {each.path for each in stored.values()}:
        own = sorted((tensor.offset, name) for name, tensor in stored.items() if tensor.path == path)
        stops = [offset for offset, _ in own[1:]] + [path.stat().st_size]
        ends |= {name: stop for (_, name), stop in zip(own, stops, strict=True)}
    return ends
