"""What is read of the compiler: bytes that devices exchange, from texts written by hand, and refusals."""

import jax
import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.planning import compile as compiling
from w2sr_jax.planning.compile import Refused

LOOPED = """
HloModule step
%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %g = bf16[8,4]{1,0} all-gather(%x), replica_groups={{0,1,2,3}}, dimensions={0}
  %r = f32[8,4]{1,0} all-reduce(%y), replica_groups={}, to_apply=%add
}
%until (p: (s32[], f32[8,4])) -> pred[] {
  %limit = s32[] constant(6)
  %at = s32[] get-tuple-element(%p), index=0
  ROOT %go = pred[] compare(%at, %limit), direction=LT
}
ENTRY %main (x: f32[8,4]) -> f32[2,4] {
  %w = (s32[], f32[8,4]) while(%t), condition=%until, body=%body
  %s = f32[2,4]{1,0} reduce-scatter(%z), replica_groups={{0,1,2,3}}, dimensions={0}, to_apply=%add
  %c = (f32[3]{0}, f32[3]{0}, u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}
  %d = f32[3]{0} collective-permute-done(%c)
}
"""


def test_bytes_are_added_up_by_kind_as_often_as_loops_run() -> None:
    assert compiling.exchanged(LOOPED) == {
        "all-gather": 6 * 8 * 4 * 2,
        "all-reduce": 6 * 8 * 4 * 4,
        "collective-permute": 3 * 4,
        "reduce-scatter": 2 * 4 * 4,
    }


def test_a_program_on_one_device_exchanges_nothing() -> None:
    assert compiling.exchanged("HloModule f\nENTRY %main (x: f32[8]) -> f32[8] {\n  %a = f32[8]{0} add(%x, %x)\n}\n") == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory. Used 20.51G of 15.75G hbm. Exceeded …",
            "20.51GiB of 15.75GiB",
        ),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234 bytes.", "1234 bytes"),
    ],
)
def test_memory_that_does_not_suffice_is_a_refusal_with_its_numbers(words: str, said: str) -> None:
    assert said in compiling.refusal(RuntimeError(words)).why


def test_a_sentence_of_ours_is_passed_on_and_other_errors_are_raised() -> None:
    assert compiling.refusal(UserError("mesh.fsdp is 0")) == Refused("mesh.fsdp is 0")
    with pytest.raises(RuntimeError, match="INTERNAL"):
        compiling.refusal(RuntimeError("INTERNAL: a fault of ours"))


def test_a_fault_of_the_compiler_is_a_refusal() -> None:
    """Other programs are still compiled, and the plan says which one has none."""
    why = compiling.refusal(jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure (loop.cc:11)")).why
    assert why == "the compiler failed by a fault of its own: INTERNAL: RET_CHECK failure (loop.cc:11)"
