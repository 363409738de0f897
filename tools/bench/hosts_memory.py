"""How much memory each process of a run takes in each stage, at two numbers of traces.

    .venv/bin/python tools/bench/hosts_memory.py --out hosts_memory.json   two processes, 10⁴ and 10⁵ traces
    .venv/bin/python tools/bench/hosts_memory.py --traces 400 800                   does it run?
    .venv/bin/python tools/bench/hosts_memory.py --traces 10000 10000 --test 100 1000   more test problems

The ladder is real and tiny: a teacher that draws four traces of each problem, one student that learns from all of them. What is
resident is read from /proc every 20 ms; of a stage it is the most between the lines that the console prints at the ends of
stages, once of all pages and once of those that are of no file, which the system cannot take back.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 4
CONFIG = """
from w2sr_jax.batches.settings import Batching
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, ModelTeacher, Pretraining, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.settings import Training

MODEL = ModelConfig(width=16, layers=1, heads=2, kv_heads=2)
TRAINING = Training(steps=8, batching=Batching(length=128, rows=8))
DRAWN = Decoding(temperature=1.0, max_tokens=24, batch=512)


def experiment():
    rung = Rung(
        "small", MODEL, start=Pretraining(training=TRAINING, facts=20), arms=("all",), gold=False, training=TRAINING,
        curation=Curation(keep_unfinished=True, keep_loops=True, per_problem={samples}),
    )
    return Experiment(
        name="memory",
        rungs=(rung,),
        teachers=(ModelTeacher("teacher", MODEL, TRAINING, samples={samples}, decoding=DRAWN),),
        problems=Generated(seed=3, operations=(2, 5), largest=99),
        splits=Splits(pretrain=200, teacher=200, pool={pool}, probe=50, test={test}),
        tokenizer=WordTokenizer(largest=99),
        evaluation=Evaluation(samples=4, temperature=0.7, resamples=20, faithfulness=20, pool=50),
        decoding=DRAWN,
        mesh=Mesh(data=-1),
    )
"""
_END = re.compile(r"^\s*[\d.]+ s  (\S+)", re.MULTILINE)


def measure(traces: int, test: int, processes: int, directory: Path) -> dict[str, list[list[float]]]:
    """The most megabytes that were resident in each stage: for each process, all pages and those of no file."""
    directory.mkdir(parents=True)
    config = directory / "memory_ladder.py"
    config.write_text(CONFIG.format(samples=SAMPLES, pool=traces // SAMPLES, test=test))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    running, logs = [], []
    for index in range(processes):
        command = [sys.executable, "-m", "w2sr_jax.cli", "run", str(config), "--plain", "--root", str(directory / "root")]
        if processes > 1:
            command += ["--coordinator", f"localhost:{port}", "--processes", str(processes), "--process", str(index)]
        logs.append(directory / f"{index}.log")
        with logs[-1].open("wb") as output:
            running.append(subprocess.Popen(command, env=variables, stdout=output, stderr=subprocess.STDOUT))
    most: dict[str, list[list[float]]] = {}
    now, ended = [[0.0, 0.0] for _ in running], 0
    while any(process.poll() is None for process in running):
        for process, peak in zip(running, now, strict=True):
            peak[:] = map(max, peak, resident(process.pid))
        names = _END.findall(logs[0].read_text(errors="replace"))
        for name in names[ended:]:
            most[name] = [list(peak) for peak in now]
            now = [[0.0, 0.0] for _ in running]
        ended = len(names)
        time.sleep(0.02)
    if any(process.returncode for process in running):
        raise SystemExit(logs[0].read_text(errors="replace")[-3000:])
    return most


def resident(pid: int) -> tuple[float, float]:
    """MB (10⁶ bytes) that are resident of a process: all, and those of no file; zeros where it has ended."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
        every, anonymous = (int(lines[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "RssAnon"))
    except (OSError, KeyError, ValueError):
        return 0.0, 0.0
    return every, anonymous


def table(sizes: Sequence[str], results: Sequence[dict[str, list[list[float]]]]) -> list[str]:
    """A row for each stage: MB of no file of each process, at each size."""
    processes = len(next(iter(results[0].values())))
    heads = [f"process {index}, {size}" for index in range(processes) for size in sizes]
    lines = ["| stage | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name in results[0]:
        cells = [
            f"{result.get(name, [[0.0, 0.0]] * processes)[index][1]:.0f}" for index in range(processes) for result in results
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, nargs="+", default=[10_000, 100_000], help="traces of the pool, one run each")
    parser.add_argument("--test", type=int, nargs="+", default=[100], help="test problems, of all runs or of each")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="write all figures into this file")
    arguments = parser.parse_args()
    tests = arguments.test if len(arguments.test) > 1 else arguments.test * len(arguments.traces)
    directory = Path(tempfile.mkdtemp(prefix="w2sr-memory-"))
    sizes, results = [], []
    for number, (traces, test) in enumerate(zip(arguments.traces, tests, strict=True)):
        began = time.monotonic()
        results.append(measure(traces, test, arguments.processes, directory / str(number)))
        sizes.append(f"{traces:,} traces, {test:,} test problems")
        print(f"{sizes[-1]}: {time.monotonic() - began:.0f} s", flush=True)
    print("\n".join(table(sizes, results)))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(dict(zip(sizes, results, strict=True)), indent=1) + "\n")
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
