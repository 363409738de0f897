"""Which mesh a use of a model gets, as a table of what is asked for, what the model takes and what the devices have."""

import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.parallel.accelerators import GIB
from w2sr_jax.parallel.placement import Need, Placement, Split, mesh_of, resolve
from w2sr_jax.parallel.settings import Mesh

WIDE, HEADS = Split("fsdp", (96,)), Split("tensor", (8, 2, 64))
TRAINED, DRAWN = (WIDE,), (HEADS, WIDE)
OPEN = Mesh()


def placement(gib: float, splits: tuple[Split, ...], asked: Mesh = OPEN, among: Mesh = OPEN) -> Placement:
    return Placement("training", asked, "rungs.0 (small): meshes.training", Need(int(gib * GIB), splits), among)


@pytest.mark.parametrize(
    ("use", "devices", "memory", "wanted"),
    [
        # What takes half of a device's memory or less is copied to each; one byte more, and it is split by two.
        (placement(8, TRAINED), 8, 16, (8, 1, 1)),
        (placement(8.001, TRAINED), 8, 16, (4, 2, 1)),
        (placement(30, TRAINED), 8, 16, (2, 4, 1)),
        (placement(30, TRAINED), 1, 16, (1, 1, 1)),
        (placement(1000, TRAINED), 8, 16, (1, 8, 1)),  # the most there is; that it does not fit is said before the run
        (placement(30, TRAINED), 8, 0, (8, 1, 1)),  # the memory is not known
        # Only sizes that divide the devices and the model: of 12 devices 3 or 4 or 6, and 96 is no multiple of 5.
        (placement(20, TRAINED), 12, 16, (4, 3, 1)),
        (placement(36, TRAINED), 5, 16, (5, 1, 1)),
        # Decoding is split over heads first, as far as these go, and over the width where that is not enough.
        (placement(8, DRAWN), 8, 16, (8, 1, 1)),
        (placement(16, DRAWN), 8, 16, (4, 1, 2)),
        (placement(30, DRAWN), 8, 16, (2, 2, 2)),
        # What is asked for stays, whatever its size.
        (placement(30, TRAINED, Mesh(fsdp=2)), 8, 16, (4, 2, 1)),
        (placement(1, TRAINED, Mesh(fsdp=8)), 8, 16, (1, 8, 1)),
        (placement(1, DRAWN, Mesh(tensor=2)), 8, 16, (4, 1, 2)),
        (placement(30, DRAWN, Mesh(tensor=1)), 8, 16, (2, 4, 1)),
        (placement(30, DRAWN, Mesh(fsdp=4)), 8, 16, (2, 4, 1)),
        (placement(60, DRAWN, Mesh(fsdp=4)), 8, 16, (1, 4, 2)),
        (placement(16, TRAINED, Mesh(data=1)), 8, 16, (1, 2, 1)),
        (placement(1, TRAINED, Mesh(data=1)), 8, 16, (1, 1, 1)),
        # Of the devices those that the experiment's own mesh takes.
        (placement(1, DRAWN, Mesh(), Mesh(data=1)), 8, 16, (1, 1, 1)),
        (placement(1, DRAWN, Mesh(), Mesh(data=2, fsdp=2)), 8, 16, (4, 1, 1)),
        (placement(16, DRAWN, Mesh(), Mesh(data=2, fsdp=2)), 8, 16, (2, 1, 2)),
        (placement(1, DRAWN, Mesh(), Mesh(fsdp=4)), 8, 16, (8, 1, 1)),
    ],
)
def test_the_rule(use: Placement, devices: int, memory: float, wanted: tuple[int, int, int]) -> None:
    mesh = resolve(use, devices, int(memory * GIB))
    data = mesh.data if mesh.data != -1 else devices // (mesh.fsdp * mesh.tensor)
    assert (data, mesh.fsdp, mesh.tensor) == wanted


def test_on_the_devices_that_are_here_nothing_is_split_unasked() -> None:
    assert dict(mesh_of(placement(1000, DRAWN)).shape) == {"data": 8, "fsdp": 1, "tensor": 1}
    assert dict(mesh_of(placement(1, DRAWN, Mesh(fsdp=4, tensor=2))).shape) == {"data": 1, "fsdp": 4, "tensor": 2}


def test_a_mesh_that_does_not_fit_is_named_with_where_it_is_set() -> None:
    with pytest.raises(UserError, match=r"rungs\.0 \(small\): meshes\.training: .*1 × 3 does not divide the 8"):
        mesh_of(placement(1, TRAINED, Mesh(tensor=3)))
    with pytest.raises(UserError, match=r"meshes\.training: the mesh 16 × 1 × 1 .* needs 16 devices; there are 8"):
        mesh_of(placement(1, TRAINED, Mesh(data=16)))
