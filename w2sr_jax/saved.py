"""Configuration files in, saved experiments in and out.

A saved experiment is JSON in which every dataclass carries its type and every function its name, with a digest over all. Types
are looked up in w2sr_jax itself or in the run's own copy of the user's configuration files, and nowhere else.
"""

import dataclasses
import importlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from w2sr_jax import files, sentences, usercode
from w2sr_jax.errors import UserError
from w2sr_jax.experiment import Experiment, check
from w2sr_jax.fieldtypes import mistyped, unwritable
from w2sr_jax.usercode import OURS

EXPERIMENT = "experiment.json"


def load_config(path: Path) -> Experiment:
    """The experiment that a configuration file defines: the value of its `experiment()`, with every setting of its type."""
    if not path.is_file():
        raise UserError(f"configuration {path} does not exist")
    module = usercode.load(path)
    with usercode.running(path):
        function = getattr(module, "experiment", None)
        value = function() if callable(function) else None
    if not callable(function):
        raise UserError(f"{path} must define a function experiment() that returns an Experiment")
    if not isinstance(value, Experiment):
        raise UserError(f"{path}: experiment() returned a {type(value).__name__}, not an Experiment")
    _check_types(value, path)
    return value


def save(run: Path, experiment: Experiment) -> None:
    """Write RUN/experiment.json and copies of the user's modules that it refers to."""
    for source in _user_files(experiment):
        target = run / "config" / source.name
        if source != target.resolve():
            with files.replacing(target) as copy:
                shutil.copyfile(source, copy)
    encoded = encode(experiment)
    files.write_json(run / EXPERIMENT, encoded | {"digest": files.digest_json(encoded)})


def load(run: Path) -> Experiment:
    """The experiment that `save` wrote."""
    path = run / EXPERIMENT
    if not path.is_file():
        raise UserError(f"{run} is not a run: it has no {EXPERIMENT}")
    raw = _read(path)
    if not _as_saved(raw):
        raise UserError(
            f"{path} is not as it was saved; settings of a run cannot be changed: override those of its configuration"
        )
    try:
        value = decode({key: part for key, part in raw.items() if key != "digest"} if isinstance(raw, dict) else raw, run)
    except RecursionError:
        raise UserError(f"{path} is nested too deeply") from None
    if not isinstance(value, Experiment):
        raise UserError(f"{path} does not hold an experiment")
    _check_types(value, path)
    check(value)
    return value


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_object)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {sentences.cause(error)}") from None


def _as_saved(raw: Any) -> bool:
    """Whether a saved experiment has the digest it was saved with; one without a digest was written otherwise."""
    if not isinstance(raw, dict) or "digest" not in raw:
        return True
    try:
        return bool(raw["digest"] == files.digest_json({key: part for key, part in raw.items() if key != "digest"}))
    except (ValueError, RecursionError):  # values that are never saved
        return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a field occurs twice in one object")
    return values


def _check_types(experiment: Experiment, path: Path) -> None:
    try:
        wrong = mistyped(experiment, Experiment)
    except RecursionError:
        wrong = "its settings are nested too deeply"
    if wrong:
        raise UserError(f"{path}: {wrong}")


def encode(value: Any, where: str = "") -> Any:
    """JSON for settings: dataclasses as objects with their type, functions by name; what is the user's own also has the digest of
    the source file. `where` is the place in the experiment."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name), f"{where}.{f.name}".lstrip(".")) for f in dataclasses.fields(value)}
        reserved = sorted(fields.keys() & {"type", "function", "source"})
        if reserved:
            raise UserError(f"{_name(type(value))} has a field {reserved[0]!r}, which a saved experiment uses itself; rename it")
        return {"type": _name(type(value))} | _source(type(value)) | fields
    if isinstance(value, tuple):
        return [encode(item, f"{where}.{index}".lstrip(".")) for index, item in enumerate(value)]
    if isinstance(value, FunctionType):
        return {"function": _name(value), "source": _digest(Path(value.__code__.co_filename), value.__qualname__)}
    if value is None or isinstance(value, bool | int | float | str):
        fault = unwritable(value)
        if fault is not None:
            raise UserError(f"{where or 'a setting'} is {sentences.value(value, 60)}; it must be {fault}")
        return value
    raise UserError(
        f"{where or 'a setting'} is {sentences.value(value)}, of type {type(value).__name__}; settings may hold dataclasses, "
        "top-level functions, tuples, numbers and text"
    )


def decode(value: Any, run: Path, where: str = "") -> Any:
    """The inverse of `encode`; `where` is the place in the experiment."""
    if isinstance(value, list):
        return tuple(decode(item, run, f"{where}.{index}".lstrip(".")) for index, item in enumerate(value))
    if not isinstance(value, Mapping):
        return value
    place = f"{run / EXPERIMENT}, {where}" if where else str(run / EXPERIMENT)
    if "function" in value:
        found = _find(value["function"], run, place, value.get("source"))
        if not isinstance(found, FunctionType):
            raise UserError(f"{place}: {value['function']} is not a function")
        return found
    if "type" not in value:
        raise UserError(f"{place}: an object must say its type")
    kind = _find(value["type"], run, place, value.get("source"))
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise UserError(f"{place}: {value['type']} is not a dataclass")
    given = {key: item for key, item in value.items() if key not in ("type", "source")}
    unknown = sorted(given.keys() - {field.name for field in dataclasses.fields(kind)})
    if unknown:
        raise UserError(f"{place}: {value['type']} has no field {sentences.value(unknown[0])}")
    parts = {key: decode(item, run, f"{where}.{key}".lstrip(".")) for key, item in given.items()}
    try:
        return kind(**parts)
    except RecursionError:
        raise
    except Exception as error:
        raise UserError(f"{place}: {usercode.said(error)}") from None


def config_hash(experiment: Experiment) -> str:
    """Digest of all settings but the run's name."""
    return files.digest_json(encode(dataclasses.replace(experiment, name="-")))


def difference(old: Experiment, new: Experiment) -> str:
    """The first setting in which two experiments differ, in words."""
    return _difference(encode(old), encode(dataclasses.replace(new, name=old.name)), "") or "no setting differs"


def _difference(old: Any, new: Any, path: str) -> str | None:
    if old == new:
        return None
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("type") == new.get("type"):
        found = (_difference(old[key], new.get(key), f"{path}.{key}" if path else key) for key in old)
        return next((text for text in found if text), None)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = (_difference(a, b, f"{path}.{index}") for index, (a, b) in enumerate(zip(old, new)))
        return next((text for text in found if text), None)
    return f"its {path} is {_short(old)}, not {_short(new)}"


def _short(value: Any) -> str:
    text = value["type"] if isinstance(value, Mapping) and "type" in value else files.canonical_json(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _name(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


def _user_modules(value: Any) -> set[str]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {type(value).__module__}
        for field in dataclasses.fields(value):
            found |= _user_modules(getattr(value, field.name))
    elif isinstance(value, tuple):
        found = set().union(*map(_user_modules, value)) if value else set()
    else:
        found = {value.__module__} if isinstance(value, FunctionType) else set()
    return {module for module in found if module.split(".")[0] != OURS}


def _user_files(experiment: Experiment) -> list[Path]:
    """Files of the user's modules that the experiment refers to, and of the loaded modules beside them."""
    folders = {Path(str(sys.modules[module].__file__)).resolve().parent for module in _user_modules(experiment)}
    files_of = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    loaded = {Path(name).resolve() for name in files_of if name}
    return sorted(path for path in loaded if path.parent in folders and path.suffix == ".py")


def _source(kind: type) -> dict[str, str]:
    """The digest of the file that defines a user's type; what is ours is told apart by its version."""
    if kind.__module__.split(".")[0] == OURS:
        return {}
    return {"source": _digest(Path(getattr(sys.modules.get(kind.__module__), "__file__", None) or ""), kind.__qualname__)}


def _digest(source: Path, qualified: str) -> str:
    if "<" in qualified:
        raise UserError(f"{qualified} must be defined at the top level of its module, so that a run can name it")
    try:
        return files.digest_file(source)
    except OSError:
        raise UserError(f"the file that defines {qualified} ({source}) cannot be read; a run keeps a copy of it") from None


def _find(name: Any, run: Path, place: str, source: Any) -> Any:
    """A type or function of ours, or of the run's own configuration files, by `module:name`; nothing else is ever imported."""
    module_name, _, qualified = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not module_name or not all(part.isidentifier() for part in qualified.split(".")):
        raise UserError(f"{place}: {sentences.value(name)} names no type and no function; it must be MODULE:NAME")
    if module_name.split(".")[0] == OURS:
        module = _import_ours(module_name)
    else:
        path = _own_file(run, module_name)
        if path is None:
            missing = sentences.shown(str(run / "config" / f"{module_name}.py"))
            raise UserError(f"{place} refers to {sentences.shown(name)}, but {missing} does not exist")
        if source is not None and files.digest_file(path) != source:
            raise UserError(f"{path} is not as it was saved, and {place} refers to it; restore it, or begin another run")
        module = usercode.load(path)
    found: Any = module
    for part in qualified.split("."):
        found = getattr(found, part, None)
    if module is None or found is None:
        raise UserError(f"{place} refers to {sentences.shown(name)}, which does not exist")
    if getattr(found, "__module__", None) != module_name or getattr(found, "__qualname__", None) != qualified:
        raise UserError(f"{place}: {sentences.shown(name)} is not defined there")
    return found


def _import_ours(name: str) -> ModuleType | None:
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _own_file(run: Path, module: str) -> Path | None:
    """RUN/config/MODULE.py where it is a file that lies there itself."""
    folder = run / "config"
    path = folder / f"{module}.py"
    try:
        return path if path.is_file() and path.resolve().parent == folder.resolve() and path.stem == module else None
    except (OSError, ValueError):
        return None
