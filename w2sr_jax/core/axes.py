"""Which axes of a mesh are still to be split over. No jax: a mesh is whatever has the attributes of `jax.sharding.Mesh`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jax.sharding import AbstractMesh, Mesh


def free_axes(mesh: Mesh | AbstractMesh) -> dict[str, int]:
    """The axes that no `jax.shard_map` around goes over, with their sizes: all, unless `mesh` is the mesh of the context inside
    one (`jax.sharding.get_abstract_mesh()`)."""
    taken = mesh.abstract_mesh.manual_axes
    return {str(axis): ways for axis, ways in mesh.shape.items() if axis not in taken}
