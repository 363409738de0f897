"""A directory as somebody has it who copies from one page."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_pages import ROOT


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with `configs/`; modules that come from there are forgotten afterwards."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(tmp_path / "configs"))
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
