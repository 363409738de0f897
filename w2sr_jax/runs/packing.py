"""Which row of a model's packed data an example lies in, and which steps read it: as its training has packed them, and before
that as it will.

What a finished training wrote is looked through for the one example. Before, all examples must be encoded to know where one will
lie, which is only done for a few.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

from w2sr_jax.batches import places
from w2sr_jax.batches.batch import Batches
from w2sr_jax.batches.encode import Encoded, encode
from w2sr_jax.batches.packing import Packed, layout, positions
from w2sr_jax.batches.places import Spot
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example, Stored
from w2sr_jax.graph.store import RunStore
from w2sr_jax.runs import lookup
from w2sr_jax.stages import examples as batching
from w2sr_jax.stages.examples import Lessons
from w2sr_jax.stages.layout import PACKING
from w2sr_jax.stages.models import Model
from w2sr_jax.text.render import Renderer
from w2sr_jax.training.settings import Training

MOST = 4096
"""Examples that are encoded to say where one of them will lie, in less than two seconds."""

State = Literal["finished", "unfinished", "foreign", "unknown"]


class Place(NamedTuple):
    """Where an example lies: a row of the packed data, its number in it (from 1) of `of`, its first position there, and the steps
    (from 1) that read the row."""

    row: int
    number: int
    of: int
    start: int
    steps: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Packing:
    """A model's examples in packed rows. `state` is "finished"; "unfinished" (these are the rows that its training will make);
    "foreign" (an unfinished training has left other ones); or "unknown", without `batches`: there are too many to be encoded.
    `total` counts the steps, `lessons` are None where the rows are those of a finished training."""

    state: State
    examples: Sequence[Example]
    renderer: Renderer
    training: Training
    batches: Batches | None = None
    lessons: Lessons | None = None

    @property
    def total(self) -> int:
        return 0 if self.batches is None else self.training.total_steps(self.batches.steps_per_epoch)

    def place(self, index: int, example: Encoded) -> Place | None:
        """Where example number `index` lies, which is `example` once it is encoded; None where it is too long for a row, or that
        is not known."""
        if self.batches is None or positions(example) > self.training.batching.length:
            return None
        spot = self._packed(index, example) if self.lessons is None else _planned(self.lessons, index)
        return Place(*spot, self.batches.steps_of(spot.row, self.total))

    def _packed(self, index: int, example: Encoded) -> Spot:
        assert self.batches is not None
        found = places.find(self.batches.packed, example)
        if len(found) == 1:
            return found[0]
        twins = [i for i in _alike(self.examples, index) if self._encodes_to(i, example)]
        if len(twins) != len(found) or index not in twins:
            raise UserError(
                f"the packed rows do not hold example {index} as it is encoded now: they were made by another version of "
                "w2sr_jax or of its tokenizers"
            )
        return places.in_order(self.batches.packed, found, self.training.batching.pack)[twins.index(index)]

    def _encodes_to(self, index: int, example: Encoded) -> bool:
        own, _ = encode([example_at(self.examples, index)], self.renderer, self.training.batching.length)
        return any(places.same(one, example) for one in own)


def packing(
    run: RunStore, model: Model, examples: Sequence[Example], renderer: Renderer, training: Training, seed: int
) -> Packing:
    """The packed rows of a model's training; `seed` is the run's. `UserError` where no example fits into a row."""
    path = run.optional(f"{model.directory}/{PACKING}")
    if path is not None:
        batches = batching.batches(Packed.load(path), model, training, seed)
        return Packing("finished", examples, renderer, training, batches)
    if len(examples) > MOST:
        return Packing("unknown", examples, renderer, training)
    lessons = batching.lessons(model, examples, renderer, training, seed)
    left = run.path(f"{model.directory}/{PACKING}")
    foreign = left.is_file() and Packed.load(left).digest != lessons.batches.digest
    return Packing("foreign" if foreign else "unfinished", examples, renderer, training, lessons.batches, lessons)


def example_at(examples: Sequence[Example], index: int) -> Example:
    """One example; of those that lie in a file, without reading those before it."""
    return lookup.record(examples.path, Example, index) if isinstance(examples, Stored) else examples[index]


def _alike(examples: Sequence[Example], index: int) -> list[int]:
    """The examples with the question and the response of this one, itself among them."""
    own = example_at(examples, index)
    if isinstance(examples, Stored):
        return [row for row, _ in lookup.where(examples.path, Example, {"question": own.question, "response": own.response})]
    return [i for i, one in enumerate(examples) if (one.question, one.response) == (own.question, own.response)]


def _planned(lessons: Lessons, index: int) -> Spot:
    settings = lessons.batches.settings
    before = encode(lessons.examples[:index], lessons.renderer, settings.length)[0] if lessons.rejected else None
    mine = index if before is None else len(before)
    rows = layout(lessons.encoded, settings.length, settings.pack)
    row, members = next((row, members) for row, members in enumerate(rows) if mine in members)
    at = members.index(mine)
    start = sum(positions(lessons.encoded[other]) for other in members[:at])
    return Spot(row, at + 1, len(members), start)
