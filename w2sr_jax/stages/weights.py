"""Parameters that the user gives by name: a Hub id, a Hugging Face directory, an imported model, or a checkpoint of ours."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from w2sr_jax.configuration.encoding import decode
from w2sr_jax.core import files, hub, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import config_json, pretrained
from w2sr_jax.training import checkpoints, steps
from w2sr_jax.training.fingerprint import fingerprint, weight_files

RECORD = "model.json"
"""What an imported directory says of itself: see `Record`."""

_FREE = ("dtype", "param_dtype", "attention", "remat")  # may differ between a checkpoint and who uses it


class Record(NamedTuple):
    """What an imported model is, where it is from (`ref`, `repository`, `revision`, digests of its `files`), and what its
    `config.json` said besides."""

    config: ModelConfig
    source: dict[str, Any]
    extras: dict[str, Any]


class Stored(NamedTuple):
    """Parameters on the devices, and where they are from, for a checkpoint's lineage: `checkpoint` (as the user wrote it),
    `weights_digest`, and where known `repository` and `revision` of the Hub, `context` (tokens that it was made for) and `family`
    (its `model_type`)."""

    params: Any
    origin: dict[str, str]


def load(ref: str, config: ModelConfig, places: Any) -> Stored:
    """The parameters of `ref`, of `config.param_dtype`, laid out as `places` (a pytree of shardings).

    `UserError` where there are none, they are damaged, or are another architecture's, naming the first field or array that
    differs.
    """
    path = hub.snapshot(ref, "weights")
    if steps.is_foreign(path):
        same_architecture(ref, config_json.architecture(path, config.dtype, config.param_dtype), config)
        _, params = pretrained.load(path, config.dtype, config.param_dtype, shardings=places)
        asked = hub.reference(ref) or hub.origin(path)
        extras = config_json.extras(path)
        return Stored(params, _origin(ref, fingerprint(path), asked and asked.repository, hub.commit(path), extras))
    record = read_record(path) if (path / RECORD).is_file() else None
    if record is not None:
        same_architecture(ref, record.config, config)
    same_arrays(ref, checkpoints.saved_shapes(path), transformer.shapes(config))
    params = checkpoints.restore_params(path, places)
    cast = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf.astype(config.param_dtype), tree), out_shardings=places)
    digest = str(checkpoints.read_lineage(path)["params_digest"])
    right = all(leaf.dtype == config.param_dtype for leaf in jax.tree.leaves(params))
    source, extras = (record.source, record.extras) if record else ({}, {})
    origin = _origin(ref, digest, source.get("repository"), source.get("revision"), extras)
    return Stored(params if right else cast(params), origin)


def check(ref: str, config: ModelConfig) -> None:
    """`UserError` where `ref` is a local directory that is not there, damaged as far as headers tell, or of another architecture.
    Nothing is asked of the Hub, and no parameter is read."""
    if not hub.is_local(ref):
        return
    path = hub.snapshot(ref, "weights")
    if steps.is_foreign(path):
        stored = config_json.architecture(path, config.dtype, config.param_dtype)
        weight_files(path)
    elif (path / RECORD).is_file():
        stored = read_record(path).config
    else:
        stored = checkpoints.saved_shapes(path)
        if config.vocab_size:
            same_arrays(ref, stored, transformer.shapes(config))
        return
    same_architecture(ref, stored, config if config.vocab_size else dataclasses.replace(config, vocab_size=stored.vocab_size))


def read_record(directory: Path) -> Record:
    """What an imported directory's `model.json` says."""
    path = directory / RECORD
    raw = files.read_json(path)
    try:
        config = decode(raw["architecture"], path, "architecture")
    except (UserError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not hold an architecture: {sentences.cause(error)}") from None
    if not isinstance(config, ModelConfig) or not isinstance(raw.get("source"), dict) or not isinstance(raw.get("kept"), dict):
        raise UserError(f"{path} is not what `w2sr import` wrote; import the model again")
    wrong = mistyped(config, ModelConfig, "architecture")
    if wrong is not None:
        raise UserError(f"{path}: {wrong}")
    try:
        config.check()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return Record(config, raw["source"], config_json.checked_extras(raw["kept"], path))


def same_architecture(ref: str, stored: ModelConfig, wanted: ModelConfig) -> None:
    """`UserError` naming the first field in which two architectures differ, but for how numbers are kept."""
    theirs, ours = config_json.canonical(stored), config_json.canonical(wanted)
    for field in dataclasses.fields(ModelConfig):
        there, here = getattr(theirs, field.name), getattr(ours, field.name)
        if field.name not in _FREE and there != here:
            hint = f"; set the model's vocab_size to {there} (0 takes the tokenizer's)" if field.name == "vocab_size" else ""
            raise UserError(
                f"{ref} holds another architecture than the run's model: {field.name} is {there} there and {here} here{hint}"
            )


def _origin(ref: str, digest: str, repository: Any, revision: Any, extras: Mapping[str, Any]) -> dict[str, str]:
    fields = {
        "repository": repository,
        "revision": revision,
        "context": extras.get("max_position_embeddings"),
        "family": extras.get("model_type"),
    }
    return {"checkpoint": ref, "weights_digest": digest} | {name: str(value) for name, value in fields.items() if value}


def same_arrays(ref: str, stored: Any, wanted: Any) -> None:
    """`UserError` naming the first array that is not stored as an architecture asks for it. Both are pytrees of shapes."""
    theirs, ours = _named(stored), _named(wanted)
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            there, here = (sizes.get(name, "absent") for sizes in (theirs, ours))
            raise UserError(f"{ref} holds another architecture than it should: {name} is {there} there and {here} here")


def _named(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}
