"""What devices send each other in a compiled training step beside what they must (`needed.py`), and what a decoding program
overwrites in place. Nothing is run: devices may be described ones.

python tools/bench/collectives.py                                                  # eight virtual CPU devices, a small model
python tools/bench/collectives.py --target gpu --model QWEN2_5_1_5B --length 1024  # 8 H100 that need not be here
python tools/bench/collectives.py --target tpu --model QWEN2_5_1_5B --length 1024  # 8 chips of v5p that need not be here

`gpu` takes the packages jax-cuda13-plugin and jax-cuda13-pjrt, `tpu` takes libtpu; neither needs a device. The numbers are those
of the compiler's text after all of its passes, loops counted as often as they run.
"""

import argparse
import contextlib
import dataclasses
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MESHES = ((1, 8, 1), (2, 2, 2), (8, 1, 1))
KINDS = {"all-gather": "gather", "reduce-scatter": "scatter", "all-reduce": "total", "all-to-all": "transpose"}
REMATERIALIZED = "nvoluntary full rematerialization"
H100 = """
gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
 shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3350000000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
 device_memory_size: 85000000000 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
 registers_per_core_limit: 65536 registers_per_block_limit: 65536 }
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } runtime_version { major: 13 minor: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def prepare(target: str) -> None:
    """Before jax is imported."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    flags = {"cpu": "--xla_force_host_platform_device_count=8", "gpu": "--xla_gpu_autotune_level=0"}.get(target, "")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    if target == "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def devices(target: str) -> Sequence[Any]:
    import jax
    from jax.experimental import topologies

    if target == "cpu":
        return jax.devices()
    if target == "gpu":
        options = {"platform": "cuda", "target_config": H100, "topology": "1x1x8"}
        return topologies.get_topology_desc(topology_name="h100x8", **options).devices  # type: ignore[arg-type]
    from w2sr_jax.planning import compile as compiling
    from w2sr_jax.planning import hardware

    compiling.QUIET.update(TPU_STDERR_LOG_LEVEL="0", TPU_MIN_LOG_LEVEL="0")  # warnings are looked for
    described = compiling.targets(hardware.named("v5p:2x2x2"))
    if described.devices is None:
        raise SystemExit(described.why)
    return described.devices


@dataclasses.dataclass(frozen=True)
class Line:
    """One program: bytes that a device sends, and bytes on it."""

    what: str
    sent: dict[str, float]
    needed: Any
    temporaries: int
    rematerialized: bool


@contextlib.contextmanager
def said() -> Iterator[list[str]]:
    """What the compiler writes to the standard error stream meanwhile."""
    words: list[str] = []
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield words
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            words.append(file.read().decode(errors="replace"))


def sent(hlo: str, devices: int) -> dict[str, float]:
    """Bytes that one device sends in one run of a program, by kind of collective operation, as rings send them."""
    from needed import wire

    from w2sr_jax.parallel.collectives import collectives

    total = Counter[str]()
    for each in collectives(hlo):
        ways = len(each.groups[0]) if each.groups else devices
        factor = {"all-reduce": 2 * wire(1, ways), "reduce-scatter": ways - 1, "collective-permute": 1}
        total[each.kind] += each.times * each.bytes * factor.get(each.kind, wire(1, ways))
    return dict(total)


def train(step: Any, where: Sequence[Any]) -> Line:
    import jax
    import jax.numpy as jnp
    from needed import needed

    from w2sr_jax.batches.batch import Batch
    from w2sr_jax.losses.objective import Objective
    from w2sr_jax.models import transformer
    from w2sr_jax.parallel.mesh import make_mesh
    from w2sr_jax.parallel.settings import Mesh
    from w2sr_jax.training.program import make_program
    from w2sr_jax.training.settings import Training

    mesh = make_mesh(Mesh(*step.mesh), where)
    training = Training(accumulation=step.accumulation, lora=step.lora)
    program: Any = make_program(step.model, Objective(), training, 100, mesh)
    whole, real = (jax.ShapeDtypeStruct((step.rows, step.length), kind) for kind in (jnp.int32, jnp.float32))
    batch: Any = Batch(whole, whole, whole, whole, whole, whole, real, real)  # type: ignore[arg-type]
    frozen = {"initial": transformer.shapes(step.model)} if step.lora.rank else None
    with said() as words:
        compiled = program.step.trace(program.like, batch, frozen).lower().compile()
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    return Line(_named(step), sent(compiled.as_text(), mesh.size), needed(step), temporaries, REMATERIALIZED in words[0])


def _named(step: Any) -> str:
    mesh = " × ".join(map(str, step.mesh))
    words = ["tied" if step.model.tied_embeddings else "untied"]
    words += [f"{step.accumulation} micro-batches"] if step.accumulation > 1 else []
    words += [f"adapters of rank {step.lora.rank}"] if step.lora.rank else []
    return f"{mesh}, {', '.join(words)}"


def decode(model: Any, mesh_sizes: tuple[int, int, int], rows: int, length: int, where: Sequence[Any]) -> str:
    """Whether the program that draws tokens overwrites the cache that it is given."""
    import jax

    from w2sr_jax.parallel.mesh import make_mesh
    from w2sr_jax.parallel.settings import Mesh
    from w2sr_jax.planning import programs
    from w2sr_jax.sampling.settings import Decoding

    mesh = make_mesh(Mesh(*mesh_sizes), where)
    engine = programs.Engine(model, Decoding(batch=rows), prompt=length // 2, longest=length)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiled = programs.Decode(engine).compile(mesh)
    stats = compiled.memory_analysis()
    slots = jax.tree.leaves(programs._Laid(engine, mesh).slots)
    held = sum(leaf.size * leaf.dtype.itemsize // (mesh.size if leaf.ndim > 2 else 1) for leaf in slots)
    unused = any("donated buffers" in str(each.message) for each in caught)
    moved = sum(sent(compiled.as_text(), mesh.size).values())
    mib = 2**20
    words = [
        f"decode {' × '.join(map(str, mesh_sizes))}: slots of about {held / mib:,.0f} MiB",
        f"{stats.alias_size_in_bytes / mib:,.0f} MiB overwritten in place",
        f"temporaries {stats.temp_size_in_bytes / mib:,.0f} MiB",
        f"sent in a run {moved / 1e6:,.1f} MB",
        *["the compiler could not use all donated buffers"] * unused,
    ]
    return "; ".join(words)


def table(lines: Iterator[Line]) -> Iterator[str]:
    heads = ("mesh (data × fsdp × tensor)", *KINDS, "other", "all", "needed", "ratio", "temporaries")
    yield "| " + " | ".join(heads) + " |"
    yield "| --- |" + " ---: |" * (len(heads) - 1)
    for line in lines:
        cells = []
        for kind, name in KINDS.items():
            cells.append(f"{line.sent.get(kind, 0) / 1e6:,.1f} ({getattr(line.needed, name) / 1e6:,.1f})")
        everything = sum(line.sent.values())
        other = everything - sum(line.sent.get(kind, 0) for kind in KINDS)
        ratio = f"{everything / line.needed.all:.2f}" + (" (rematerialized)" if line.rematerialized else "")
        numbers = (f"{other / 1e6:,.1f}", f"{everything / 1e6:,.1f}", f"{line.needed.all / 1e6:,.1f}", ratio)
        yield "| " + " | ".join((line.what, *cells, *numbers, f"{line.temporaries / 2**20:,.0f} MiB")) + " |"


def shapes(name: str) -> Any:
    from shapes import SHAPES

    from w2sr_jax.models import presets

    return SHAPES[name] if name in SHAPES else getattr(presets, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=("cpu", "gpu", "tpu"), default="cpu")
    parser.add_argument("--model", default="tiny", help="S, M, tiny, or a name of w2sr_jax.models.presets")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--mesh", default="", help="data,fsdp,tensor; all of those of the table otherwise")
    parser.add_argument("--accumulation", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16, help="of adapters; 0: none are compiled")
    parser.add_argument("--only", choices=("train", "decode", ""), default="")
    options = parser.parse_args()
    prepare(options.target)
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import jax
    from needed import Step

    from w2sr_jax.models.lora_settings import Lora

    where = devices(options.target)
    model = shapes(options.model)
    if options.target == "gpu":
        model = dataclasses.replace(model, attention="blocks")  # the kernel's lowering looks for a GPU in this process
    meshes = [tuple(map(int, options.mesh.split(",")))] if options.mesh else MESHES
    steps = []
    for mesh in meshes if options.only != "decode" else ():
        for tied in (True, False):
            config = dataclasses.replace(model, tied_embeddings=tied)
            step = Step(config, mesh, options.rows, options.length)  # type: ignore[arg-type]
            steps += [step, dataclasses.replace(step, accumulation=options.accumulation)]
        if options.rank:
            steps.append(dataclasses.replace(step, model=model, lora=Lora(rank=options.rank)))
    print(f"MB that one device sends in a step (needed), {options.model}, {options.rows} × {options.length} tokens,", end=" ")
    print(f"{where[0].device_kind}, jax {jax.__version__}\n")
    for line in table(train(step, where) for step in steps):
        print(line, flush=True)
    for mesh in meshes if options.only != "train" else ():
        print(decode(model, mesh, options.rows, options.length, where), flush=True)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
