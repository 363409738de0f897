"""`w2sr export`: a model of a run, or an imported one, as others open it.

    OUT/  model.safetensors, or shards with an index     config.json     generation_config.json (all end tokens)
          the tokenizer's files and chat template        README.md (the model card)

The tokenizer's files open in transformers 4.5x as in 5 (see `text.portable`).

With `adapter`, what LoRA trained alone, in peft's format.
"""

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from w2sr_jax.convert import card, exported
from w2sr_jax.convert.atomic_directory import creating, require_vacant
from w2sr_jax.convert.exported import GENERATION, ExportedModel
from w2sr_jax.core import files, hub, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import terminal
from w2sr_jax.core.trees import Location
from w2sr_jax.models.hf import adapters, pretrained
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.processes import barrier, gather
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.text import portable
from w2sr_jax.training import checkpoints

CARD = "README.md"
SHARD = 5 * 10**9

_OURS = ("w2sr_tokenizer.json", "config.json", GENERATION)
"""Files of a tokenizer's directory that are written anew, or that only we read."""
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def export(
    source: Path,
    out: Path,
    model: str | None = None,
    shard_bytes: int = SHARD,
    adapter: bool = False,
    dtype: Literal["float32", "bfloat16"] | None = None,
    mesh: Mesh | None = None,
    say: Callable[[str], None] = terminal.say,
) -> Path:
    """Write the model that `source` (and `model`, see `exported.find`) names into `out`; its path. `dtype`: None keeps each
    parameter as it is. With several processes, all call this alike, and process 0 writes.

    `UserError` for a model that is not finished, or has no counterpart (or no adapter) elsewhere, for an `out` that is not empty
    and where the disk refuses; nothing is left of `out` then.
    """
    out = Path(out).expanduser()
    require_vacant(out)
    chosen = exported.find(source, model)
    if adapter and chosen.adapter is None:
        raise UserError(
            f"{chosen.name} was not trained with LoRA, or beside a model that has adapters itself, so that there is no adapter "
            "of it; leave --adapter away"
        )
    if adapter and dtype is not None:
        raise UserError("an adapter is stored as it was trained, in float32; leave --dtype away")
    config = chosen.config if dtype is None else dataclasses.replace(chosen.config, param_dtype=dtype)
    text = card.card(chosen, config, adapter)
    checkpoint: Location = Path(source).expanduser()
    if chosen.run_model:
        checkpoint = chosen.run_model.run.checkpoints(chosen.run_model.model.checkpoints)
    facts = {"the digest of the parameters": str(checkpoints.read_lineage(checkpoint).get("params_digest"))}
    barrier("the model", {**facts, "the model's card": files.digest_bytes(text.encode())})
    devices, first = _mesh(chosen, mesh), jax.process_index() == 0
    if adapter and chosen.adapter is not None:
        params = chosen.adapter.read(devices)
        if chosen.adapter.lora.quantize != "none":
            kind = chosen.adapter.lora.quantize
            say(f"the adapter was trained beside a base of {kind}; beside the full one it is another model")
    else:
        params = chosen.read(devices)
    size = sum(leaf.size for leaf in jax.tree.leaves(params)) * (4 if adapter else np.dtype(config.param_dtype).itemsize)
    say(f"{chosen.name}: {sentences.size(size)} as {'an adapter, float32' if adapter else config.param_dtype}")
    with creating(out, size) as directory:
        if adapter and chosen.adapter is not None:
            family = chosen.extra.get("model_type")
            adapters.save_adapter(directory, config, chosen.adapter.lora, params, chosen.adapter.base, gather, first, family)
        else:
            pretrained.save(directory, config, params, shard_bytes, dict(chosen.extra), gather=gather, write=first)
        if first:
            files.write_json(directory / GENERATION, dict(chosen.generation))
            _write_tokenizer(chosen, directory)
            files.write_text(directory / CARD, text)
    if config.attention_softcap is not None:
        say("transformers 5 reads attn_logit_softcapping of a Gemma 3 but does not apply it; there its logits are other ones")
    if not adapter and chosen.tokenizer is not None and _reopened(out):
        say(
            "AutoTokenizer of transformers 5 gives every qwen2 the tokenizer of Qwen2, which this one is not; open it with "
            f"PreTrainedTokenizerFast.from_pretrained({str(out)!r})"
        )
    programs = "transformers and peft" if adapter else "transformers, vLLM or lm-evaluation-harness"
    say(f"{out}: open it with {programs}; {CARD} says what it is")
    return out


def size_of(text: str) -> int:
    """The bytes that `5GB` or `500MB` mean (powers of ten). `UserError` for other words."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B?)\s*", text.upper())
    if match is None or match[2] not in _UNITS or not (size := int(float(match[1]) * _UNITS[match[2]])):
        raise UserError(f"{text!r} is not a size; write for example 5GB or 500MB")
    return size


def _mesh(chosen: ExportedModel, mesh: Mesh | None) -> jax.sharding.Mesh:
    """The mesh onto which parameters are read: the CPU for a single process, otherwise the devices of all processes."""
    if mesh is not None:
        return make_mesh(mesh)
    if jax.process_count() > 1:
        return make_mesh(chosen.run_model.experiment.mesh if chosen.run_model else Mesh())
    try:
        host = jax.devices("cpu")
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        host = jax.devices()
    return make_mesh(Mesh(), host[:1])


def _reopened(out: Path) -> bool:
    """Whether transformers would open the tokenizer of an exported model as another one, since it goes by the model's family."""
    settings = out / "tokenizer_config.json"
    if not settings.is_file() or files.read_json(out / "config.json").get("model_type") != "qwen2":
        return False
    return not str(files.read_json(settings).get("tokenizer_class", "")).startswith("Qwen2Tokenizer")


def _write_tokenizer(chosen: ExportedModel, out: Path) -> None:
    if chosen.tokenizer is not None:
        for path in hub.tokenizer_files(chosen.tokenizer):
            if path.name not in _OURS:
                shutil.copyfile(path, out / path.name)
        portable.rewrite(out, chosen.extra.get("max_position_embeddings"))
