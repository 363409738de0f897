"""What all tools of this folder share: the environment of the processes that they start, and how a campaign begins and ends."""

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import check

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
"""Flags with which XLA compiles tiny programs for CPUs in a third of the time."""


Cache = Literal["", "read", "write"]
"""What a process does with programs that others have compiled."""


def environment(directory: Path, token: str, cache: Cache, devices: int = 1) -> dict[str, str]:
    """Compiled programs and bytecode are kept for the next process, since starting is most of the time. A process that may be
    killed writes no compiled program."""
    shell = dict(os.environ)
    if shell.pop("PYTHONDONTWRITEBYTECODE", ""):
        shell.setdefault("PYTHONPYCACHEPREFIX", str(Path(tempfile.gettempdir()) / "w2sr-bytecode"))
    flags = QUICK if devices == 1 else f"--xla_force_host_platform_device_count={devices} {QUICK}"
    shell |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, check.TOKEN: token}
    if cache:
        shell |= {
            "JAX_COMPILATION_CACHE_DIR": str(directory / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0" if cache == "write" else "1e9",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    return shell


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those that every campaign has."""
    parser.add_argument("--directory", type=Path, default=None, help="where to work (default: a temporary directory)")
    parser.add_argument("--json", type=Path, default=None, help="write the counts to this file too")
    parser.add_argument("--verbose", action="store_true", help="a line per strike")


def carried_out(
    arguments: argparse.Namespace,
    campaign: Callable[[argparse.Namespace, Path], dict[str, Any]],
    text: Callable[[Mapping[str, Any]], str],
) -> int:
    """Carry a campaign out and print what came of it. The exit code; where it failed, what is left of it stays."""
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="w2sr-kill-"))
    directory.mkdir(parents=True, exist_ok=True)
    report = campaign(arguments, directory.resolve())
    print(text(report))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    if report["verdict"] and arguments.directory is None:
        shutil.rmtree(directory)
    elif not report["verdict"]:
        print(f"what is left of it is in {directory}")
    return 0 if report["verdict"] else 1
