"""Lets `w2sr_jax` be imported from the source tree beside this file, with jax, flax, optax and numpy alone.

Where jaxtyping is absent, a stand-in takes its place: annotations then mean the array alone.
"""

import importlib.machinery
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]

MODULES = (
    "models.transformer",
    "models.attention",
    "models.decoding",
    "losses.objective",
    "training.program",
    "training.settings",
    "sampling.engine",
    "parallel.mesh",
)
"""What the benchmarks of this folder import of `w2sr_jax`."""


def prepare(device: str) -> None:
    """`importable`, and chooses where jax computes (cpu or gpu, which must then be there). To be called before jax is imported.

    Memory is taken as it is needed, since a peer has the rest.
    """
    os.environ["JAX_PLATFORMS"] = "cuda" if device == "gpu" else device
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    importable()


def importable() -> None:
    """Makes `w2sr_jax` importable."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    try:
        import jaxtyping
    except ImportError:
        sys.modules["jaxtyping"] = stand_in()
    else:
        del jaxtyping


def stand_in() -> types.ModuleType:
    """A module in which every `Kind[array, "shape"]` is `array`."""

    class Kind:
        def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
            return item[0]

    def find(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "Array":
            import jax

            return jax.Array
        return Kind

    module = types.ModuleType("jaxtyping")
    module.__spec__ = importlib.machinery.ModuleSpec("jaxtyping", None)
    module.__getattr__ = find  # type: ignore[method-assign]
    return module


def beside(name: str) -> Any:
    """The module `tools/bench/NAME.py`, whose folder holds modules with the names of this one's."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "tools" / "bench" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
