"""Run a user's Python: configurations, and the losses and graders they define. Whatever it raises becomes one sentence with file
and line."""

import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

from w2sr_jax.core import sentences
from w2sr_jax.core.code import copies
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.core.process.stopping import Terminated

OURS = "w2sr_jax"
_TRACEBACK = "Traceback (most recent call last):"
_LONGEST = 1000  # characters of a sentence about settings, which may quote a setting of any length


def load(path: Path) -> ModuleType:
    """Import a user's file under its stem, with its siblings importable, also later, when a function of it imports them. A file
    in a folder `studies` may import those beside that folder, too."""
    path = path.resolve()
    name = path.stem  # a link's target, as the run's copy is named
    copies.uninstall()
    loaded = sys.modules.get(name)
    if loaded is not None:
        if getattr(loaded, "__file__", None) and Path(str(loaded.__file__)).resolve() == path:
            return loaded
        if loaded.__spec__ is None or name == OURS or not is_users(getattr(loaded, "__file__", None)):
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
    sys.path += [folder for folder in _folders(path) if folder not in sys.path]
    return module


@contextlib.contextmanager
def running(path: Path) -> Iterator[None]:
    """Run a user's file: its siblings are importable, no byte code is written beside them (a run's folder holds the run's files
    only), and whatever it raises becomes one sentence with file and line."""
    folders = _folders(path.resolve())
    sys.path[:0] = folders
    try:
        with _told(path, path):
            yield
    finally:
        for folder in folders:
            with contextlib.suppress(ValueError):
                sys.path.remove(folder)


def _folders(path: Path) -> list[str]:
    """Where a user's file finds what it imports: beside it, and for a file in a folder `studies` beside that folder too, where
    the experiments are that it varies."""
    return [str(path.parent), *([str(path.parent.parent)] if path.parent.name == "studies" else [])]


@contextlib.contextmanager
def calling(thing: object) -> Iterator[None]:
    """Call a loss, grader or other code of a user's: whatever it raises is one sentence with the innermost line of the user's
    code that led to it, or the line where `thing` is defined (`thing` itself where it is text)."""
    with _told(thing, None):
        yield


@contextlib.contextmanager
def guarded(thing: object) -> Iterator[None]:
    """`calling` of what may be ours or a user's own: ours is left alone, and a `UserError` passes as it is."""
    if is_ours(thing):
        yield
        return
    sentence: UserError | None = None
    with _told(thing, None):
        try:
            yield
        except UserError as error:
            sentence = error
    if sentence is not None:
        raise sentence


def defined(thing: object) -> str:
    """Where a function, a class or an object's class is defined, as `FILE, line N`; decorators, `jax.jit` and `functools.partial`
    are looked through. Its name where Python does not know."""
    inner = _innermost(thing)
    try:
        file = inspect.getsourcefile(inner)  # type: ignore[arg-type]
        line = inner.__code__.co_firstlineno if isinstance(inner, FunctionType) else inspect.getsourcelines(inner)[1]  # type: ignore[arg-type]
    except (TypeError, OSError):
        file, line = None, 0
    return f"{_short(file)}, line {line}" if file else sentences.shown(str(getattr(inner, "__qualname__", inner)))


def is_ours(thing: object) -> bool:
    """Whether a function, or the class of an object, is defined in this package."""
    module = getattr(thing, "__module__", None) if inspect.isroutine(thing) else type(thing).__module__
    return str(module).split(".")[0] == OURS


def is_users(file: str | None) -> bool:
    """Whether a source file lies outside the Python installation, its packages, and this one."""
    if not file or file.startswith("<"):
        return False
    path = Path(file).resolve()
    return not _installed() & set(path.parents)


def in_words(error: BaseException) -> str:
    """An error in words: where a dataclass of settings stumbled over a value of another type, the setting and the right type."""
    if isinstance(error, UserError):
        return sentences.shown(str(error), _LONGEST)
    return _misfit(error) or sentences.cause(error)


def called_back(error: BaseException) -> UserError | None:
    """What a user's function raised that compiled code called (`jax.debug.callback`), with file and line, read off JAX's error,
    which has it as text. None where an exception is nothing of the kind."""
    text = str(error).partition(_TRACEBACK)[2] if type(error).__name__ == "JaxRuntimeError" else ""
    frames = [frame for frame in re.finditer(r'^ *File "([^"\n]+)", line (\d+).*$', text, re.MULTILINE) if is_users(frame[1])]
    if not frames:
        return None
    raised = next((line for line in text[frames[-1].end() :].splitlines() if line and not line[0].isspace()), "an exception")
    return UserError(f"{_short(frames[-1][1])}, line {frames[-1][2]}: {sentences.shown(raised, _LONGEST)}")


@contextlib.contextmanager
def _told(thing: object, path: Path | None) -> Iterator[None]:
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    except (KeyboardInterrupt, Stopped, Terminated):
        raise
    except BaseException as error:
        raise UserError(_sentence(error, str(thing) if isinstance(thing, str | Path) else defined(thing), path)) from None
    finally:
        sys.dont_write_bytecode = written


def _sentence(error: BaseException, otherwise: str, path: Path | None) -> str:
    """What went wrong and where: the innermost line of the user's, and how `path` (the file that was run) got there."""
    if isinstance(error, SyntaxError) and is_users(error.filename):
        at = [(Path(str(error.filename)).resolve(), error.lineno)]
        words = f"SyntaxError: {error.msg}"
    else:
        frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        at = [(Path(file).resolve(), line) for file, line in frames if is_users(file)][::-1]
        words = in_words(error)
    if not at:
        return f"{otherwise}: {words}"
    file, line = at[0]
    name = str(path) if path is not None and path.resolve() == file else _short(str(file))
    outer = next((number for other, number in at if path is not None and other == path.resolve()), None)
    way = f" (called at {path}, line {outer})" if outer is not None and path is not None and path.resolve() != file else ""
    return f"{name}, line {line}: {words}{way}" if line else f"{name}: {words}"


def _innermost(thing: object) -> object:
    """The function or class behind wrappers."""
    for _ in range(100):
        try:
            inner = thing.func if isinstance(thing, functools.partial) else getattr(thing, "__wrapped__", None)
        except Exception:  # an object of a user's own may raise when it is asked for anything
            break
        if inner is None:
            break
        thing = inner
    return thing if isinstance(thing, type) or inspect.isroutine(thing) else type(thing)


def _short(file: str | None) -> str:
    """A file as people write it: relative where it lies below the working directory."""
    try:
        relative = os.path.relpath(str(file))
    except (ValueError, OSError):  # another drive, or a working directory that is gone
        return str(file)
    return str(file) if relative.startswith("..") else relative


def _misfit(error: BaseException) -> str | None:
    """The sentence about a setting of the wrong type, where `__post_init__` of a dataclass raised because of it; None
    elsewhere."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        settings = frame.f_locals.get("self")
        if frame.f_code.co_name == "__post_init__" and dataclasses.is_dataclass(settings):
            return mistyped(settings, type(settings), type(settings).__name__)
    return None


@functools.cache
def _installed() -> frozenset[Path]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    roots = {Path(sysconfig.get_paths()[name]).resolve() for name in names}
    return frozenset(roots | {Path(__file__).resolve().parents[2]})
