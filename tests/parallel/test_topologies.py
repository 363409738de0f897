"""Names of TPU slices: against the tables of Google's pages, and against jax where libtpu is installed."""

import importlib.util
import os
import subprocess
import sys

import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.parallel import topologies


@pytest.mark.parametrize(
    ("name", "chips", "hosts", "accelerator"),
    [  # from the pages' tables of slices
        ("v4:2x2x1", 4, (1,), "v4-8"),
        ("v4:2x2x4", 16, (4,), "v4-32"),
        ("v4:4x4x4", 64, (16,), "v4-128"),
        ("v5e:1x1", 1, (1,), "v5litepod-1"),
        ("v5e:2x2", 4, (1,), "v5litepod-4"),
        ("v5e:2x4", 8, (1, 2), "v5litepod-8"),
        ("v5e:4x4", 16, (4,), "v5litepod-16"),
        ("v5e:16x16", 256, (64,), "v5litepod-256"),
        ("v5p:2x2x1", 4, (1,), "v5p-8"),
        ("v5p:2x4x4", 32, (8,), "v5p-64"),
        ("v5p:4x4x8", 128, (32,), "v5p-256"),
        ("v6e:4x8", 32, (8,), "v6e-32"),
    ],
)
def test_a_slice_has_the_chips_hosts_and_type_of_the_tables(name, chips, hosts, accelerator):
    piece = topologies.named(name)
    assert (str(piece), piece.chips, piece.hosts, piece.accelerator_type) == (name, chips, hosts, accelerator)


def test_axes_may_stand_in_any_order():
    assert str(topologies.named("v5p:4x2x2")) == "v5p:2x2x4"
    assert str(topologies.named("v5p:1x2x2")) == "v5p:2x2x1"
    assert str(topologies.named("v6e:4x2")) == "v6e:2x4"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v5q:2x2", "names no TPU; did you mean"),
        ("h100:8", "there are v4, v5e, v5p, v6e"),
        ("v5p", "v5p comes as 2x2x1, 2x2x2, 2x2x4, 2x4x4, or multiples of 4"),
        ("v5p:2x2", "v5p comes as"),
        ("v5p:4x4x6", "v5p comes as"),
        ("v5e:3x4", "v5e comes as 1x1, 2x2"),
        ("v4:16x16x32", "up to 4,096 chips"),
        ("v5e:4x4; rm -rf /", "v5e comes as"),
        ("v5p:2x2x4\n", "v5p comes as"),
        ("", "names no TPU"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(name, said):
    with pytest.raises(UserError, match=said):
        topologies.named(name)


JAX = """
import sys
from jax.experimental.topologies import get_topology_desc
for name in sys.argv[1:]:
    devices = get_topology_desc(name, "tpu").devices
    print(name, len(devices), len({device.process_index for device in devices}))
"""


def test_jax_counts_the_same_chips():
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu, which knows the slices, is not installed")
    names = ["v5e:4x4", "v5p:2x2x2", "v6e:4x4"]
    environment = {**os.environ, "TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", JAX, *names], capture_output=True, text=True, env=environment, check=True)
    slices = [topologies.named(name) for name in names]
    assert done.stdout.splitlines() == [f"{each} {each.chips} {each.hosts[0]}" for each in slices]
