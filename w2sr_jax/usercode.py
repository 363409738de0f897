"""Run a user's Python files: whatever they raise is one sentence with file and line."""

import contextlib
import dataclasses
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from w2sr_jax import sentences
from w2sr_jax.errors import Stopped, UserError
from w2sr_jax.fieldtypes import mistyped
from w2sr_jax.stopping import Terminated

OURS = "w2sr_jax"
_LONGEST = 1000  # characters of a sentence about settings, which may quote a setting of any length


def load(path: Path) -> ModuleType:
    """Import a user's file under its stem, with its siblings importable."""
    path, name = path.resolve(), path.stem
    known = sys.modules.get(name)
    if known is not None:
        if getattr(known, "__file__", None) and Path(str(known.__file__)).resolve() == path:
            return known
        if known.__spec__ is None or name == OURS or not _is_users(known):
            raise UserError(f"{path.name} would hide the Python module {name!r}: give the file another name")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with running(path):
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


@contextlib.contextmanager
def running(path: Path) -> Iterator[None]:
    """Run a user's code: siblings are importable, no byte code is written beside them (a run's folder holds what the run
    made and nothing else), and whatever it raises is one sentence with file and line."""
    folder, written = str(path.resolve().parent), sys.dont_write_bytecode
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    try:
        yield
    except (KeyboardInterrupt, Stopped, Terminated):
        raise
    except BaseException as error:
        line = _line(error, path)
        words = f"SyntaxError: {error.msg}" if isinstance(error, SyntaxError) and line == error.lineno else said(error)
        raise UserError(f"{path}, line {line}: {words}" if line else f"{path}: {words}") from None
    finally:
        sys.dont_write_bytecode = written
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def said(error: BaseException) -> str:
    """An error in words: where a dataclass of settings stumbled over a value of another type, the setting and the right type."""
    if isinstance(error, UserError):
        return sentences.shown(str(error), _LONGEST)
    return _misfit(error) or sentences.cause(error)


def _line(error: BaseException, path: Path) -> int | None:
    """The last line of a file that led to an error."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).resolve() == path.resolve():
        return error.lineno
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return next((frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()), None)


def _misfit(error: BaseException) -> str | None:
    """The setting whose type made a dataclass refuse its values with an error of Python's own."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        made = frame.f_locals.get("self")
        if frame.f_code.co_name == "__post_init__" and dataclasses.is_dataclass(made):
            return mistyped(made, type(made), type(made).__name__)
    return None


def _is_users(module: ModuleType) -> bool:
    """Whether a module lies outside the Python installation and its packages."""
    path = getattr(module, "__file__", None)
    places = {Path(sysconfig.get_paths()[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return path is not None and not places & set(Path(path).resolve().parents)
