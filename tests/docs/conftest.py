"""A directory as somebody has it who copies from one page."""

from collections.abc import Iterator
from pathlib import Path

import doc_runs
import pytest


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """The working directory, with `configs/`."""
    with doc_runs.inside(tmp_path):
        yield tmp_path
