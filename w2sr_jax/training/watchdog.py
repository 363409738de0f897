"""What can go wrong slowly while training runs: a loss that explodes, parameters that stand still, memory that fills up."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from w2sr_jax.training.settings import Watchdog

Metrics = Mapping[str, float | None]


STEPS = 3
"""Steps without any effect after which a training is given up."""
EARLY = 100
"""Steps among which the share of parameters that change is looked at."""
FEW = 0.5
"""Share of the parameters that a step should change at least."""

Level = Callable[[int], tuple[float, float]]
"""How large a loss is at a step (from 1) for predictions that are always the same: in times the NLL's, and in times its own at
step 1 (0 where that is 0). 1 is the least of both."""


class LossLevel(NamedTuple):
    """What a loss is compared with to tell an explosion: the NLL of guessing among `vocab_size` tokens, and how the loss rises by
    its own schedule."""

    vocab_size: int
    at: Level | None = None


class Explosion:
    """A loss has exploded where it, or the mean NLL, is above `factor` × the larger of ln V (guessing) and its value at step 1.

    A loss may also rise because a schedule raises its coefficients, with predictions that are no worse: for the loss the bound
    rises as `level` does, which is only asked once the loss is above it. The NLL knows no coefficients.
    """

    def __init__(self, factor: float, vocab_size: int, lines: Sequence[Mapping[str, Any]], level: Level | None = None) -> None:
        """`lines` are those of metrics.jsonl so far: after a resume, the first step's values are those of the first sitting."""
        self._factor, self._guessing, self._level = factor, math.log(vocab_size), level
        self._first: Metrics = next((line for line in lines if line["step"] == 1), {})

    def words(self, step: int, metrics: Metrics) -> str | None:
        """What exploded at this step, in words; None where nothing did."""
        if step == 1:
            self._first = metrics
        for name in ("loss", "nll") if self._factor else ():
            value, first = metrics.get(name), self._first.get(name) or 0.0
            bound = self._factor * max(self._guessing, first)
            if value is not None and value > bound and name == "loss" and self._level is not None:
                in_nlls, in_its_own = self._level(step)
                bound = self._factor * max(self._guessing * in_nlls, first * in_its_own)
            if value is not None and value > bound:
                return f"the {name} is {value:g}, above {bound:g} ({self._factor:g} times what it may start from)"
        return None


class Standstill:
    """A training that has had no effect at all: in each of its first logged steps, up to step `STEPS` at least, the gradient was
    exactly 0 although tokens had weight, or no parameter could take the update."""

    def __init__(self, total: int, lines: Sequence[Mapping[str, Any]]) -> None:
        """`total` steps; `lines` as for `Explosion`."""
        self._least, self._moved, self._still = min(STEPS, total), False, ""
        for line in lines:
            self._look(line)

    def words(self, step: int, metrics: Metrics) -> str | None:
        """Once it is certain, what stands still; otherwise None."""
        self._look(metrics)
        return self._still if self._still and not self._moved and step >= self._least else None

    def _look(self, metrics: Metrics) -> None:
        if metrics.get("weight") == 0.0:  # nothing could be learned in this step
            return
        if metrics.get("gradient_norm") == 0.0:
            self._still = self._still or "the gradient of the loss is exactly 0"
        elif metrics.get("changed") == 0.0:
            self._still = self._still or "each update is rounded away, so that no parameter changes"
        else:
            self._moved = True


class Rounding:
    """Tells once when fewer than `FEW` of the parameters, kept in another type than float32, change in an early step."""

    def __init__(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """`lines` as for `Explosion`."""
        self._told = bool(lines)

    def words(self, step: int, metrics: Metrics) -> str | None:
        """What share changes, in words; None where nothing is to be said."""
        changed = metrics.get("changed")
        if self._told or step > EARLY or changed is None or changed >= FEW:
            return None
        self._told = True
        return (
            f"at step {step} an update at the peak learning rate changes {changed:.1%} of the parameters, and the others round "
            "it away, since they are kept in bfloat16; keep them in float32 (the model's param_dtype; dtype may stay), or raise "
            "training.learning_rate"
        )


class Usage(NamedTuple):
    """Memory of one kind, in bytes."""

    what: str
    used: int
    limit: int


class Memory:
    """Tells once when memory is fuller than `share` of its limit."""

    def __init__(self, share: float, readers: Sequence[Callable[[], Sequence[Usage]]] | None = None) -> None:
        self._share = share
        self._readers = (Host().usage, Devices().usage) if readers is None else readers

    def words(self, step: int) -> str | None:
        """The first time that memory is too full, which and how full; afterwards, and otherwise, None."""
        if not self._share:
            return None
        for usage in (usage for read in self._readers for usage in read()):
            if usage.used > self._share * usage.limit:
                self._share = 0.0
                part = f"{usage.used / 1e9:,.1f} of {usage.limit / 1e9:,.1f} GB ({usage.used / usage.limit:.0%})"
                return f"at step {step} {usage.what} is nearly full: {part}"
        return None


class Host:
    """Resident memory of this process against the limit of its control group (v2 or v1) or else the machine's memory; nothing
    where the system does not say. `root` is `/`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._statm = root / "proc/self/statm"
        limits = [*_group_limits(root), *_physical(root)]
        self._limit = min(limits) if limits else 0

    def usage(self) -> list[Usage]:
        try:
            resident = int(self._statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            return []
        return [Usage("the host's memory", resident, self._limit)] if self._limit else []


class Devices:
    """Memory of this process's devices, where they say. The peak counts if it is of this training, not of work before it."""

    def __init__(self, devices: Sequence[jax.Device] | None = None) -> None:
        self._devices = jax.local_devices() if devices is None else devices
        self._before = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in self._devices]

    def usage(self) -> list[Usage]:
        usages = []
        for device, before in zip(self._devices, self._before, strict=True):
            stats = device.memory_stats() or {}
            peak = stats.get("peak_bytes_in_use", 0)
            used = peak if peak > before else stats.get("bytes_in_use", 0)
            if stats.get("bytes_limit"):
                usages.append(Usage(f"the memory of device {device.id} ({device.device_kind})", used, stats["bytes_limit"]))
        return usages


class Guards(NamedTuple):
    """What looks at every logged step of one training."""

    explosion: Explosion
    standstill: Standstill
    rounding: Rounding
    memory: Memory


def guards(settings: Watchdog, level: LossLevel | None, total: int, lines: Sequence[Mapping[str, Any]]) -> Guards:
    """For a training of `total` steps; `lines` are those of metrics.jsonl so far. Without a `level` nothing explodes."""
    explosion = Explosion(0.0, 1, lines) if level is None else Explosion(settings.explosion, level.vocab_size, lines, level.at)
    return Guards(explosion, Standstill(total, lines), Rounding(lines), Memory(settings.memory))


def _group_limits(root: Path) -> list[int]:
    """Limits of the process's memory control group and of those above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = ("memory", "memory.limit_in_bytes") if controllers else ("", "memory.max")
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):
            try:
                limits.append(int((root / "sys/fs/cgroup" / top / folder / name).read_text()))
            except (OSError, ValueError):  # absent, or "max"
                continue
    return limits


def _physical(root: Path) -> list[int]:
    try:
        line = next(line for line in (root / "proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
        return [int(line.split()[1]) * 1024]
    except (OSError, ValueError, IndexError, StopIteration):
        return []
