"""The files that a user's module consists of: its own, those of the user's that it imports, directly or not, and small files that
it reads beside itself (`Path(__file__).parent / "table.json"`).

They are read from the source, so that imports inside functions count, and those that leave no trace in the module
(`from constants import ALPHA`).
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core import files
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError

LARGEST = 1 << 20
"""Bytes up to which a file that a module reads beside itself counts as a part of it; larger files are data."""
_DYNAMIC = {"import_module", "__import__", "spec_from_file_location", "run_path", "run_module", "exec", "load_source"}


class UserModule(NamedTuple):
    """A module of the user's: its dotted name, its file, and the folder from which it is imported."""

    name: str
    path: Path
    root: Path

    @property
    def relative(self) -> str:
        return self.path.relative_to(self.root).as_posix()


def closure(names: Iterable[str]) -> dict[str, Path]:
    """The user's files that these modules consist of, by path relative to the folder they are imported from. `UserError` where
    two files would have the same name there, or a module has no file."""
    taken: dict[str, Path] = {}
    seen: set[str] = set()
    todo = [_loaded(name) for name in names]
    while todo:
        module = todo.pop()
        if module.name in seen:
            continue
        seen.add(module.name)
        if taken.setdefault(module.relative, module.path) != module.path:
            other = taken[module.relative]
            raise UserError(f"{module.path} and {other} are both imported as {module.relative}; a run can keep only one of them")
        tree = _tree(module.path)
        for path in _beside(module, tree):
            taken.setdefault(path.relative_to(module.root).as_posix(), path)
        todo += [
            located
            for name in _imported(module, tree)
            if name not in seen and (located := _located(name, module.root)) is not None
        ]
    return dict(sorted(taken.items()))


def digests(paths: dict[str, Path]) -> dict[str, str]:
    """The digest of each file."""
    try:
        return {name: files.digest_file(path) for name, path in paths.items()}
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read; a run keeps a copy of the code that it uses") from None


def user_modules() -> Iterator[str]:
    """Names of the user's modules that are loaded."""
    for name, module in list(sys.modules.items()):
        if name != "__main__" and usercode.is_users(getattr(module, "__file__", None)):
            yield name


def _loaded(name: str) -> UserModule:
    file = getattr(sys.modules.get(name), "__file__", None)
    if not file:
        raise UserError(f"the module {name} has no file; a run keeps a copy of the code that it uses")
    return _module(name, Path(file))


def _module(name: str, file: Path) -> UserModule:
    path = Path(file).resolve()
    depth = name.count(".") + (path.stem == "__init__")
    return UserModule(name, path, path.parents[depth])


def _located(name: str, root: Path) -> UserModule | None:
    """A module of the user's by its name, loaded or not; None for an installed one, and where there is none."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is not None:
        return _module(name, Path(file)) if usercode.is_users(file) else None
    stem = root.joinpath(*name.split("."))
    path = next((path for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")) if path.is_file()), None)
    return None if path is None else _module(name, path)


def _tree(path: Path) -> ast.AST:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):  # an extension, or a file that was never executed
        return ast.Module([], [])


def _beside(module: UserModule, tree: ast.AST) -> set[Path]:
    """The files below a module's folder that it names in expressions with `__file__`, or with a name that is assigned from it."""
    derived = {"__file__"}
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    for _ in assigned:  # repeated, since the assignments may stand in any order
        assigned_from = (
            target.id
            for node in assigned
            if _names(node.value) & derived
            for target in node.targets
            if isinstance(target, ast.Name)
        )
        before = len(derived)
        derived |= set(assigned_from)
        if len(derived) == before:
            break
    expressions = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp | ast.Call) and _names(node) & derived]
    texts = {part.value for node in expressions for part in ast.walk(node) if isinstance(part, ast.Constant)}
    beside = (module.path.parent / text for text in texts if isinstance(text, str) and text and "\0" not in text)
    return {path for path in beside if _is_part(path, module.root)}


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _is_part(path: Path, root: Path) -> bool:
    try:
        return path.is_file() and path.resolve() == path and path.is_relative_to(root) and path.stat().st_size <= LARGEST
    except (OSError, RuntimeError):
        return False


def _imported(module: UserModule, tree: ast.AST) -> set[str]:
    """Names that a module may import: of `from a.b import c` these are a, a.b and a.b.c."""
    names = set(_parents(module.name))
    package = module.name if module.path.stem == "__init__" else module.name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {part for alias in node.names for part in (alias.name, *_parents(alias.name))}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level and package else []
            whole = ".".join([*above, *([node.module] if node.module else [])])
            names |= {part for alias in node.names for part in (f"{whole}.{alias.name}".strip("."), whole, *_parents(whole))}
        elif getattr(node, "id", getattr(node, "attr", None)) in _DYNAMIC:
            names |= {name for name in user_modules() if _loaded(name).root == module.root}
            names |= _quoted(tree)  # whether or not it has been imported yet
    return names - {""}


def _quoted(tree: ast.AST) -> set[str]:
    """Texts in a source that may be a module's name."""
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if all(part.isidentifier() for part in text.split("."))}


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]
