"""People look for faults in their own JAX code with JAX's strict settings: nothing of ours may stand in their way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("strict_program.py")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Programs that one process has compiled serve the next, where the settings leave them as they are."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@pytest.fixture(scope="module")
def plain(compiled: dict[str, str]) -> str:
    return run(compiled)


def run(compiled: dict[str, str], *arguments: str, **settings: str) -> str:
    environment = {**os.environ, **compiled, "PYTHONPATH": str(Path(__file__).parents[2]), "XLA_FLAGS": "", **settings}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.stdout.endswith("done\n"), done.stderr[-3000:]
    return done.stdout


def test_ranks_and_types_are_promoted_explicitly(compiled: dict[str, str], plain: str) -> None:
    """Where the settings let a program through, they change nothing of it: the same bits."""
    assert run(compiled, JAX_NUMPY_RANK_PROMOTION="raise", JAX_NUMPY_DTYPE_PROMOTION="strict") == plain


def test_looking_for_nan_and_for_tracers_that_leak_finds_none(compiled: dict[str, str], plain: str) -> None:
    found = run(compiled, "little", JAX_DEBUG_NANS="1", JAX_CHECK_TRACER_LEAKS="1", JAX_DEBUG_KEY_REUSE="1")
    assert set(found.splitlines()) <= set(plain.splitlines())


def test_neither_double_precision_nor_other_default_keys_change_what_is_drawn(compiled: dict[str, str], plain: str) -> None:
    found = run(compiled, "little", JAX_ENABLE_X64="1", JAX_DEFAULT_PRNG_IMPL="unsafe_rbg")
    assert [line for line in found.splitlines() if line.startswith("trained")]
    assert [line for line in found.splitlines() if line.startswith("drawn")] == [
        line for line in plain.splitlines() if line.startswith("drawn")
    ]
