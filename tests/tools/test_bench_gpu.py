"""The benchmarks for accelerators run where there is little beside jax, and say so where a variant fails."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

GPU = Path(__file__).resolve().parents[2] / "tools" / "bench" / "gpu"

REFUSING = """
import builtins, sys
sys.path.insert(0, {gpu!r})
import flax.linen, jax, numpy, optax  # what they import is theirs to import

kept = {{name.partition(".")[0] for name in sys.modules}} | set(sys.stdlib_module_names) | {{"w2sr_jax", "standalone"}}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in kept:
            raise ImportError(f"{{name}} is not on this machine")

sys.meta_path.insert(0, Refuse())
import standalone
standalone.prepare("cpu")
for name in standalone.MODULES:
    __import__(f"w2sr_jax.{{name}}")
assert not hasattr(sys.modules["jaxtyping"], "__file__"), "the stand-in was not needed"
"""


def bench(code: str) -> str:
    """What a program prints that runs in the folder's own modules."""
    path = f"import sys; sys.path.insert(0, {str(GPU)!r})\n"
    done = subprocess.run([sys.executable, "-c", path + textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_they_need_no_package_but_jax_flax_optax_and_numpy() -> None:
    done = subprocess.run([sys.executable, "-c", REFUSING.format(gpu=str(GPU))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_documents_fill_the_rows_and_positions_count_within_them() -> None:
    found = json.loads(
        bench("""
        import json, sizes
        segments = sizes.segments(3, 256)
        print(json.dumps([segments.tolist(), sizes.positions(segments).tolist()]))
        """)
    )
    segments, positions = map(np.asarray, found)
    assert segments.min() == 1
    for row, places in zip(segments, positions, strict=True):
        for segment in range(1, row.max() + 1):
            assert places[row == segment].tolist() == list(range((row == segment).sum()))


def test_counts_of_operations_and_bytes() -> None:
    flops, read, weights = json.loads(
        bench("""
        import json, numpy, sizes
        model = sizes.config("tiny")
        flops = sizes.training_flops(model, numpy.asarray([[1, 1, 2, 2, 2]]))
        print(json.dumps([flops, sizes.decoding_bytes(model, 4, 16, 2), 2 * model.parameters()]))
        """)
    )
    # Per token and layer 2 · (weights), 4 · heads · size per token seen: 1, 2 and 1, 2, 3; layers 2, width 64, head size 16.
    matrices = 2 * (2 * 64 * (2 * 64 + 2 * 32 + 3 * 128)) + 2 * 64 * 512
    assert flops == 3 * (5 * matrices + 2 * 4 * 64 * (1 + 2 + 1 + 2 + 3))
    # bfloat16 keys and values of 2 layers and 2 heads of 16, of 17 and then 18 tokens, for 4 slots.
    assert read == 2 * weights + 4 * 2 * (2 * 2 * 2 * 16) * (17 + 18)


@pytest.mark.parametrize("broken", [False, True])
def test_a_variant_that_fails_is_told_and_the_other_goes_on(tmp_path: Path, broken: bool) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(GPU)!r})
        import workers

        def right():
            print("noise")
            return lambda: {{"rate": 2.0}}, {{"first_s": 1.0}}

        def wrong():
            if {broken}:
                raise ValueError("no such kernel")
            rounds = iter([{{"rate": 1.0}}])
            return lambda: next(rounds), {{}}

        workers.serve(sys.argv[2], {{"right": right, "wrong": wrong}})
        """)
    )
    bench(f"""
    import time, workers
    from pathlib import Path
    part = workers.Part("gpu_toy", "Toy", (), [workers.line("rate", "step", "rate", "1/s", ours="a", peers=["b"])], {{}})
    results = workers.Results(part, Path({str(tmp_path)!r}) / "toy.json")
    variants = [workers.Variant("a", "right", {{}}), workers.Variant("b", "wrong", {{}})]
    add = lambda found: {{**found, "twice": 2 * found["rate"]}}
    workers.interleave(results, {str(worker)!r}, variants, 3, time.monotonic() + 60, "step", add)
    """)
    runs = json.loads((tmp_path / "toy.json").read_text())["runs"]
    good = [run["found"]["step"] for run in runs if run["variant"] == "a"]
    assert len(good) == 3
    assert all(found["twice"] == 4.0 and found["first_s"] == 1.0 for found in good)
    bad = [run for run in runs if run["variant"] == "b"]
    assert ("no such kernel" if broken else "StopIteration") in bad[-1]["error"]
    assert [bool(run["found"]) for run in bad] == ([False] if broken else [True, False])


def test_a_worker_that_hangs_is_given_up(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("import time; time.sleep(60)")
    out = bench(f"""
    import time, workers
    results = workers.Results(workers.Part("gpu_toy", "Toy", (), [], {{}}), None)
    workers.interleave(results, {str(worker)!r}, [workers.Variant("a", "x", {{}})], 1, time.monotonic() + 0.5, "step")
    print(results.runs[0]["error"])
    """)
    assert out.splitlines()[-1] == "not done in time"
