"""Programs' texts, read back: kinds, shapes, groups in all spellings, loops' counts, starts and ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel.collectives import Collective, collectives
from w2sr_jax.parallel.settings import Mesh

PAIRS = ((0, 4), (1, 5), (2, 6), (3, 7))


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        ("{{0,1},{2,3}}", ((0, 1), (2, 3))),
        ("[2,4]<=[8]", ((0, 1, 2, 3), (4, 5, 6, 7))),
        ("[4,2]<=[2,4]T(1,0)", PAIRS),
        ("mesh['a'=2,'b'=4] {'a'}", PAIRS),
        ("mesh['a'=2,'b'=2,'c'=2] {'a','c'}", ((0, 1, 4, 5), (2, 3, 6, 7))),
        ("mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}", PAIRS),
        ("{}", ()),
        ("a spelling of later years", ()),
    ],
)
def test_groups_are_read_in_every_spelling(words: str, groups: tuple[tuple[int, ...], ...]) -> None:
    line = f"  %g = bf16[4,8]{{1,0}} all-gather(%x), channel_id=1, replica_groups={words}, dimensions={{0}}"
    assert collectives(line) == [Collective("all-gather", "bf16", (4, 8), groups, 1, "")]


def test_starts_count_once_by_what_they_give() -> None:
    text = """
%inner (p: f32[2]) -> f32[2] {
  %scattered = f32[2]{0} reduce-scatter(%p), replica_groups={{0,1}}, dimensions={0}, to_apply=%add
}
ENTRY %main (x: f32[2]) -> f32[4] {
  %a = (f32[2]{0}, f32[4]{0}) all-gather-start(%x), replica_groups={{0,1}}, dimensions={0}
  %b = f32[4]{0} all-gather-done(%a)
  %c = (f32[2]{0}, f32[2]{0}, u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}
  %d = (f32[2]{0}, f32[3]{0}) all-reduce-start(%x, %y), replica_groups={{0,1}}, to_apply=%add
  %e = ((f32[4]{0}), f32[2]{0}) async-start(%x), calls=%inner
  %f = (s8[2]{0}, s8[2]{0}) all-to-all(%x, %y), replica_groups={{0,1}}, metadata={op_name="jit(f)/exchange"}
}
"""
    assert [(each.kind, each.shape, each.bytes) for each in collectives(text)] == [
        ("reduce-scatter", (2,), 8),
        ("all-gather", (4,), 16),
        ("collective-permute", (2,), 8),
        ("all-reduce", (2,), 8),
        ("all-reduce", (3,), 12),
        ("all-to-all", (2, 2), 4),
    ]
    assert collectives(text)[2].groups == ((0, 1), (1, 0))
    assert collectives(text)[-1].name == "jit(f)/exchange"


def test_a_loop_without_a_count_is_read_from_its_condition() -> None:
    text = """
%inside (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %r = f32[8]{0} all-reduce(%x), replica_groups={}, to_apply=%add
}
%until (p: (s32[], f32[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  %at = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %go = pred[]{:T(512)} compare(%at, %limit), direction=LT
}
ENTRY %main (x: f32[8]) -> f32[8] {
  %w = (s32[], f32[8]) while(%t), condition=%until, body=%inside
}
"""
    assert [each.times for each in collectives(text)] == [12]
    assert [each.times for each in collectives(text.replace("LT", "NE"))] == [1]


def test_what_a_compiled_program_exchanges_is_counted_with_its_loops() -> None:
    mesh = meshes.make_mesh(Mesh(data=2, fsdp=4))
    split = NamedSharding(mesh, P("fsdp"))

    @jax.jit
    def program(x: jax.Array) -> jax.Array:
        def outer(x: jax.Array, _: None) -> tuple[jax.Array, None]:
            def inner(x: jax.Array, _: None) -> tuple[jax.Array, None]:
                whole = jax.lax.with_sharding_constraint(jnp.sin(x), meshes.replicated(mesh))
                return jax.lax.with_sharding_constraint(whole[::-1] * 2, split), None

            return jax.lax.scan(inner, x, None, length=3)

        return jax.lax.scan(outer, x, None, length=5)[0].astype(jnp.bfloat16)

    (gathered,) = collectives(program.lower(jax.device_put(np.ones(24, np.float32), split)).compile().as_text())
    assert (gathered.kind, gathered.dtype, gathered.shape, gathered.bytes, gathered.times) == ("all-gather", "f32", (24,), 96, 15)
    assert sorted(map(sorted, gathered.groups)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
