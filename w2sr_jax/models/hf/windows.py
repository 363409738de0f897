"""How the `config.json` of each family says which layers see only a sliding window of earlier tokens. No jax."""

from collections.abc import Mapping
from typing import Any, Protocol

from w2sr_jax.models.config import ModelConfig, Reach
from w2sr_jax.models.hf.fields import Fields

_REACHES: Mapping[str, Reach] = {"full_attention": "global", "sliding_attention": "local"}
_KINDS = {reach: kind for kind, reach in _REACHES.items()}


class Windows(Protocol):
    """One way of saying it."""

    @property
    def uniform(self) -> bool:
        """Whether all layers of a model see the same."""

    def window(self, fields: Fields) -> int | None:
        """Tokens that a local layer sees; None where the window is not in use."""

    def reaches(self, fields: Fields, layers: int, window: int | None) -> tuple[Reach, ...]:
        """What each layer sees where `layer_types` does not say it."""

    def written(self, config: ModelConfig) -> dict[str, Any]:
        """The fields that say it of a model."""


class AllGlobal:
    """No layer has a window (Llama)."""

    uniform = True

    def window(self, fields: Fields) -> int | None:
        return None

    def reaches(self, fields: Fields, layers: int, window: int | None) -> tuple[Reach, ...]:
        everything: tuple[Reach, ...] = ("global",)
        return everything * layers

    def written(self, config: ModelConfig) -> dict[str, Any]:
        return {}


class AllOrNone:
    """All layers have the window `sliding_window`, or none where it is null (Mistral)."""

    uniform = True

    def window(self, fields: Fields) -> int | None:
        return _window(fields)

    def reaches(self, fields: Fields, layers: int, window: int | None) -> tuple[Reach, ...]:
        return ("global" if window is None else "local",) * layers

    def written(self, config: ModelConfig) -> dict[str, Any]:
        return {"sliding_window": config.window if all(config.local_layers) else None}


class LaterLayers:
    """With `use_sliding_window`, layers from `max_window_layers` on have the window (Qwen)."""

    uniform = False

    def window(self, fields: Fields) -> int | None:
        size = _window(fields)
        return size if fields.get("use_sliding_window") else None

    def reaches(self, fields: Fields, layers: int, window: int | None) -> tuple[Reach, ...]:
        first = layers if window is None else fields.integer("max_window_layers")
        return tuple("global" if layer < first else "local" for layer in range(layers))

    def written(self, config: ModelConfig) -> dict[str, Any]:
        any_local, kinds = any(config.local_layers), _layer_types(config)
        return {
            "use_sliding_window": any_local,
            "sliding_window": config.window if any_local else None,
            "layer_types": kinds,
            "max_window_layers": kinds.index(_KINDS["local"]) if any_local else config.layers,
        }


class Periodic:
    """Every so many layers one is global, the others have the window (Gemma 3)."""

    uniform = False

    def window(self, fields: Fields) -> int | None:
        return _window(fields)

    def reaches(self, fields: Fields, layers: int, window: int | None) -> tuple[Reach, ...]:
        older = fields.raw.get("_sliding_window_pattern")
        every = older if isinstance(older, int) else fields.integer("sliding_window_pattern")
        return tuple("local" if every < 1 or (layer + 1) % every else "global" for layer in range(layers))

    def written(self, config: ModelConfig) -> dict[str, Any]:
        return {
            "sliding_window": config.window if any(config.local_layers) else None,
            "layer_types": _layer_types(config),
        }


def read(windows: Windows, kind: str, fields: Fields, layers: int) -> tuple[int | None, tuple[Reach, ...]]:
    """The window of a model of the family `kind`, and what each of its layers sees. UserError names the field that is not
    supported."""
    window = windows.window(fields)
    named = fields.get("layer_types")
    reaches = windows.reaches(fields, layers, window)
    if named is not None:
        if not isinstance(named, list) or not set(map(str, named)) <= _REACHES.keys() or len(named) != layers:
            raise fields.refusal("layer_types", f"one of {' and '.join(_REACHES)} for each of the {layers} layers is")
        explicit = tuple(_REACHES[name] for name in named)
        if explicit != reaches and windows.uniform:
            raise fields.refusal("layer_types", f"in a {kind} all layers see the same, by its sliding_window {window}")
        reaches = explicit
    if "local" in reaches and window is None:
        raise fields.refusal("layer_types", "layers of sliding_attention need a sliding_window in use")
    return window, reaches


def _window(fields: Fields) -> int | None:
    size: int | None = fields.integer("sliding_window", None)
    return size


def _layer_types(config: ModelConfig) -> list[str]:
    return [_KINDS["local" if local else "global"] for local in config.local_layers]
