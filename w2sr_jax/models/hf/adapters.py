"""Adapters in the format of peft, out and in: `adapter_config.json` and `adapter_model.safetensors`. Nothing else is read."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.models import lora as low_rank
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import config_json, tensors
from w2sr_jax.models.hf.names import Names
from w2sr_jax.models.hf.safetensors_files import DTYPES, Entry, Stored, Tensor, read_header, write_file
from w2sr_jax.models.lora_settings import MATRICES, Lora
from w2sr_jax.models.product import A, B

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Gather = Callable[[Any], np.ndarray]

_ABOVE = "base_model.model."
_MOST_RANK = 2**16
_SIDES = {A: "lora_A", B: "lora_B"}
_WITHOUT_EFFECT = (
    *("auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "eva_config", "exclude_modules", "inference_mode"),
    *("layers_pattern", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size", "revision", "runtime_config"),
)
"""Fields that say nothing of how a trained adapter is applied, or what its tensors say too."""
_READ = ("peft_type", "task_type", "r", "lora_alpha", "target_modules", "modules_to_save", "bias", "init_lora_weights")
_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""First values of adapters that leave the base as it is."""


def save_adapter(
    directory: Path | str,
    config: ModelConfig,
    lora: Lora,
    trained: Any,
    base: str,
    gather: Gather = np.asarray,
    write: bool = True,
    model_type: str | None = None,
) -> None:
    """Write what was trained beside the model `base` (a Hub id or a directory), float32, as peft loads it. The configuration is
    written last. `model_type` is the base's family, by which its matrices have their names; None: the one that `config_json`
    writes for it.

    `gather` makes the whole value of an array on this host. With several processes all call this, and one has `write`. peft knows
    no quantised base of ours: beside the full base, the adapter is another model than was trained. Raises UserError
    for a directory that holds an adapter.
    """
    directory = Path(directory)
    if write and (directory / CONFIG).exists():
        raise UserError(f"{directory} holds an adapter already; use another directory")
    names = config_json.names(config, model_type)
    values = {name: np.ascontiguousarray(value) for name, value in _outward(config, names, lora, trained, gather)}
    if not write:
        return
    targets = [_module(names.parameter(_path(name)).foreign) for name in MATRICES if name in lora.targets]
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "modules_to_save": _saved(names) if lora.embeddings else None,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
    }
    directory.mkdir(parents=True, exist_ok=True)
    write_file(directory / WEIGHTS, [Entry(n, value.dtype, value.shape) for n, value in values.items()], values.values())
    files.write_json(directory / CONFIG, fields)


def load_adapter(directory: Path | str, config: ModelConfig, model_type: str | None = None) -> tuple[Lora, Any]:
    """The settings and the values (float32, NumPy) of an adapter for a model; `model_type` as for `save_adapter`.

    Raises UserError for what it has that ours lack, and for tensors that are missing, superfluous or of other shapes than its
    configuration and the model's say.
    """
    directory = Path(directory)
    names = config_json.names(config, model_type)
    fields = _fields(directory, names)
    if not (directory / WEIGHTS).is_file():
        others = [path.name for path in directory.glob("adapter_model.*")]
        hint = f"{others[0]} is not read; save the adapter as safetensors" if others else "add the weights"
        raise UserError(f"{directory} holds no {WEIGHTS}: {hint}")
    stored = read_header(directory / WEIGHTS)
    sides = tuple(f".{side}.weight" for side in _SIDES.values())
    foreign = tensors.foreign(config, names)
    present = {name.removeprefix(_ABOVE).rsplit(".lora_", 1)[0] + ".weight" for name in stored if name.endswith(sides)}
    targets = tuple(name for name in MATRICES if present & set(foreign[_path(name)].names))
    if not targets:
        raise UserError(f"{directory / WEIGHTS} holds no adapter of a matrix of this model")
    lora = Lora(rank=fields["r"], alpha=fields["lora_alpha"], targets=targets, embeddings=bool(fields.get("modules_to_save")))
    wanted = dict(_foreign_shapes(config, names, lora))
    for word, some in (("lacks", wanted.keys() - stored.keys()), ("holds an unknown", stored.keys() - wanted.keys())):
        if some:
            raise UserError(
                f"{directory / WEIGHTS} {word} tensor {min(some)} ({len(some)} in all) for this model and its {CONFIG}"
            )
    for name, shape in wanted.items():
        if stored[name].shape != shape or stored[name].dtype not in DTYPES:
            kind = f"{stored[name].dtype} of shape {stored[name].shape}"
            raise UserError(f"{directory / WEIGHTS}: {name} is {kind}; it should be {', '.join(DTYPES)} of shape {shape}")
    return lora, _inward(config, names, lora, stored)


def _outward(config: ModelConfig, names: Names, lora: Lora, trained: Any, gather: Gather) -> Iterator[tuple[str, Tensor]]:
    """The tensors of an adapter by their names there; for each of ours `gather` is called once."""
    matrices = tensors.foreign(config, names)
    for name in _whole(lora, trained):
        value = gather(trained[name]).astype(np.float32)
        for foreign in _names_of_whole(config, names, name):
            yield _ABOVE + foreign, value if name == "embedding" else value.T
    for name in (name for name in MATRICES if name in lora.targets):
        for side, foreign_side in _SIDES.items():
            stack = gather(trained["layers"][low_rank.PARTS[name]][name + side]).astype(np.float32)
            for layer, foreign in enumerate(matrices[_path(name)].names):
                yield _ABOVE + foreign.replace(".weight", f".{foreign_side}.weight"), stack[layer].T


def _inward(config: ModelConfig, names: Names, lora: Lora, stored: Mapping[str, Stored]) -> Any:
    matrices = tensors.foreign(config, names)
    tree: dict[str, Any] = {"layers": {}}

    def read(foreign: str) -> Tensor:
        return np.asarray(stored[_ABOVE + foreign].view()).astype(np.float32)

    for name in _whole(lora, low_rank.shapes(config, lora)):
        values = [read(foreign) for foreign in _names_of_whole(config, names, name)]
        if len(values) > 1 and not np.array_equal(values[0], values[1]):
            raise UserError(
                f"{next(iter(stored.values())).path}: the embedding and lm_head differ, but the model's embeddings are tied"
            )
        tree[name] = values[0] if name == "embedding" else values[0].T
    for name in lora.targets:
        for side, foreign_side in _SIDES.items():
            parts = [read(foreign.replace(".weight", f".{foreign_side}.weight")).T for foreign in matrices[_path(name)].names]
            tree["layers"].setdefault(low_rank.PARTS[name], {})[name + side] = np.stack(parts)
    return tree


def _foreign_shapes(config: ModelConfig, names: Names, lora: Lora) -> Iterator[tuple[str, tuple[int, ...]]]:
    abstract = low_rank.shapes(config, lora)

    def empty(leaf: Any) -> np.ndarray:
        return np.broadcast_to(np.float32(0), leaf.shape)

    for name, value in _outward(config, names, lora, abstract, empty):
        yield name, value.shape


def _fields(directory: Path, names: Names) -> dict[str, Any]:
    """The configuration of an adapter, with nothing in it that ours have not."""
    path = directory / CONFIG
    if not path.is_file():
        raise UserError(f"{directory} holds no {CONFIG}; give the directory of an adapter that peft saved")
    fields = files.read_json(path)
    if not isinstance(fields, dict) or fields.get("peft_type") != "LORA":
        kind = fields.get("peft_type") if isinstance(fields, dict) else fields
        raise UserError(f"{path}: peft_type is {kind!r}; supported is LORA")
    saved = fields.get("modules_to_save") or []
    refused = {
        "task_type": fields.get("task_type") not in (None, "CAUSAL_LM"),
        "bias": fields.get("bias", "none") != "none",
        "init_lora_weights": fields.get("init_lora_weights") not in _STARTS,
        "modules_to_save": bool(saved) and set(saved) != set(_saved(names)),
    } | {name: bool(value) for name, value in fields.items() if name not in _READ and name not in _WITHOUT_EFFECT}
    for name, present in refused.items():
        if present:
            hint = f"; supported are none, or {' and '.join(_saved(names))}" if name == "modules_to_save" else ""
            raise UserError(f"{path}: {name} {fields[name]!r} is not supported{hint}")
    if type(fields.get("r")) is not int or not 0 < fields["r"] <= _MOST_RANK:
        raise UserError(f"{path}: r is {sentences.value(fields.get('r'))}; it must be a whole number from 1 to {_MOST_RANK:,}")
    alpha = fields.get("lora_alpha")
    if not isinstance(alpha, int | float) or not 0 < alpha < 2**63:
        raise UserError(f"{path}: lora_alpha is {sentences.value(alpha)}; it must be a number above 0")
    return fields


def _whole(lora: Lora, trained: Any) -> list[str]:
    return [name for name in ("embedding", "output") if lora.embeddings and name in trained]


def _names_of_whole(config: ModelConfig, names: Names, name: str) -> tuple[str, ...]:
    """The tensors there of a parameter that is trained whole. peft unties what it trains, so both have the tied one."""
    own = names.embedding if name == "embedding" else names.output
    return (names.embedding, names.output) if config.tied_embeddings else (own,)


def _saved(names: Names) -> list[str]:
    """The modules that are trained whole."""
    return [_module(names.embedding), _module(names.output)]


def _module(tensor: str) -> str:
    """The name, in its parent, of the module that has a tensor `….MODULE.weight`."""
    return tensor.split(".")[-2]


def _path(name: str) -> str:
    return f"layers.{low_rank.PARTS[name]}.{name}"
