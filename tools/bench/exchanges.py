"""What devices exchange in a training step on a mesh, read from the compiled program. Nothing is run.

python tools/bench/exchanges.py --rounds 1
python tools/bench/exchanges.py --quick         # does it work?
"""

from typing import Any

import harness
from harness import Found, Job, Line, Subject
from shapes import SHAPES

ABOUT = (
    "A training step of M on 64 rows of 512 tokens in float32, compiled for eight virtual devices (data × fsdp × tensor) and "
    "read: the bytes that one device receives in a step, its own part included, loops counted as often as they run. For the "
    "embedding: what the lookup and its gradient exchange, the sum of the table's gradient over data included.",
    "Left to the partitioner: the same step with a plain lookup in the split table, whose result alone is told where it goes.",
)
OURS, PLAIN = "w2sr_jax", "left to the partitioner"
MESHES = ((2, 4, 1), (4, 2, 1), (2, 2, 2), (1, 8, 1))


def step(shape: str, mesh: tuple[int, int, int], rows: int, length: int, plain: bool) -> Found:
    import jax
    import jax.numpy as jnp

    from w2sr_jax.batches.batch import Batch
    from w2sr_jax.losses.objective import Objective
    from w2sr_jax.models import transformer
    from w2sr_jax.parallel.collectives import collectives
    from w2sr_jax.parallel.mesh import make_mesh
    from w2sr_jax.parallel.settings import Mesh
    from w2sr_jax.training.program import make_program
    from w2sr_jax.training.settings import Training

    def lookup(table: Any, tokens: Any, dtype: Any, sharding: Any) -> Any:
        found = table[tokens].astype(dtype)
        return found if sharding is None else jax.lax.with_sharding_constraint(found, sharding)

    if plain:
        transformer.lookup = lookup
    program: Any = make_program(SHAPES[shape], Objective(), Training(), 100, make_mesh(Mesh(*mesh)))
    whole, real = (jax.ShapeDtypeStruct((rows, length), kind) for kind in (jnp.int32, jnp.float32))
    batch: Any = Batch(whole, whole, whole, whole, whole, whole, real, real)  # type: ignore[arg-type]
    found = collectives(program.step.lower(program.like, batch, None).compile().as_text())
    looked_up = [each for each in found if "Decoder)" in each.name and "/while/" not in each.name and "/norm/" not in each.name]
    return {
        named(mesh): {
            "all_mb": sum(each.bytes * each.times for each in found) / 1e6,
            "embedding_mb": sum(each.bytes * each.times for each in looked_up) / 1e6,
        }
    }


def named(mesh: tuple[int, int, int]) -> str:
    return " × ".join(map(str, mesh))


def jobs(quick: bool) -> list[Job]:
    sizes = {"shape": "tiny", "rows": 8, "length": 32} if quick else {"shape": "M", "rows": 64, "length": 512}
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"}
    return [
        Job(PLAIN if plain else OURS, "step", {"mesh": mesh, "plain": plain, **sizes}, devices, once=True)
        for mesh in (MESHES[:1] if quick else MESHES)
        for plain in (False, True)
    ]


def lines(quick: bool) -> list[Line]:
    return [
        Line(f"{named(mesh)}: {what}", named(mesh), metric, "MB", "lower", peers=(PLAIN,))
        for mesh in (MESHES[:1] if quick else MESHES)
        for what, metric in (("for the embedding", "embedding_mb"), ("in all", "all_mb"))
    ]


SUBJECT = Subject("exchanges", "What devices exchange", ABOUT, jobs, {"step": step}, lines)

if __name__ == "__main__":
    harness.main(SUBJECT)
