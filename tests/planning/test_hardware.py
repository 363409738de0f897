"""Topologies by name."""

import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.parallel.accelerators import ACCELERATORS, kind_of
from w2sr_jax.planning import hardware


@pytest.mark.parametrize(
    ("text", "name", "devices", "hosts", "gibibytes"),
    [
        ("v5p:2x2x4", "v5p:2x2x4", 16, 4, 95),
        ("v5p:4x4x2", "v5p:2x4x4", 32, 8, 95),
        ("v5e:2x4", "v5e:2x4", 8, 1, 16),
        ("v6e:4x8", "v6e:4x8", 32, 8, 32),
        ("h100:8", "h100:8", 8, 1, 80),
        ("h200:20", "h200:20", 20, 3, 141),
    ],
)
def test_a_name_says_what_there_is(text: str, name: str, devices: int, hosts: int, gibibytes: int) -> None:
    topology = hardware.named(text)
    assert (topology.name, topology.devices, topology.hosts) == (name, devices, hosts)
    assert topology.accelerator.memory == gibibytes * 2**30


@pytest.mark.parametrize("text", ["", "tpu", "v7:2x2", "rtx:8"])
def test_an_unknown_topology_is_answered_with_those_there_are(text: str) -> None:
    with pytest.raises(UserError) as refused:
        hardware.named(text)
    for name in ACCELERATORS:
        assert name in str(refused.value)


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    with pytest.raises(UserError, match="did you mean 'v5p'"):
        hardware.named("v5pp:2x2x4")


@pytest.mark.parametrize("text", ["h100", "h100:", "h100:0", "h100:2x4", "a100:-1", "v5p:3x5", "v5e:2x2x2"])
def test_an_arrangement_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        hardware.named(text)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("TPU v4", "v4"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-40GB", "a100-40g"),
        ("cpu", None),
    ],
)
def test_a_device_is_recognised_by_what_jax_calls_it(kind: str, name: str | None) -> None:
    accelerator = kind_of(kind)
    assert (accelerator and accelerator.name) == name
