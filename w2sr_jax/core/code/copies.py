"""Import a run's own copies of a user's modules: only files that the run lists, and only with the digests that it lists.

A folder that came from somebody else may hold more than the run lists: modules that shadow others, byte code that does not belong
to its source. Neither is ever executed.
"""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError


def install(folder: Path, code: Mapping[str, str]) -> None:
    """Import the modules whose files `code` lists (path below `folder` → sha256) from there, before any other module of the same
    name. Modules of these names that were imported from elsewhere are removed from `sys.modules`."""
    uninstall()
    finder = _Copies(folder.resolve(), code)
    for name in list(sys.modules):
        if finder.file_of(name) is not None:
            del sys.modules[name]
    sys.meta_path.insert(0, finder)


def uninstall() -> None:
    """Undo `install`, and remove the copies that were imported."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Copies)]
    for name, module in list(sys.modules.items()):
        if isinstance(getattr(getattr(module, "__spec__", None), "loader", None), _Verified):
            del sys.modules[name]


class _Copies(MetaPathFinder):
    def __init__(self, folder: Path, code: Mapping[str, str]) -> None:
        self._folder, self._code = folder, dict(code)

    def file_of(self, module: str) -> str | None:
        stem = module.replace(".", "/")
        return next((path for path in (f"{stem}/__init__.py", f"{stem}.py") if path in self._code), None)

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        del path, target
        listed = self.file_of(fullname)
        if listed is not None:
            file = self._folder / listed
            loader = _Verified(fullname, str(file), self._code[listed])
            inside = [str(file.parent)] if PurePosixPath(listed).name == "__init__.py" else None
            return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=inside)
        stem = fullname.replace(".", "/") + "/"
        if not any(path.startswith(stem) for path in self._code):
            return None
        namespace = ModuleSpec(fullname, None, is_package=True)
        namespace.submodule_search_locations = [str(self._folder / stem)]
        return namespace


class _Verified(SourceFileLoader):
    """Executes a file if it has the digest with which it was saved; reads no byte code."""

    def __init__(self, name: str, path: str, digest: str) -> None:
        super().__init__(name, path)
        self._digest = digest

    def get_data(self, path: str) -> bytes:
        if path != self.path:
            raise OSError(f"{path} is not read")
        data = super().get_data(path)
        if files.digest_bytes(data) != self._digest:
            raise UserError(f"{path} is not as it was saved; restore it, or begin another run")
        return data

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Writes no byte code."""
