"""A local directory with a model as the Hugging Face Hub stores it: which files hold which tensors, and what is wrong with it.

Nothing is executed from it: only `config.json`, the index and `*.safetensors` are read; pickles are refused.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.models.hf.safetensors_files import Stored, read_header

CONFIG = "config.json"
WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_OTHERS = (".gguf", ".h5", ".msgpack", ".onnx")


def raw_config(directory: Path) -> dict[str, Any]:
    """What `config.json` says. Raises UserError where there is none, or no object."""
    _check(directory)
    path = directory / CONFIG
    if not path.is_file():
        if not list(directory.glob("*.safetensors")):
            raise UserError(f"{directory} holds no {CONFIG} and no *.safetensors file: {_instead(directory)}")
        raise UserError(f"{path} is missing; a Hugging Face directory has it beside the weights{_unfinished(directory)}")
    raw = files.read_json(path)
    if not isinstance(raw, dict):
        raise UserError(f"{path} is not a JSON object")
    return raw


def tensors(directory: Path) -> dict[str, Stored]:
    """All tensors by name. Headers are read and checked against the index and the files' sizes; the data are not read.

    Raises UserError, naming the file, for missing, truncated or damaged ones, for an index that disagrees with them, and for
    weights in another form than safetensors.
    """
    _check(directory)
    if (directory / INDEX).is_file():
        return _indexed(directory)
    if (directory / WHOLE).exists():
        return read_header(directory / WHOLE)
    shards = sorted(path for path in directory.glob("*.safetensors") if not path.name.startswith("adapter_"))
    if not shards:
        raise UserError(f"{directory} holds no *.safetensors file: {_instead(directory)}")
    for path in shards:
        _complete(directory, path)
    return _joined(shards)


def _indexed(directory: Path) -> dict[str, Stored]:
    index = directory / INDEX
    raw = files.read_json(index)
    where = raw.get("weight_map") if isinstance(raw, dict) else None
    if not isinstance(where, dict) or not where:
        raise UserError(f"{index} has no weight_map from tensors to files")
    for name in where.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(f"{index} names {name!r}; a *.safetensors file beside it would be right")
    shards = sorted(set(where.values()))
    missing = [name for name in shards if not (directory / name).exists()]
    if missing:
        raise UserError(f"{index} names {listed(missing)}, which {_is(missing)} missing{_unfinished(directory)}")
    if WHOLE not in shards and (directory / WHOLE).exists():
        raise UserError(f"{directory} holds both {WHOLE} and {INDEX}, which names other files; remove one of them")
    stored = _joined([directory / name for name in shards])
    for name, shard in where.items():
        if name not in stored:
            raise UserError(f"{index} says that {name} is in {shard}, where it is not")
        if stored[name].path.name != shard:
            raise UserError(f"{index} says that {name} is in {shard}; it is in {stored[name].path.name}")
    unlisted = sorted(stored.keys() - where.keys())
    if unlisted:
        raise UserError(f"{stored[unlisted[0]].path} holds {listed(unlisted)}, which {INDEX} does not list")
    return stored


def _joined(paths: Iterable[Path]) -> dict[str, Stored]:
    joined: dict[str, Stored] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} is a link to a file that is missing{_unfinished(path.parent)}")
        for name, stored in read_header(path).items():
            if name in joined:
                raise UserError(f"{name} is both in {joined[name].path} and in {path.name}; remove what does not belong there")
            joined[name] = stored
    return joined


def _complete(directory: Path, path: Path) -> None:
    """Raises UserError where other shards of the same set are missing (there is no index that would name them)."""
    match = _SHARD.fullmatch(path.name)
    if match:
        names = [f"{match[1]}-{number + 1:05}-of-{match[3]}.safetensors" for number in range(int(match[3]))]
        missing = [name for name in names if not (directory / name).exists()]
        if missing:
            raise UserError(f"{directory} holds {path.name} and lacks {listed(missing)}{_unfinished(directory)}")


def _check(directory: Path) -> None:
    if directory.is_file():
        raise UserError(f"{directory} is a file; give the directory with {CONFIG} and the *.safetensors files")
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory, and a model is one with {CONFIG} and *.safetensors files")


def _instead(directory: Path) -> str:
    """What the directory holds instead of readable weights, and what to do, in words."""
    names = sorted(path.name for path in directory.iterdir())
    if any(name.startswith("adapter_") for name in names):
        return "it is an adapter; give the model that it was trained on, or one into which it was merged"
    for name in names:
        if name.endswith(_PICKLES):
            return f"{name} is a pickle, which can run code when read, and is refused; convert it to safetensors"
    for name in names:
        if name.endswith(_OTHERS):
            return f"{name} is of a format that is not read; take the model's original safetensors"
    return "add the weights" + _unfinished(directory)


def _unfinished(directory: Path) -> str:
    """The end of a sentence about a missing file: which sign there is of a download that did not end. In the Hub's cache, partial
    files lie in the blobs folder."""
    folders = (directory, directory / ".cache" / "huggingface" / "download", directory.parent.parent / "blobs")
    partial = [path for folder in folders for path in sorted(folder.glob("*.incomplete"))]
    dangling = [path for path in sorted(directory.iterdir()) if path.is_symlink() and not path.exists()]
    if partial or dangling:
        sign = f"{partial[0].name} is left of it" if partial else f"{dangling[0].name} is a link to nothing"
        return f": the download did not end ({sign}); repeat it"
    return "; fetch it again"


def listed(names: list[str], most: int = 3) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
