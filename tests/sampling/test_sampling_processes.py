"""Two processes of two virtual devices each write the shards that one process writes, each its own, and both see them all."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import xla_flags
from sampling_toy import DECODING, PROBLEMS, SAMPLES, CountingGrader, make_author, steps

from w2sr_jax.core import records
from w2sr_jax.core.records import Trace
from w2sr_jax.sampling.shards import draw_shards

FLAGS = xla_flags.devices(2)
BUDGET = 45
WORKER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from w2sr_jax.parallel.processes import initialize
from w2sr_jax.parallel.settings import Mesh, Processes
initialize(Processes(sys.argv[3], 2, int(sys.argv[4]), timeout=120))
import dataclasses
import jax
from sampling_toy import DECODING, PROBLEMS, SAMPLES, CountingGrader, make_author
from w2sr_jax.models import transformer
from w2sr_jax.parallel import mesh as meshes, processes
from sampling_toy import steps
from w2sr_jax.sampling.shards import draw_shards
assert (jax.process_count(), jax.local_device_count(), jax.device_count()) == (2, 2, 4)

def placed(settings, heads=2):
    mesh = meshes.make_mesh(settings)
    author = make_author(mesh, heads)
    axes, shapes = transformer.logical_axes(author.config), transformer.shapes(author.config)
    return dataclasses.replace(author, params=processes.put(author.params, meshes.shardings(mesh, axes, shapes)))

def draw(author, name, **named):
    grader = CountingGrader()
    directory = Path(sys.argv[2]) / name
    found = draw_shards(directory, author, PROBLEMS, SAMPLES, DECODING, grader, "a", 4, **named)
    assert sorted(directory.glob("*.parquet")) == found.paths
    assert [path.name for path in directory.glob("*.json")] == ["sampling.json"]
    return [sorted(set(grader.asked), key=[problem.id for problem in PROBLEMS].index), found.tokens, found.left_out]

apart = placed(Mesh(fsdp=2))
result = {"apart": draw(apart, "apart"), "again": draw(apart, "apart"), "budget": draw(apart, "budget", budget=int(sys.argv[5]))}
result["together"] = draw(placed(Mesh(fsdp=2, tensor=2), heads=4), "together")
result["steps"] = steps(placed(Mesh(fsdp=2, tensor=2), heads=4))
directory = Path(sys.argv[2]) / "apart"
processes.barrier("all is there")
if jax.process_index() == 1:
    (directory / "traces-00002.parquet").unlink()
processes.barrier("one is gone")
result["mended"] = draw(apart, "apart")
print("RESULT", json.dumps(result))
"""


def test_two_processes_write_what_one_writes(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {"XLA_FLAGS": FLAGS, "JAX_PLATFORMS": "cpu"}
    given = [str(Path(__file__).parent), str(tmp_path / "two"), address]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *given, str(index), str(BUDGET)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [worker.communicate(timeout=300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    results = []
    for worker, (out, err) in zip(workers, outputs):
        assert worker.returncode == 0, err[-3000:]
        results.append(json.loads(next(line for line in out.splitlines() if line.startswith("RESULT"))[6:]))

    ids = [problem.id for problem in PROBLEMS]
    assert [result["apart"][0] for result in results] == [[*ids[0:2], *ids[4:6]], [*ids[2:4], *ids[6:]]]
    assert [result["again"][0] for result in results] == [[], []]
    assert [result["mended"][0] for result in results] == [ids[4:6], []]
    assert [result["together"][0] for result in results] == [ids, ids]
    assert [result["steps"] for result in results] == [steps(make_author(heads=4))] * 2
    for name, budget in (("apart", None), ("budget", BUDGET), ("together", None)):
        author = make_author(heads=4 if name == "together" else 2)
        one = draw_shards(tmp_path / "one" / name, author, PROBLEMS, SAMPLES, DECODING, CountingGrader(), "a", 4, budget=budget)
        both = tmp_path / "two" / name
        assert [path.name for path in sorted(both.glob("*.parquet"))] == [path.name for path in one.paths]
        for path in one.paths:
            assert _identities(both / path.name) == _identities(path)
        assert [result[name][1:] for result in results] == [[one.tokens, one.left_out]] * 2
    assert one.left_out == 0 < results[0]["budget"][2]


def _identities(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    return [(trace.id, trace.token_ids) for trace in records.read(path, Trace)]
