"""`w2sr import`: a Hub id or a Hugging Face directory becomes an Orbax checkpoint, sharded on arrival.

    OUT/  0/               the parameters, a sealed checkpoint whose lineage says where they are from
          model.json       the architecture, the source (repository, revision, digests of its files), token ids and context
          tokenizer/       the tokenizer's files as they were, with config.json and generation_config.json

OUT serves as `FromCheckpoint(OUT)` and `ModelTeacher.checkpoint`, OUT/tokenizer as `PretrainedTokenizer.path`.
"""

import contextlib
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from w2sr_jax.configuration.encoding import encode
from w2sr_jax.convert.atomic_directory import creating, require_vacant
from w2sr_jax.core import files, hub, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import terminal
from w2sr_jax.models import finite, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import config_json, pretrained
from w2sr_jax.parallel.mesh import make_mesh, shardings
from w2sr_jax.parallel.processes import barrier
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.stages.weights import RECORD
from w2sr_jax.training import checkpoints
from w2sr_jax.training.fingerprint import weight_files

TOKENIZER = "tokenizer"


def import_model(
    ref: str,
    out: Path,
    dtype: Literal["float32", "bfloat16"] = "float32",
    mesh: Mesh | None = None,
    say: Callable[[str], None] = terminal.say,
) -> Path:
    """Write `ref`'s parameters, of `dtype`, architecture and tokenizer into `out`; its path. Without a `mesh`, parameters are
    split over as many of the devices as divide them. With several processes, all call this alike.

    `UserError` for a model that does not exist or is not supported, and for an `out` that is not empty; nothing is written then.
    """
    out = Path(out).expanduser()
    require_vacant(out)
    directory = hub.snapshot(ref, "weights")
    if (directory / RECORD).is_file():
        raise UserError(f"{directory} is what `w2sr import` wrote; it serves as it is, for example as FromCheckpoint({ref!r})")
    config = config_json.architecture(directory, dtype, dtype)
    vocabulary = _tokenizer(ref, directory)
    if vocabulary is not None:
        _check_vocabulary(vocabulary, config.vocab_size)
    weights = weight_files(directory)
    size = sum(path.stat().st_size for path in weights)
    say(f"{ref}: {config.parameters():,} parameters in {len(weights)} files, {sentences.size(size)}, at {directory}")
    if vocabulary is None:
        say(f"{ref} has no tokenizer; only the model is imported")
    source = _source(ref, directory, weights)
    barrier("the model's files", {f"the digest of {name}": digest for name, digest in source["files"].items()})
    shapes = transformer.shapes(config)
    parameter_shardings = _split(config) if mesh is None else shardings(make_mesh(mesh), transformer.logical_axes(config), shapes)
    _, params = pretrained.load(directory, dtype, dtype, shardings=parameter_shardings)
    broken = finite.not_finite(params)
    if broken:
        raise UserError(f"{ref} is not imported: {finite.words(broken)}; a model with such a value computes nothing but nan")
    say(f"read; {len(jax.tree.leaves(params))} arrays on {len(jax.devices())} devices")
    with creating(out, sum(prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(shapes))) as filling:
        digest = checkpoints.save_params(filling / "saved", params, _lineage(source))
        if jax.process_index() == 0:
            (filling / "saved" / "0").rename(filling / "0")
            (filling / "saved").rmdir()
            if vocabulary is not None:
                _copy(vocabulary, filling / TOKENIZER)
            record = {"architecture": encode(config), "source": source, "kept": config_json.extras(directory)}
            files.write_json(filling / RECORD, record)
    say(f"{out}: parameters of type {dtype}, digest {digest[:16]}")
    return out


def _split(config: ModelConfig) -> Any:
    """Shardings of the parameters over all devices, along the width over as many of them as divide it."""
    count = len(jax.devices())
    for ways in range(count, 1, -1):
        if count % ways == 0:
            with contextlib.suppress(UserError):
                mesh = make_mesh(Mesh(data=count // ways, fsdp=ways))
                return shardings(mesh, transformer.logical_axes(config), transformer.shapes(config))
    return shardings(make_mesh(Mesh()), transformer.logical_axes(config), transformer.shapes(config))


def _tokenizer(ref: str, directory: Path) -> Path | None:
    """Where the tokenizer's files lie; None for a local directory without one."""
    if hub.is_local(ref):
        return directory if hub.missing(directory, "tokenizer") is None else None
    return hub.snapshot(ref, "tokenizer")


def _check_vocabulary(directory: Path, rows: int) -> None:
    """`UserError` for a tokenizer.json that is damaged, or has more tokens than the embedding has rows. Tokens that were added to
    it may lie beyond, as where a text model shares its tokenizer with one that sees images."""
    import tokenizers

    path = directory / "tokenizer.json"
    if not path.is_file():
        return
    try:
        vocabulary = tokenizers.Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=False)
    except Exception as error:  # the library raises bare ones
        raise UserError(f"{path} is not a sound tokenizer: {sentences.cause(error)}") from None
    size = 1 + max(vocabulary.values(), default=-1)
    if size > rows:
        raise UserError(
            f"{path} has {size:,} tokens but the model's embedding only {rows:,} rows; the model's own tokenizer belongs there"
        )


def _source(ref: str, directory: Path, weights: list[Path]) -> dict[str, Any]:
    origin, asked = hub.origin(directory), hub.reference(ref)
    named = [path for path in (directory / "config.json", directory / hub.INDEX) if path.is_file()]
    return {
        "ref": ref,
        "repository": origin.repository if origin else asked.repository if asked else None,
        "revision": hub.commit(directory),
        "files": {path.name: files.digest_file(path) for path in (*named, *weights)},
    }


def _lineage(source: dict[str, Any]) -> dict[str, Any]:
    revision = {"revision": source["revision"]} if source["revision"] else {}
    return {"checkpoint": source["ref"], "weights_digest": files.digest_json(source["files"]), **revision}


def _copy(directory: Path, target: Path) -> None:
    """The files of a tokenizer; nothing else of the directory."""
    target.mkdir()
    for path in hub.tokenizer_files(directory):
        shutil.copyfile(path, target / path.name)
