"""Settings as JSON: every dataclass has its type, every function its name, what is the user's own also the digest of its code.

Reading executes nothing of the user's: their types and functions become stand-ins that hold what was written and are written the
same again. Only `saved.load_trusted` puts the code itself in their place. Of ours, dataclasses and losses may be named, nothing
else.
"""

import dataclasses
import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from w2sr_jax.core import files, sentences
from w2sr_jax.core.code import imports, usercode
from w2sr_jax.core.code.unloaded import Reference, Unloaded, stand_in
from w2sr_jax.core.errors import Unsavable, UserError
from w2sr_jax.core.extendable import Extendable
from w2sr_jax.core.fieldtypes import unwritable

OURS = usercode.OURS
RESERVED = {"type", "function", "source", "partial", "extends"}
LOSSES = f"{OURS}.losses."


Resolve = Callable[[Reference], Any]
"""What stands for a type or function of the user's."""


def encode(value: Any, where: str = "") -> Any:
    """JSON for settings. `where` is their path in the experiment, such as `rungs.0.training`. `Unsavable` where a value cannot be
    saved so that it can be read back as what it is."""
    if isinstance(value, Unloaded):
        return {"function": value.reference.name, "source": value.reference.source}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode_dataclass(value, where)
    if isinstance(value, tuple):
        return [encode(item, f"{where}.{index}".lstrip(".")) for index, item in enumerate(value)]
    if isinstance(value, functools.partial):
        keywords = {name: encode(item, f"{where}.{name}".lstrip(".")) for name, item in value.keywords.items()}
        return {"partial": encode(value.func, where), "arguments": encode(value.args, where), "keywords": keywords}
    if value is None or isinstance(value, bool | int | float | str):
        fault = unwritable(value)
        if fault is not None:
            raise Unsavable(f"{where or 'a setting'} is {sentences.value(value, 60)}; it must be {fault}")
        return value
    if callable(value) and not isinstance(value, type):
        return _encode_function(value, where)
    raise Unsavable(
        f"{where or 'a setting'} is {sentences.value(value)}, of type {type(value).__name__}; settings may hold dataclasses, "
        "functions with a name at the top level of a module, tuples, numbers and text"
    )


def decode(value: Any, file: Path, where: str = "", resolve: Resolve | None = None) -> Any:
    """The inverse of `encode` for what `file` holds; `where` is the path in it. `resolve` says what stands for the user's own
    types and functions (default: there may be none)."""
    if isinstance(value, list):
        return tuple(decode(item, file, f"{where}.{index}".lstrip("."), resolve) for index, item in enumerate(value))
    if not isinstance(value, Mapping):
        return value
    setting = f"{file}, {where}" if where else str(file)
    if "partial" in value:
        return _decode_partial(value, file, where, setting, resolve)
    if "function" in value:
        function = _named(value["function"], value, setting, resolve)
        if isinstance(function, type) or not callable(function):
            raise UserError(f"{setting}: {sentences.value(value['function'])} is not a function")
        return function
    if "type" not in value:
        raise UserError(f"{setting}: an object must say its type")
    kind = _named(value["type"], value, setting, resolve)
    if isinstance(kind, Unloaded):
        kind = stand_in(kind.reference, [name for name in value if name not in RESERVED])
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise UserError(f"{setting}: {sentences.value(value['type'])} is not a dataclass")
    fields = {key: item for key, item in value.items() if key not in RESERVED}
    unknown = sorted(fields.keys() - {field.name for field in dataclasses.fields(kind)})
    if unknown:
        raise UserError(f"{setting}: {sentences.value(value['type'])} has no field {sentences.value(unknown[0])}")
    parts = {key: decode(item, file, f"{where}.{key}".lstrip("."), resolve) for key, item in fields.items()}
    try:
        return kind(**parts)
    except RecursionError:
        raise
    except Exception as error:
        raise UserError(f"{setting}: {usercode.in_words(error)}") from None


def encode_type(kind: type) -> dict[str, str]:
    """JSON for a type: its name and, where it is the user's own, the digest of its code. `UserError` where it has no name."""
    module, name = importable(kind, "")
    return {"type": f"{module}:{name}"} | _source(module)


def user_modules(value: Any) -> set[str]:
    """Names of the user's modules that settings refer to."""
    if isinstance(value, Unloaded) or (
        dataclasses.is_dataclass(value) and isinstance(getattr(value, "unloaded", None), Reference)
    ):
        return set()
    if isinstance(value, type):
        modules = {value.__module__}
    elif dataclasses.is_dataclass(value):
        inside = [user_modules(getattr(value, field.name)) for field in dataclasses.fields(value)]
        modules = {type(value).__module__}.union(*inside)
    elif isinstance(value, tuple):
        modules = set().union(*map(user_modules, value))
    elif isinstance(value, functools.partial):
        modules = user_modules((value.func, *value.args, *value.keywords.values()))
    else:
        modules = {importable(value, "")[0]} if callable(value) else set()
    return {module for module in modules if module.split(".")[0] != OURS}


def _encode_function(value: Any, where: str) -> dict[str, Any]:
    module, name = importable(value, where)
    if module.split(".")[0] == OURS and not module.startswith(LOSSES):
        raise Unsavable(
            f"{where or 'a setting'} is {module}:{name}; of the functions of {OURS} only losses can be named in settings: "
            "call it in a function of your own"
        )
    return {"function": f"{module}:{name}"} | _source(module)


def _encode_dataclass(value: Any, where: str) -> dict[str, Any]:
    kind = type(value)
    stated = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if not _left_out(f, getattr(value, f.name))}
    fields = {name: encode(part, f"{where}.{name}".lstrip(".")) for name, part in stated.items()}
    reserved = sorted(fields.keys() & RESERVED)
    if reserved:
        raise Unsavable(f"{kind.__module__}:{kind.__qualname__} has a field {reserved[0]!r}, which saved settings use; rename it")
    reference = getattr(kind, "unloaded", None)
    if isinstance(reference, Reference):
        extends = {"extends": _name(reference.extends)} if reference.extends else {}
        return {"type": reference.name, "source": reference.source} | extends | fields
    module, name = importable(kind, where)
    if module.split(".")[0] != OURS:
        _check_remade(value)
    base = _extended(kind)
    extends = {} if base is None or module.split(".")[0] == OURS else {"extends": _name(base)}
    return {"type": f"{module}:{name}"} | _source(module) | extends | fields


def _left_out(field: "dataclasses.Field[Any]", value: Any) -> bool:
    return bool(field.metadata.get("where_set")) and bool(value == field.default)


def _check_remade(value: Any) -> None:
    """`UserError` where a user's dataclass is not what its own fields make."""
    kind, names = type(value), [field.name for field in dataclasses.fields(value)]
    try:
        again = kind(**{name: getattr(value, name) for name in names})
        different = [name for name in names if getattr(again, name) != getattr(value, name)]
    except Exception as error:
        raise Unsavable(
            f"{usercode.defined(kind)}: {kind.__qualname__} cannot be made again from its fields, which is how a run reads it "
            f"({sentences.cause(error)}); let it take all of them and nothing else"
        ) from None
    if different:
        raise Unsavable(
            f"{usercode.defined(kind)}: {kind.__qualname__} made again from its fields has another {different[0]}, so that a run "
            "would read it as something else; leave its fields as they are given"
        )


def _decode_partial(value: Mapping[str, Any], file: Path, where: str, setting: str, resolve: Resolve | None) -> Any:
    function = decode(value["partial"], file, where, resolve)
    arguments = decode(value.get("arguments"), file, where, resolve)
    named = value.get("keywords")
    if not callable(function) or not isinstance(arguments, tuple) or not isinstance(named, Mapping):
        raise UserError(f"{setting}: a partial function must have a function, a list of arguments and an object of keywords")
    keywords = {str(name): decode(item, file, f"{where}.{name}".lstrip("."), resolve) for name, item in named.items()}
    return functools.partial(function, *arguments, **keywords)


def _named(name: Any, value: Mapping[str, Any], setting: str, resolve: Resolve | None) -> Any:
    """A type or function of ours, or what stands for one of the user's, by `module:name`."""
    module, _, qualified = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not module or not all(part.isidentifier() for part in qualified.split(".")):
        raise UserError(f"{setting}: {sentences.value(name)} names no type and no function; it must be MODULE:NAME")
    if module.split(".")[0] != OURS:
        if resolve is None:
            raise UserError(
                f"{setting} refers to {sentences.shown(name)}, which is not of {OURS}; nothing else can be named there"
            )
        source, base = value.get("source"), value.get("extends")
        extends = None if base is None else _base(base, setting)
        return resolve(Reference(name, source if isinstance(source, str) else None, extends, setting))
    target = _attribute(_import_ours(module), qualified)
    if target is None:
        raise UserError(f"{setting} refers to {sentences.shown(name)}, which does not exist")
    if getattr(target, "__module__", None) != module or getattr(target, "__qualname__", None) != qualified:
        raise UserError(f"{setting}: {sentences.shown(name)} is not defined there")
    if "function" in value and not (isinstance(target, type) or module.startswith(LOSSES)):
        raise UserError(f"{setting}: {sentences.shown(name)} is not a loss; of the functions of {OURS} only losses may be named")
    return target


def _base(name: Any, setting: str) -> type:
    """A class of ours that a user's type extends."""
    kind = _named(name, {}, setting, None)
    if isinstance(kind, type) and _extendable(kind):
        return kind
    raise UserError(f"{setting}: {sentences.value(name)} is nothing that a type of your own can extend")


def _extended(kind: type) -> type | None:
    """The nearest class of ours among those that a user's type extends."""
    ours = (base for base in kind.__mro__ if base.__module__.split(".")[0] == OURS)
    return next((base for base in ours if _extendable(base)), None)


def _extendable(kind: type) -> bool:
    """Whether a class of ours is one that a user's type may extend."""
    return dataclasses.is_dataclass(kind) or issubclass(kind, Extendable) or bool(getattr(kind, "_is_protocol", False))


def importable(value: Any, where: str) -> tuple[str, str]:
    """Module and name by which a function or a type can be imported again: its own, or a name that a module of the user's has
    for it (`fast = jax.jit(plain)`)."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str) and _attribute(sys.modules.get(module), name) is value:
        if module == "__main__":
            raise Unsavable(
                f"{usercode.defined(value)}: {name} is defined in the script itself; move it to a module, so that "
                "a run can name it"
            )
        if module.split(".")[0] != OURS and not usercode.is_users(getattr(sys.modules[module], "__file__", None)):
            raise Unsavable(
                f"{where or 'a setting'} is {module}:{name} of an installed package, of which a run keeps no copy; use it in a "
                "function or a dataclass of your own"
            )
        return module, name
    for other in sorted({*([module] if isinstance(module, str) and module != "__main__" else []), *imports.user_modules()}):
        loaded = sys.modules.get(other)
        alias = next((key for key, item in list(vars(loaded).items()) if item is value), None) if loaded else None
        if alias is not None:
            return other, alias
    shown = name if isinstance(name, str) else sentences.value(value, 60)
    at = f"{where} is " if where else ""
    raise Unsavable(
        f"{usercode.defined(value)}: {at}{shown}, which no module has at its top level, so that a run could not name it; "
        "give it a name there (mine = …), or use a frozen dataclass or functools.partial"
    )


def _source(module: str) -> dict[str, str]:
    """The digest of the user's files that a module is made of; what is ours is told apart by its version."""
    if module.split(".")[0] == OURS:
        return {}
    digests = imports.digests(imports.closure([module]))
    return {"source": next(iter(digests.values())) if len(digests) == 1 else files.digest_json(digests)}


def _attribute(module: ModuleType | None, qualified: str) -> Any:
    value: Any = module
    for part in qualified.split("."):
        value = getattr(value, part, None)
    return value


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _import_ours(name: str) -> ModuleType | None:
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
