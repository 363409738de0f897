"""Fixtures for all tests. Real data is optional: tests that need it skip, saying so, where it is absent."""

import os
from pathlib import Path

import pytest

# Eight virtual CPU devices, before anything imports jax; one-device tests use a mesh of size 1.
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8").strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    path = Path(os.environ.get("W2SR_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"real data is absent ({path}); set W2SR_DATA to its directory")
    return path
