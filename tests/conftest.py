"""Fixtures for all tests. Real data is optional: tests that need it skip, saying so, where it is absent."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xla_flags
from object_store import object_store

# Before anything imports jax: eight virtual CPU devices (one-device tests use a mesh of size 1). Flags given from outside win.
_FLAGS = xla_flags.devices(8).split()
_given = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join([_given, *(flag for flag in _FLAGS if flag.split("=")[0] not in _given)]).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Under nohup a closed terminal is nobody's business; the processes that tests start are to know of it all the same.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# What tests trust is nobody else's business.
_trusted = tempfile.mkdtemp(prefix="w2sr-trusted-")
atexit.register(shutil.rmtree, _trusted, ignore_errors=True)
os.environ["XDG_DATA_HOME"] = _trusted

# What one test compiled, the others' processes take from here.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="w2sr-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(4 << 30))  # with a limit, jax locks what it reads and writes
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    path = Path(os.environ.get("W2SR_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"real data is absent ({path}); set W2SR_DATA to its directory")
    return path


@pytest.fixture
def user_module(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Writes a configuration file and forgets the modules afterwards."""
    before = set(sys.modules)

    def write(text: str, name: str = "mine_config") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        return path

    yield write
    for name in set(sys.modules) - before:
        if not name.startswith("w2sr_jax") and ("config" in name or "helper" in name):
            del sys.modules[name]


@pytest.fixture(scope="module")
def object_server() -> Iterator[None]:
    """A store of objects on this machine, which the libraries find by the environment."""
    with object_store() as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield
