"""How long stages take: from a stated fraction of the devices' peak rates, or from the rates that a run on the same kind of
device measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.parallel.accelerators import Accelerator, kind_of
from w2sr_jax.planning.work import Sampled, Work


@dataclass(frozen=True)
class Measured:
    """Operations a second of one device, by kind of stage (train, sample, evaluate), as finished stages measured them; `others`
    names the devices on which other stages ran, whose rates say nothing here."""

    rates: Mapping[str, float]
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decoding:
    """What a step of decoding reads on one device: bytes of weights, and of the cache for each token that its rows attend to."""

    weights: int
    cache_per_token: float


def measured(manifests: Iterable[Manifest], accelerator: Accelerator) -> Measured:
    """Of the stages of a run that computed on devices of this kind themselves."""
    flops: dict[str, float] = {}
    seconds: dict[str, float] = {}
    others: set[str] = set()
    for manifest in manifests:
        did, took = manifest.measures.get("flops"), manifest.measures.get("seconds")
        if not did or not took or manifest.shared_from:
            continue
        if kind_of(manifest.environment.get("device", "")) != accelerator:
            others.add(manifest.environment.get("device", "another device"))
            continue
        flops[manifest.kind] = flops.get(manifest.kind, 0.0) + did
        seconds[manifest.kind] = seconds.get(manifest.kind, 0.0) + took * int(manifest.environment.get("devices", 1))
    return Measured({kind: flops[kind] / seconds[kind] for kind in flops}, tuple(sorted(others)))


def seconds(work: Work, accelerator: Accelerator, devices: int, fraction: float, moved: Sequence[Decoding]) -> float:
    """Of a stage on `devices`, at a fraction of their peak rates: of operations, or of bytes of memory where decoding takes
    longer to read weights and cache than to multiply. `moved` says for each of `work.sampled` what its steps read."""
    rate = accelerator.flops * fraction
    total = work.passed.flops / devices / rate
    for sampled, reads in zip(work.sampled, moved, strict=True):
        total += (
            sampled.read_flops / devices / rate + _steps(sampled) * max(_step(sampled, accelerator, devices, reads)) / fraction
        )
    return total


def waiting(work: Work, accelerator: Accelerator, devices: int, moved: Sequence[Decoding]) -> float:
    """The part of a stage's time, 0 to 1, in which decoding waits for memory."""
    waits = 0.0
    for sampled, reads in zip(work.sampled, moved, strict=True):
        operations, bytes_ = _step(sampled, accelerator, devices, reads)
        waits += _steps(sampled) * bytes_ if bytes_ > operations else 0.0
    return waits / max(seconds(work, accelerator, devices, 1.0, moved), 1e-30)


def _steps(sampled: Sampled) -> float:
    """Decoding steps: all slots at work, and at least as many as a completion has tokens."""
    return max(sampled.completions * sampled.drawn / sampled.decoding.batch, sampled.drawn)


def _step(sampled: Sampled, accelerator: Accelerator, devices: int, moved: Decoding) -> tuple[float, float]:
    """Seconds of one decoding step at the peak of operations, and at that of bytes."""
    operations = sampled.decoding.batch * sampled.config.flops_per_token(sampled.context) / devices
    read = moved.weights + moved.cache_per_token * sampled.context
    return operations / accelerator.flops, read / accelerator.bandwidth
