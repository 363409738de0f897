"""The command line that the scripts of this folder share, and what they need of each other's results."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import sizes
import standalone
import workers

from w2sr_jax.models.config import AttentionKind, RematKind


@dataclass(frozen=True)
class Plan:
    """What is measured, and how."""

    device: str
    shape: str
    rounds: int
    attention: str
    remat: str
    parameters: tuple[str, ...]
    rows: int
    block: int
    peer: bool
    folder: Path | None
    deadline: float


def parse(description: str | None, works: Mapping[str, Callable[..., Any]]) -> Plan:
    """The options; a worker's process does its work here and never returns."""
    if len(sys.argv) == 3 and sys.argv[1] == "--worker":
        workers.serve(sys.argv[2], works)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="gpu", help="where everything is computed")
    parser.add_argument("--shape", choices=tuple(sizes.SIZES), help="by default 1.5b on a gpu and tiny on a cpu")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, in each of which every variant is measured once")
    parser.add_argument("--attention", default="auto", choices=get_args(AttentionKind), help="ModelConfig.attention")
    parser.add_argument("--remat", default="attention", choices=get_args(RematKind), help="ModelConfig.remat")
    parser.add_argument("--parameters", default="float32,bfloat16", help="types in which parameters are kept, in turn")
    parser.add_argument("--rows", type=int, default=0, help="rows of a training step (0: as the shape says)")
    parser.add_argument("--block", type=int, default=0, help="tokens whose logits exist at one time (0: the product's choice)")
    parser.add_argument("--no-peer", action="store_true", help="measure w2sr_jax alone")
    parser.add_argument("--json", type=Path, help="folder of the results, gpu_NAME.json")
    parser.add_argument("--seconds", type=float, default=540.0, help="give up what is not done by then")
    given = parser.parse_args()
    return Plan(
        given.device,
        given.shape or ("1.5b" if given.device == "gpu" else "tiny"),
        given.rounds,
        given.attention,
        given.remat,
        tuple(given.parameters.split(",")),
        given.rows,
        given.block,
        not given.no_peer,
        given.json,
        time.monotonic() + given.seconds,
    )


def file(plan: Plan, name: str) -> Path | None:
    return None if plan.folder is None else plan.folder / f"{name}.json"


def limits(plan: Plan) -> dict[str, float]:
    """The device's limits as `limits.py` has measured them: `matmul_tflops`, `bandwidth_gb_s`; those that are known."""
    path, best = file(plan, "gpu_limits"), dict[str, float]()
    for run in json.loads(path.read_text())["runs"] if path is not None and path.exists() else []:
        for name in ("matmul_tflops", "bandwidth_gb_s"):
            best[name] = max(best.get(name, 0.0), run["found"].get("device", {}).get(name, 0.0))
    return {name: value for name, value in best.items() if value}


def show(results: workers.Results) -> None:
    """Prints the table, and ends with 1 where nothing was measured."""
    found = {"lines": list(results.part.lines), "runs": results.runs}
    print("\n".join(["", *standalone.beside("compare").table(found), ""]), flush=True)
    if not any(run["found"] for run in results.runs):
        raise SystemExit(1)
