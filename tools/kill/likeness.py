"""How far two finished runs of one experiment agree that were computed on different devices: batches, traces, answers, losses,
digests, parameters."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from w2sr_jax.batches.batch import Batches
from w2sr_jax.batches.packing import Packed
from w2sr_jax.configuration import saved
from w2sr_jax.core import records
from w2sr_jax.core.bucket import Bucket
from w2sr_jax.core.records import Rollout, Trace
from w2sr_jax.core.trees import Location, location
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.graph.store import RunStore
from w2sr_jax.stages import examples, layout, models
from w2sr_jax.stages.outcomes import GREEDY
from w2sr_jax.training import checkpoints, journal
from w2sr_jax.training.digest import kind_of, params_digest

SUM = "checksum:"
"""A digest of the kind that depends neither on the mesh nor on the number of processes."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run: its files here, and `place`, where its checkpoints can be read."""

    store: RunStore
    place: str

    @classmethod
    def of(cls, root: Path, place: str) -> "Run":
        """The one run of a root."""
        (directory,) = (path.parent for path in root.glob("*/lineage"))
        return cls(RunStore(directory), f"{place}/{directory.name}")

    def manifests(self) -> dict[str, Manifest]:
        return {manifest.stage: manifest for manifest in self.store.manifests()}

    def batches(self) -> Iterator[tuple[str, Batches, int]]:
        """Of every training on packed rows: the model's name, its batches, and how many steps it had."""
        experiment = saved.load(self.store.directory)
        for model in {each.stage: each for each in reversed(models.all_evaluated(experiment))}.values():
            packed, training = (
                self.store.path(layout.within(model.directory, layout.PACKING)),
                examples.training_of(experiment, model),
            )
            if packed.is_file() and training is not None:
                rows = examples.batches(Packed.load(packed), model, training, experiment.seeds[0])
                yield model.name, rows, training.total_steps(rows.steps_per_epoch)

    def traces(self) -> dict[str, list[tuple[Any, ...]]]:
        """What was drawn, by the name of the file: of evaluations greedy and sampled answers apart."""
        drawn: dict[str, list[tuple[Any, ...]]] = {}
        for path in sorted(self.store.directory.rglob("*.parquet")):
            if path.name.startswith("rollouts-"):
                drawn[f"{path.relative_to(self.store.directory).as_posix()} sampled"] = [
                    (each.problem_id, each.sample, each.text, tuple(each.token_ids), each.verdict, each.reward, each.left_out)
                    for each in records.read(path, Rollout)
                ]
            if path.name.startswith("traces-") or path.parent.parent.name == "evaluations":
                for trace in records.read(path, Trace):
                    kind = "greedy" if trace.sample == GREEDY else "sampled"
                    name = f"{path.relative_to(self.store.directory).as_posix()} {kind}"
                    drawn.setdefault(name, []).append(
                        (trace.problem_id, trace.sample, trace.text, tuple(trace.token_ids), trace.verdict)
                    )
        return drawn

    def losses(self) -> dict[str, list[tuple[int, float]]]:
        """Step and loss, by the name of the file."""
        return {
            path.relative_to(self.store.directory).parent.as_posix(): [
                (line["step"], line["loss"]) for line in journal.read(path)
            ]
            for path in sorted(self.store.directory.rglob(journal.METRICS))
        }

    def parameters(self, artifact: str) -> Any:
        address = f"{self.place}/{artifact}"
        where: Location = location(Bucket(address)) if "://" in address else Path(address)
        return checkpoints.restore_params(where)


@dataclasses.dataclass(frozen=True)
class Parameters:
    """One model's: whether they are equal bit for bit, the largest difference of an array (its norm, relatively), and the kinds
    of their stated digests."""

    equal: bool
    largest: float
    kinds: tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Likeness:
    """`losses` maps a model to the number of steps and the largest relative difference of a loss; `batches` to the number of
    steps and of those whose rows differ; `traces` a file to the number of rows and of those that differ; `files` are outputs with
    other digests, of `outputs`."""

    stages: Sequence[str]
    losses: dict[str, tuple[int, float]]
    batches: dict[str, tuple[int, int]]
    traces: dict[str, tuple[int, int]]
    outputs: int
    files: Sequence[str]
    parameters: dict[str, Parameters]

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        equal = sum(each.equal for each in self.parameters.values())
        lines = [f"stages: {'the same' if not self.stages else ', '.join(self.stages)}"]
        lines += [f"batches of {name}: {steps} steps, {unlike} with other rows" for name, (steps, unlike) in self.batches.items()]
        lines += [f"losses of {name}: {steps} steps, at most {most:.1e} apart" for name, (steps, most) in self.losses.items()]
        greedy = [counts for name, counts in self.traces.items() if name.endswith("greedy")]
        sampled = [counts for name, counts in self.traces.items() if name.endswith("sampled")]
        for kind, counts in (("greedy answers", greedy), ("traces and sampled answers", sampled)):
            lines.append(f"{kind}: {sum(rows for rows, _ in counts)}, of which {sum(unlike for _, unlike in counts)} differ")
        largest = max((each.largest for each in self.parameters.values()), default=0.0)
        lines.append(
            f"parameters: of {len(self.parameters)} models {equal} equal to the bit; arrays of others at most {largest:.1e} apart"
        )
        kinds = Counter("pages" if name.endswith(".html") else Path(name).name for name in self.files)
        unlike = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        return [*lines, f"digests of files: {self.outputs - len(self.files)} of {self.outputs} equal; not {unlike or 'one'}"]

    def faults(self, within: float) -> list[str]:
        """What must not be, as sentences."""
        said = [f"stage {name} is there only once" for name in self.stages]
        said += [f"{unlike} batches of {name} differ" for name, (_, unlike) in self.batches.items() if unlike]
        said += [f"losses of {name} are {most:.1e} apart" for name, (_, most) in self.losses.items() if not most <= within]
        return said + [f"{unlike} rows of {name} differ" for name, (_, unlike) in self.traces.items() if unlike]


def compare(first: Run, second: Run) -> Likeness:
    a, b = first.manifests(), second.manifests()
    outputs = {name: digest for manifest in a.values() for name, digest in manifest.outputs.items()}
    others = {name: digest for manifest in b.values() for name, digest in manifest.outputs.items()}
    return Likeness(
        stages=sorted(a.keys() ^ b.keys()),
        losses=_losses(first.losses(), second.losses()),
        batches={one[0]: _batches(one[1:], other[1:]) for one, other in zip(first.batches(), second.batches(), strict=True)},
        traces=_traces(first.traces(), second.traces()),
        outputs=len(outputs),
        files=sorted(name for name in outputs.keys() | others.keys() if outputs.get(name) != others.get(name)),
        parameters={name: _parameters(first, second, a[name], b[name]) for name in a if a[name].artifacts},
    )


def _losses(a: dict[str, list[tuple[int, float]]], b: dict[str, list[tuple[int, float]]]) -> dict[str, tuple[int, float]]:
    """Relatively to the largest loss of a training: a policy's is a sum of advantages of both signs, which may vanish."""
    apart = {}
    for name in sorted(a.keys() | b.keys()):
        own, other = a.get(name, []), b.get(name, [])
        largest = max((abs(x) for _, x in own), default=0.0)
        differences = [abs(x - y) / max(largest, 1e-30) for (_, x), (_, y) in zip(own, other, strict=False)]
        sound = [step for step, _ in own] == [step for step, _ in other] and all(map(math.isfinite, differences))
        apart[name] = (len(own), max(differences, default=0.0) if sound else float("inf"))
    return apart


def _batches(a: tuple[Batches, int], b: tuple[Batches, int]) -> tuple[int, int]:
    (one, steps), (other, others) = a, b
    if steps != others or one.packed.exact_digest != other.packed.exact_digest:
        return steps, steps
    return steps, sum(not np.array_equal(one.rows_at(step), other.rows_at(step)) for step in range(steps))


def _traces(a: dict[str, list[tuple[Any, ...]]], b: dict[str, list[tuple[Any, ...]]]) -> dict[str, tuple[int, int]]:
    counts = {}
    for name in sorted(a.keys() | b.keys()):
        own, other = a.get(name, []), b.get(name, [])
        counts[name] = (len(own), sum(x != y for x, y in zip(own, other, strict=False)) + abs(len(own) - len(other)))
    return counts


def _parameters(first: Run, second: Run, a: Manifest, b: Manifest) -> Parameters:
    (one, stated), (other, others) = (next(iter(manifest.artifacts.items())) for manifest in (a, b))
    own, theirs = first.parameters(one), second.parameters(other)
    pairs = zip(jax.tree.leaves(own), jax.tree.leaves(theirs), strict=True)
    apart = [np.linalg.norm(np.subtract(x, y, dtype=np.float64)) / max(float(np.linalg.norm(x)), 1e-30) for x, y in pairs]
    largest = float(np.max(apart))
    return Parameters(params_digest(own, SUM) == params_digest(theirs, SUM), largest, (kind_of(stated), kind_of(others)))
