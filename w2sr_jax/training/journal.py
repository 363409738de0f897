"""What a training run writes down as it goes: metrics.jsonl, timings.jsonl and TensorBoard scalars.

`metrics.jsonl` holds one JSON object per logged step and nothing that depends on the clock: after an interruption and a resume
it has the same bytes as without. Times are in `timings.jsonl`, beside it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2sr_jax import files

METRICS, TIMINGS, BOARD = "metrics.jsonl", "timings.jsonl", "tensorboard"


class Journal:
    """Appends to the files of one run, from `step` on: lines of later steps, left by an interrupted run, are dropped."""

    def __init__(self, directory: Path, step: int) -> None:
        from tensorboardX import SummaryWriter

        directory.mkdir(parents=True, exist_ok=True)
        for name in (METRICS, TIMINGS):
            _keep_until(directory / name, step)
        self._metrics = open(directory / METRICS, "a", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)
        self._timings = open(directory / TIMINGS, "a", encoding="utf-8")  # noqa: SIM115
        self._board = SummaryWriter(str(directory / BOARD), purge_step=step + 1)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        for sink in (self._metrics, self._timings, self._board):
            sink.close()

    def write(self, step: int, metrics: Mapping[str, float | None], timings: Mapping[str, float]) -> None:
        """One line each; on disk (as far as a killed process is concerned) when this returns, TensorBoard's events later."""
        for sink, values in ((self._metrics, metrics), (self._timings, timings)):
            sink.write(files.canonical_json({"step": step, **values}) + "\n")
            sink.flush()
        for name, value in (*metrics.items(), ("tokens_per_second", timings["tokens"] / max(timings["seconds"], 1e-9))):
            if value is not None:
                self._board.add_scalar(f"train/{name}", value, step)


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of one of the files, oldest first; a last line that was cut off by a kill is left out; no file, no lines."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _keep_until(path: Path, step: int) -> None:
    if path.is_file():
        kept = [line for line in read(path) if line["step"] <= step]
        files.write_text(path, "".join(files.canonical_json(line) + "\n" for line in kept))
