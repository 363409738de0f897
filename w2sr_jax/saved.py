"""Configuration files in, saved experiments in and out.

A saved experiment is JSON in which every dataclass carries its type and every function its name. Types are looked up in
w2sr_jax itself or in the run's own copy of the user's configuration files, and nowhere else.
"""

import dataclasses
import importlib
import importlib.util
import shutil
import sys
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from w2sr_jax import files
from w2sr_jax.errors import UserError
from w2sr_jax.experiment import Experiment, check

OURS = "w2sr_jax"


def load_config(path: Path) -> Experiment:
    """The experiment that a configuration file defines: the value of its `experiment()`."""
    if not path.is_file():
        raise UserError(f"configuration {path} does not exist")
    module = _import_file(path)
    function = getattr(module, "experiment", None)
    if not callable(function):
        raise UserError(f"{path} must define a function experiment() that returns an Experiment")
    value = function()
    if not isinstance(value, Experiment):
        raise UserError(f"{path}: experiment() returned a {type(value).__name__}, not an Experiment")
    return value


def save(run: Path, experiment: Experiment) -> None:
    """Write RUN/experiment.json and copies of the user's modules that it refers to."""
    for source in _user_files(experiment):
        target = run / "config" / source.name
        if source != target.resolve():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    files.write_json(run / "experiment.json", encode(experiment))


def load(run: Path) -> Experiment:
    """The experiment that `save` wrote."""
    path = run / "experiment.json"
    if not path.is_file():
        raise UserError(f"{run} is not a run: it has no experiment.json")
    value = decode(files.read_json(path), run)
    if not isinstance(value, Experiment):
        raise UserError(f"{path} does not hold an experiment")
    check(value)
    return value


def encode(value: Any) -> Any:
    """JSON for settings: dataclasses as objects with their type, functions by name and digest of their source file."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": _name(type(value))} | fields
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, FunctionType):
        if "<" in value.__qualname__:
            raise UserError(
                f"function {value.__qualname__} must be defined at the top level of its module, so that a run can name it"
            )
        return {"function": _name(value), "source": files.digest_file(Path(value.__code__.co_filename))}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(
        f"settings may hold dataclasses, top-level functions, tuples, numbers and text, not {type(value).__name__}: {value!r}"
    )


def decode(value: Any, run: Path) -> Any:
    """The inverse of `encode`."""
    if isinstance(value, list):
        return tuple(decode(item, run) for item in value)
    if not isinstance(value, Mapping):
        return value
    if "function" in value:
        return _find(value["function"], run)
    kind = _find(value["type"], run)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise UserError(f"{run / 'experiment.json'}: {value['type']} is not a dataclass")
    names = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(set(value) - names - {"type"})
    if unknown:
        raise UserError(f"{run / 'experiment.json'}: {value['type']} has no field {unknown[0]!r}")
    return kind(**{key: decode(item, run) for key, item in value.items() if key != "type"})


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


def _find(name: str, run: Path) -> Any:
    module_name, _, qualified = name.partition(":")
    if module_name.split(".")[0] == OURS:
        module = importlib.import_module(module_name)
    else:
        path = run / "config" / f"{module_name}.py"
        if not path.is_file():
            raise UserError(f"{run / 'experiment.json'} refers to {name}, but {path} does not exist")
        module = _import_file(path)
    found: Any = module
    for part in qualified.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise UserError(f"{run / 'experiment.json'} refers to {name}, which does not exist any more")
    return found


def _is_users(module: ModuleType) -> bool:
    """Whether a module lies outside the Python installation and its packages."""
    path = getattr(module, "__file__", None)
    places = {Path(sysconfig.get_paths()[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return path is not None and not places & set(Path(path).resolve().parents)


def _import_file(path: Path) -> ModuleType:
    """Import a user's file under its stem, with its siblings importable."""
    path, name = path.resolve(), path.stem
    known = sys.modules.get(name)
    if known is not None:
        if getattr(known, "__file__", None) and Path(str(known.__file__)).resolve() == path:
            return known
        if known.__spec__ is None or not _is_users(known):
            raise UserError(f"{path.name} would hide the Python module {name!r}: give the file another name")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, KeyboardInterrupt):
            raise
        line = next(
            (f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if Path(f.filename).resolve() == path), None
        )
        place = f"{path}, line {line}" if line else str(path)
        raise UserError(f"{place}: {type(error).__name__}: {error}") from None
    finally:
        sys.path.remove(str(path.parent))
    return module
