"""Which row of a model's packed data holds an example, and which steps read that row: as its training has packed them or, before
that, as it will.

The packed rows of a finished training are searched for the example. Before, all examples must be encoded to know where one will
lie, which is only done for a limited number.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

from w2sr_jax.batches import spots as packed_spots
from w2sr_jax.batches.batch import Batches
from w2sr_jax.batches.encode import Encoded, encode
from w2sr_jax.batches.packing import Packed, positions
from w2sr_jax.batches.packing import layout as members_of_rows
from w2sr_jax.batches.spots import Spot
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example, Stored
from w2sr_jax.graph.store import RunStore
from w2sr_jax.runs import lookup
from w2sr_jax.stages import examples as model_examples
from w2sr_jax.stages import layout
from w2sr_jax.stages.examples import Lessons
from w2sr_jax.stages.models import Model
from w2sr_jax.text.render import Renderer
from w2sr_jax.training.settings import Training

MOST = 4096
"""Examples that are encoded to say where one of them will lie, in less than two seconds."""

State = Literal["finished", "unfinished", "foreign", "unknown", "otherwise"]


class Location(NamedTuple):
    """Where an example lies: a row of the packed data (from 0), its number in that row (from 1) of `of`, its first position
    there, and the steps (from 1) that read the row."""

    row: int
    number: int
    of: int
    start: int
    steps: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Packing:
    """A model's examples in packed rows. `state` is "finished"; "unfinished" (these are the rows that its training will make);
    "foreign" (an unfinished training has left other ones); or "unknown", without `batches`: there are too many to be encoded;
    or "otherwise", without them too: a stage of a user's own has trained in another way than its settings say.
    `total` counts the steps, `lessons` are None where the rows are those of a finished training. Where examples are `paired`, one
    may lie in several rows, each time beside another."""

    state: State
    examples: Sequence[Example]
    renderer: Renderer
    training: Training
    batches: Batches | None = None
    lessons: Lessons | None = None
    paired: bool = False

    @property
    def total(self) -> int:
        return 0 if self.batches is None else self.training.total_steps(self.batches.steps_per_epoch)

    def locate(self, index: int, example: Encoded) -> Location | None:
        """Where example number `index` lies, of which `example` is the encoding; None where it is too long for a row, or where
        the rows are not known. Of one that is paired: the first row that has it, with the steps of all of them; None where all
        pairs with it are too long."""
        if self.batches is None or positions(example) > self.training.batching.length:
            return None
        if self.paired:
            spots = packed_spots.find(self.batches.packed, example)
            steps = {step for spot in spots for step in self.batches.steps_of(spot.row, self.total)}
            return Location(*spots[0], sorted(steps)) if spots else None
        spot = self._search(index, example) if self.lessons is None else _planned(self.lessons, index)
        return Location(*spot, self.batches.steps_of(spot.row, self.total))

    def _search(self, index: int, example: Encoded) -> Spot:
        assert self.batches is not None
        spots = packed_spots.find(self.batches.packed, example)
        if len(spots) == 1:
            return spots[0]
        twins = [i for i in _alike(self.examples, index) if self._encodes_to(i, example)]
        if len(twins) != len(spots) or index not in twins:
            raise UserError(
                f"the packed rows do not hold example {index} as it is encoded now: they were made of other texts, or by "
                "another version of w2sr_jax or of its tokenizers"
            )
        return packed_spots.in_order(self.batches.packed, spots, self.training.batching.pack)[twins.index(index)]

    def _encodes_to(self, index: int, example: Encoded) -> bool:
        own, _ = encode([example_at(self.examples, index)], self.renderer, self.training.batching.length)
        return any(packed_spots.same(one, example) for one in own)


def packing_of(
    run: RunStore,
    model: Model,
    examples: Sequence[Example],
    renderer: Renderer,
    training: Training,
    seed: int,
    paired: bool = False,
) -> Packing:
    """The packed rows of a model's training, in which its examples are `paired` or not; `seed` is the run's. `UserError` where no
    example fits into a row."""
    name = layout.within(model.directory, layout.PACKING)
    path = run.optional(name)
    if path is not None:
        batches, manifest = model_examples.batches(Packed.load(path), model, training, seed), run.manifest(model.stage)
        total = training.total_steps(batches.steps_per_epoch)
        taken = total if manifest is None else manifest.measures.get("steps", total)
        if (batches.packed.tokens.shape[1], taken) != (training.batching.length, total):
            return Packing("otherwise", examples, renderer, training)
        return Packing("finished", examples, renderer, training, batches, paired=paired)
    if paired or len(examples) > MOST:
        return Packing("unknown", examples, renderer, training)
    lessons = model_examples.lessons(model, examples, renderer, training, seed)
    left = run.path(name)
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
    rows = members_of_rows(lessons.encoded, settings.length, settings.pack)
    row, members = next((row, members) for row, members in enumerate(rows) if mine in members)
    at = members.index(mine)
    start = sum(positions(lessons.encoded[other]) for other in members[:at])
    return Spot(row, at + 1, len(members), start)
