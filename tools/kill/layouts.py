"""Run one ladder in several layouts of processes and devices, and compare them step by step with the first of them.

    .venv/bin/python tools/kill/layouts.py                                 1 × 8, 2 × 4 and 4 × 2 virtual devices, one shared disk
    .venv/bin/python tools/kill/layouts.py --emulated                      nothing shared but the tests' store of objects
    .venv/bin/python tools/kill/layouts.py --root gs://BUCKET/PREFIX       nothing shared but the bucket
    .venv/bin/python tools/kill/layouts.py --layouts 1x8 2x4 --config configs/qwen2_5_gsm8k.py -- --shrink

What follows `--` is handed to `w2sr run`. Exit code 0: batches, traces and greedy answers are equal, and each loss is within
`--within` of the first layout's, relatively. Whether digests are equal is reported; it is not demanded, since sums over processes
may round otherwise than sums over the devices of one.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import likeness
from joint import fetched, free_port
from surroundings import HERE, QUICK, ROOT


def run(place: str, scratch: Path, layout: str, config: Path, rest: Sequence[str], cache: Path) -> list[str]:
    """One layout, written `PROCESSESxDEVICES`, to its end. What went wrong, as sentences."""
    count, devices = map(int, layout.split("x"))
    port = free_port()
    variables = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK}",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
    }
    processes, logs = [], []
    for index in range(count):
        command = [sys.executable, "-m", "w2sr_jax.cli", "run", str(config), "--plain", "--root", place, *rest]
        command += ["--scratch", str(scratch)] if "://" in place else []
        if count > 1:
            command += ["--coordinator", f"localhost:{port}", "--processes", str(count), "--process", str(index)]
        logs.append(scratch.with_name(f"{scratch.name}-{index}.log"))
        with logs[-1].open("wb") as output:
            processes.append(subprocess.Popen(command, env=variables, stdout=output, stderr=subprocess.STDOUT))
    codes = [process.wait() for process in processes]
    ends = [
        f"process {index} of {layout} ended with {code}: {log.read_text(errors='replace')[-800:]}"
        for index, (code, log) in enumerate(zip(codes, logs, strict=True))
        if code
    ]
    return ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--layouts", nargs="+", default=["1x8", "2x4", "4x2"], help="PROCESSESxDEVICES, the first to compare with"
    )
    parser.add_argument("--config", type=Path, default=HERE / "layouts_ladder.py", help="the configuration to run")
    parser.add_argument("--root", default="", help="a place in a bucket instead of a directory")
    parser.add_argument("--emulated", action="store_true", help="a place in the tests' store of objects, which is started for it")
    parser.add_argument("--within", type=float, default=1e-5, help="how far losses may differ, relatively (default: 1e-5)")
    parser.add_argument("--directory", type=Path, default=None, help="where to work (default: a temporary directory)")
    parser.add_argument("--json", type=Path, default=None, help="write what was measured to this file too")
    parser.add_argument("--compare-only", action="store_true", help="the layouts were run before, with the same --root")
    parser.add_argument("rest", nargs="*", help="options of w2sr run, after --")
    arguments = parser.parse_args()
    directory = (arguments.directory or Path(tempfile.mkdtemp(prefix="w2sr-layouts-"))).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        root = arguments.root.rstrip("/") or str(directory / "root")
        if arguments.emulated:
            sys.path.insert(0, str(ROOT / "tests"))
            import object_store

            os.environ.update(stack.enter_context(object_store.object_store()))
            root = f"gs://{object_store.BUCKET}/layouts"
        faults, report = measured(arguments, root, directory)
    print(*(f"FAILED: {words}" for words in faults), sep="\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"all lies in {directory}")
    return 1 if faults else 0


def measured(arguments: argparse.Namespace, root: str, directory: Path) -> tuple[list[str], dict[str, Any]]:
    """Run all layouts; what must not be, as sentences, and how far each is like the first."""
    runs, report, faults = dict[str, likeness.Run](), dict[str, Any](), list[str]()
    for layout in arguments.layouts:
        began, place = time.monotonic(), f"{root}/{layout}"
        if not arguments.compare_only:
            config, cache = arguments.config.resolve(), directory / f"programs-{layout}"
            said = run(place, directory / layout, layout, config, arguments.rest, cache)
            if said:
                return said, report
            print(f"{layout}: {time.monotonic() - began:.0f} s", flush=True)
        runs[layout] = likeness.Run.of(fetched(place, directory / "fetched" / layout), place)
    first, *others = arguments.layouts
    for layout in others:
        like = likeness.compare(runs[first], runs[layout])
        report[layout] = like.as_json()
        print(f"\n{layout} against {first}", *like.lines(), sep="\n")
        faults += [f"{layout}: {words}" for words in like.faults(arguments.within)]
    return faults, report


if __name__ == "__main__":
    sys.exit(main())
