"""Hugging Face directories in and out: safetensors ↔ our parameters, tensor by tensor.

See `config_json` for what a model is, `tensors` for which tensors make up a parameter, `snapshot` and `safetensors_files` for
the files.
"""

import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, Int, Shaped

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import config_json, families, names, snapshot, tensors
from w2sr_jax.models.hf.config_json import Type
from w2sr_jax.models.hf.families import Family
from w2sr_jax.models.hf.names import Names
from w2sr_jax.models.hf.safetensors_files import DTYPES, Entry, Stored, Tensor, write_file
from w2sr_jax.models.hf.tensors import Foreign

SHARD_BYTES = 5 * 10**9
"""Size that a file does not pass, unless one tensor does."""
_ALIGNMENT = 64
_ROWS = 1 << 24
"""Bytes that are compared at a time."""

Gather = Callable[[Any], np.ndarray]


class _Part(NamedTuple):
    """A tensor to be written: (of one layer of) a parameter."""

    entry: Entry
    foreign: Foreign
    layer: int


def load(
    directory: Path | str, dtype: Type = "float32", param_dtype: Type = "float32", shardings: Any = None
) -> tuple[ModelConfig, transformer.Params]:
    """The model in `directory`, its parameters in `param_dtype`.

    `shardings` (one, or a pytree as the parameters are) says where they go, each tensor as it is read: beside the parameters, the
    host holds one tensor, or as much of it as its devices do. All processes must call it. Without, they are NumPy arrays.
    Raises UserError, before any is read, for what is not supported, and for tensors that are missing, superfluous or of other
    shapes than `config.json` says.
    """
    directory = Path(directory)
    stored = snapshot.tensors(directory)
    raw = snapshot.raw_config(directory)
    config = config_json.from_json(raw, directory / snapshot.CONFIG, dtype, param_dtype)
    wrapped = raw["model_type"] in families.WRAPPED
    family = families.FAMILIES[families.WRAPPED.get(raw["model_type"], raw["model_type"])]
    foreign = tensors.foreign(config, family.names)
    stored = _matched(directory, config, family.names, foreign, stored, wrapped)
    kind = np.dtype(config.param_dtype)
    targets = dict(tensors.flat(shardings)) if isinstance(shardings, Mapping) else dict.fromkeys(foreign, shardings)
    params: dict[str, Any] = {}
    for path, each in foreign.items():
        sources = [stored[name] for name in each.names]
        value = _host(each, sources, kind) if targets[path] is None else _device(each, sources, kind, targets[path])
        tensors.insert(params, path, value)
    return config, params


def save(
    directory: Path | str,
    config: ModelConfig,
    params: transformer.Params,
    shard_bytes: int = SHARD_BYTES,
    extra: Mapping[str, Any] | None = None,
    gather: Gather = np.asarray,
    write: bool = True,
) -> None:
    """Write the model as transformers expects it: safetensors in `param_dtype`, an index where there are several, `config.json`.

    `gather` makes the whole value of an array on this host; it is called for one tensor after the other. With several processes
    all call `save`, and one has `write`. `extra` are further fields of `config.json` (see `config_json.extras`), which is written
    last: without it nobody takes the directory for a model. Raises UserError, before anything is written, for a model that no
    family has and for a directory that holds one.
    """
    directory = Path(directory)
    fields = config_json.to_json(config, extra)
    shards = _shards(config, families.FAMILIES[fields["model_type"]], params, shard_bytes)
    if write:
        _refuse_occupied(directory)
    count = len(shards)
    files_of: dict[str, str] = {}
    for number, shard in enumerate(shards):
        name = snapshot.WHOLE if count == 1 else f"model-{number + 1:05}-of-{count:05}.safetensors"
        entries = [part.entry for part in shard]
        files_of |= {entry.name: name for entry in entries}
        values = _values(params, shard, gather)
        if write:
            write_file(directory / name, entries, values)
        else:
            for _ in values:
                pass
    if write:
        if count > 1:
            total = sum(part.entry.size for shard in shards for part in shard)
            files.write_json(directory / snapshot.INDEX, {"metadata": {"total_size": total}, "weight_map": files_of})
        files.write_json(directory / snapshot.CONFIG, fields)


def _matched(
    directory: Path,
    config: ModelConfig,
    called: Names,
    foreign: Mapping[str, Foreign],
    stored: Mapping[str, Stored],
    wrapped: bool,
) -> dict[str, Stored]:
    """The stored tensors by their plain names. Raises UserError where they are not those of the model."""
    plain = {short: value for name, value in stored.items() if (short := names.plain(called, name, wrapped))}
    if config.tied_embeddings and called.output in plain:
        head = plain.pop(called.output)
        if plain.setdefault(called.embedding, head) is not head:
            _refuse_another_head(called, plain[called.embedding], head)
    wanted = {name: each.foreign_shape for each in foreign.values() for name in each.names}
    lacking = [name for name in wanted if name not in plain]
    superfluous = sorted(plain.keys() - wanted.keys())
    if lacking or superfluous:
        parts = [f"lacks {_count(lacking)} that its config.json calls for: {snapshot.listed(lacking)}"] if lacking else []
        parts += [f"holds {_count(superfluous)} that it does not: {snapshot.listed(superfluous)}"] if superfluous else []
        hint = "; with tie_word_embeddings true none would be needed" if lacking == [called.output] else ""
        raise UserError(f"{directory} {', and '.join(parts)}{hint}")
    for name, shape in wanted.items():
        if plain[name].shape != shape:
            raise UserError(
                f"{plain[name].path}: {name} has the shape {plain[name].shape}; by config.json it should have {shape}"
            )
        if plain[name].dtype not in DTYPES:
            supported = ", ".join(DTYPES)
            raise UserError(f"{plain[name].path}: {name} is of the type {plain[name].dtype}; supported are {supported}")
    return plain


def _refuse_another_head(called: Names, embedding: Stored, head: Stored) -> None:
    """Raises UserError where a model said to have tied embeddings stores another output matrix."""
    same = (embedding.shape, embedding.dtype) == (head.shape, head.dtype)
    if same and embedding.dtype in DTYPES and all(embedding.shape) and embedding.shape:
        one, other = embedding.view(), head.view()
        step = max(1, _ROWS // max(1, one[:1].nbytes))
        same = all(np.array_equal(one[at : at + step], other[at : at + step]) for at in range(0, len(one), step))
    if not same:
        raise UserError(
            f"{head.path}: {called.output} is not {called.embedding}, but by config.json tie_word_embeddings is true; "
            "set it to false"
        )


def _host(foreign: Foreign, sources: list[Stored], dtype: np.dtype) -> Tensor:
    if not foreign.layered:
        return _copy(foreign.inward(sources[0].view()), dtype)
    stack = np.empty((len(sources), *foreign.shape), dtype)
    for layer, source in enumerate(sources):
        np.copyto(stack[layer], foreign.inward(source.view()), casting="unsafe")
    return stack


def _device(foreign: Foreign, sources: list[Stored], dtype: np.dtype, sharding: Sharding) -> Array:
    """The parameter, filled layer by layer: at no time are two layers of it on the host."""
    if not foreign.layered:
        return _read(foreign, sources[0], dtype, sharding)
    shape = (len(sources), *foreign.shape)
    single = sharding
    if isinstance(sharding, NamedSharding):
        single = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[1:]), memory_kind=sharding.memory_kind)
    stack = jax.jit(lambda: jnp.zeros(shape, dtype), out_shardings=sharding)()
    fill = jax.jit(jax.lax.dynamic_update_index_in_dim, donate_argnums=0, static_argnums=3, out_shardings=sharding)
    for layer, source in enumerate(sources):
        stack = fill(stack, _read(foreign, source, dtype, single), jnp.int32(layer), 0)
        stack.block_until_ready()  # else many layers would wait in memory
        gc.collect(0)  # jax lets go of the host's memory of a finished transfer at a collection
    return stack


def _read(foreign: Foreign, source: Stored, dtype: np.dtype, sharding: Sharding) -> Array:
    """One tensor on its devices. What several devices hold is read once."""
    view = foreign.inward(source.view())
    read: dict[str, Tensor] = {}

    def part(index: tuple[slice, ...] | None) -> Tensor:
        key = str(index)
        if key not in read:
            read[key] = _copy(view if index is None else view[index], dtype)
        return read[key]

    return jax.make_array_from_callback(foreign.shape, sharding, part).block_until_ready()


def _copy(view: Tensor, dtype: np.dtype) -> Tensor:
    """A copy at an address that a CPU device takes as it is: no second one is made there."""
    size = view.size * dtype.itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    out = room[start : start + size].view(dtype).reshape(view.shape)
    np.copyto(out, view, casting="unsafe")
    return out


def _shards(config: ModelConfig, family: Family, params: transformer.Params, shard_bytes: int) -> list[list[_Part]]:
    """The tensors in files: whole parameters and the layers from first to last, filled up to `shard_bytes`."""
    if shard_bytes < 1:
        raise UserError(f"the size of a shard is {shard_bytes} bytes; it must be at least 1")
    foreign, kind = tensors.foreign(config, family.names), np.dtype(config.param_dtype)
    shapes = {path: tuple(leaf.shape) for path, leaf in tensors.flat(params)}
    wanted = {path: (len(each.names), *each.shape) if each.layered else each.shape for path, each in foreign.items()}
    if shapes != wanted:
        raise ValueError(f"the parameters are not those of the model: {sorted(shapes.items() ^ wanted.items())}")
    parts = [
        _Part(Entry(name, kind, each.foreign_shape), each, layer)
        for each in foreign.values()
        for layer, name in enumerate(each.names)
    ]
    shards: list[list[_Part]] = [[]]
    size = 0
    for part in sorted(parts, key=lambda part: (part.foreign.layered, part.layer)):
        if shards[-1] and size + part.entry.size > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(part)
        size += part.entry.size
    return shards


def _values(params: transformer.Params, parts: list[_Part], gather: Gather) -> Iterator[Tensor]:
    """The tensors as they are there, one at a time."""
    leaves = dict(tensors.flat(params))
    for part in parts:
        leaf = leaves[part.foreign.path]
        if isinstance(leaf, jax.Array):  # of a copy, since an array keeps what it once gave to the host
            leaf = _layer(leaf, part.layer) if part.foreign.layered else _copied(leaf)
        elif part.foreign.layered:
            leaf = leaf[part.layer]
        yield part.foreign.outward(gather(leaf)).astype(part.entry.dtype, copy=False)


@jax.jit
def _layer(stack: Shaped[Array, "N ..."], layer: Int[Array, ""]) -> Shaped[Array, "..."]:
    return jax.lax.dynamic_index_in_dim(stack, layer, keepdims=False)


@jax.jit
def _copied(leaf: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    return jnp.copy(leaf)


def _refuse_occupied(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; a model is written to a directory")
    for path in sorted(directory.glob("*")):
        if path.suffix == ".safetensors" or path.name in (snapshot.INDEX, snapshot.CONFIG):
            raise UserError(f"{directory} already holds a model ({path.name}); give an empty directory")


def _count(tensors: list[str]) -> str:
    return "the tensor" if len(tensors) == 1 else f"{len(tensors):,} tensors"
