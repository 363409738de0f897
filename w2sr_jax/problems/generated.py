"""A family of generated word problems: a dependency graph of quantities, written as a story and solved exactly, step by step.

The defaults are a recipe for which weak-to-strong training works on a CPU: 2 to 4 operations (+, −, ×2, ×3), numbers from 0 to
`largest`, about 10 % distracting sentences. Words, numbers and marks of a question or solution are separated by single spaces.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.keys import generator
from w2sr_jax.core.records import Problem
from w2sr_jax.problems.stories import OBJECTS, TEMPLATES, Ending, Operator, Template

if TYPE_CHECKING:
    from w2sr_jax.problems.settings import Generated

TASK = "generated"
WORDS = 44  # of the longest question of at most four operations; a longer one is drawn again
MOST_DRAWS = 2000  # draws for one problem, after which the family counts as used up


def generate(settings: Generated, count: int, start: int = 0) -> list[Problem]:
    """Problems `start` … `start + count - 1` of the family.

    Problem i depends on (settings, i) alone, so that a shorter list is the beginning of a longer one. No two problems differ in
    names, objects and distractors alone. `solution` is like `16 - 4 = 12 ; 12 * 2 = 24 #### 24`. `meta` holds `operations`,
    `numbers` (the largest number), `template`, `distractors`, `signature` (a text that is equal for problems that differ in names
    alone) and `graph`: the quantities in order, each `{"op": "given", "value"}` or `{"op": "+|-|*", "inputs": [i, j], "value"}`,
    the last of which is asked for. Raises UserError for impossible settings, and where the family has too few problems.
    """
    _check(settings)
    return list(itertools.islice(_distinct(settings), start, start + count))


def facts(settings: Generated, count: int, per_line: int = 12) -> list[str]:
    """`count` lines of `per_line` arithmetic facts, `16 - 4 = 12 ; 3 * 2 = 6 ; …`, for pretraining.

    The three operations are equally frequent. The facts of one operation, over all numbers from 0 to `largest`, come from
    shuffled decks, so that each is equally frequent. A line of 12 facts is as long as a question of 44 words with its solution of
    28.
    """
    _check(settings)
    top = settings.largest
    decks = [
        [f"{a} + {b} = {a + b}" for a in range(top + 1) for b in range(top + 1 - a)],
        [f"{a} - {b} = {a - b}" for a in range(top + 1) for b in range(a + 1)],
        [f"{a} * {m} = {a * m}" for m in (2, 3) for a in range(top // m + 1)],
    ]
    random = generator(settings.seed, "facts")
    deals = [_deal(deck, settings.seed, number) for number, deck in enumerate(decks)]
    choices = random.bit_generator.random_raw(count * per_line) % 3
    drawn = [next(deals[int(choice)]) for choice in choices]
    return [" ; ".join(drawn[i * per_line : (i + 1) * per_line]) for i in range(count)]


def _deal(deck: list[str], seed: int, number: int) -> Iterator[str]:
    for round_ in itertools.count():
        keys = generator(seed, "facts", number, round_).bit_generator.random_raw(len(deck))
        yield from (deck[i] for i in sorted(range(len(deck)), key=keys.__getitem__))


def _check(settings: Generated) -> None:
    low, high = settings.operations
    if not 1 <= low <= high:
        raise UserError(
            f"generated problems: operations {low} {high} is not a range; give fewest and most, from 1 up, such as 2 4"
        )
    if settings.largest < 9:
        raise UserError(f"generated problems: largest {settings.largest} is too small for a story; it must be at least 9")
    if not 0 <= settings.distractors < 1:
        raise UserError(f"generated problems: distractors {settings.distractors} is not a probability below 1")


def _distinct(settings: Generated) -> Iterator[Problem]:
    seen: set[str] = set()
    low, high = settings.operations
    for index in itertools.count():
        draw = _Draw(settings.seed, index)
        operations = low + draw.below(high - low + 1)
        for _ in range(MOST_DRAWS):
            story = _draw_problem(settings, operations, draw)
            if story is not None and story.meta["signature"] not in seen:
                seen.add(story.meta["signature"])
                yield story
                break
        else:
            raise UserError(
                f"the family of generated problems is used up after {index} problems ({low}–{high} operations, numbers up to "
                f"{settings.largest}); ask for fewer problems, more operations or a larger number"
            )


class _Draw:
    """Random draws from the 64-bit words of a counter-based generator, which are equal on all platforms and versions of NumPy."""

    def __init__(self, seed: int, *ids: str | int) -> None:
        bits = generator(seed, "generated problem", *ids).bit_generator
        self._words = (word for _ in itertools.count() for word in bits.random_raw(32).tolist())

    def below(self, n: int) -> int:
        return next(self._words) % n

    def chance(self, probability: float) -> bool:
        return next(self._words) < probability * 2.0**64

    def pick(self, options: Any) -> Any:
        return options[self.below(len(options))]

    def shuffled(self, options: tuple[str, ...]) -> list[str]:
        return [option for _, option in sorted((next(self._words), option) for option in options)]


class _Story:
    """A story under construction: its sentences, the graph of its quantities, and the steps of its solution."""

    def __init__(self, template: Template, largest: int, draw: _Draw) -> None:
        self.template, self.largest, self.draw = template, largest, draw
        self.newcomers = draw.shuffled(template.entities)
        self.object, self.other_object = draw.shuffled(OBJECTS)[:2]
        self.sentences: list[str] = []
        self.steps: list[str] = []
        self.graph: list[dict[str, Any]] = []
        self.holdings: dict[str, int] = {}
        self.current = self.newcomers.pop()

    @property
    def value(self) -> int:
        return self.graph[self.holdings[self.current]]["value"]

    def say(self, text: str, **words: str | int) -> None:
        self.sentences.append(text.format(**{"a": self.current, "o": self.object, **words}))

    def constant(self, value: int) -> int:
        self.graph.append({"op": "given", "value": value})
        return len(self.graph) - 1

    def derive(self, op: Operator, left: int, right: int) -> int:
        a, b = self.graph[left]["value"], self.graph[right]["value"]
        c = a + b if op == "+" else a - b if op == "-" else a * b
        self.graph.append({"op": op, "inputs": [left, right], "value": c})
        self.steps.append(f"{a} {op} {b} = {c}")
        return len(self.graph) - 1

    def open(self) -> None:
        if self.template.scaled:
            factor = 2 + self.draw.below(2)
            value = 2 + self.draw.below(self.largest // factor - 1)
            self.say(self.template.opening, n=value, m=factor)
            self.holdings[self.current] = self.derive("*", self.constant(value), self.constant(factor))
        else:
            value = 2 + self.draw.below(self.largest - 1)
            self.say(self.template.opening, n=value)
            self.holdings[self.current] = self.constant(value)

    def move(self) -> bool:
        """Add a sentence with one more operation on the running quantity; False where no operation is possible."""
        kinds: list[tuple[str, Operator]] = []
        for kind, formats in (("change", self.template.changes), ("relation", self.template.relations)):
            kinds += [(kind, op) for op in formats if self._operands(op) and (kind == "change" or self.newcomers)]
        partners = self._partners("together")
        if self.template.sums and partners and self.newcomers:
            kinds.append(("sum", "+"))
        if not kinds:
            return False
        kind, op = self.draw.pick(kinds)
        if kind == "sum":
            partner, newcomer = self.draw.pick(partners), self.newcomers.pop()
            self.say(self.draw.pick(self.template.sums), b=partner, c=newcomer)
            self.holdings[newcomer] = self.derive("+", self.holdings[self.current], self.holdings[partner])
            self.current = newcomer
            return True
        number = self.draw.pick(self._operands(op))
        words = {"n": number, "times": "twice" if number == 2 else "3 times", "grows": "doubles" if number == 2 else "triples"}
        formats = self.template.changes if kind == "change" else self.template.relations
        text = self.draw.pick(formats[op])
        subject = self.current
        if kind == "relation":
            subject = self.newcomers.pop()
        bystander = subject if kind == "relation" else self.newcomers[-1] if self.newcomers else subject
        self.say(text, b=bystander, **words)
        self.holdings[subject] = self.derive(op, self.holdings[self.current], self.constant(number))
        self.current = subject
        return True

    def close(self, ending: Ending) -> bool:
        """Add the question; False where no quantities fit it."""
        text = self.template.endings[ending]
        if ending == "value":
            self.say(text)
            return True
        partners = self._partners(ending)
        if not partners:
            return False
        partner = self.draw.pick(partners)
        self.say(text, b=partner)
        self.derive("+" if ending == "together" else "-", self.holdings[self.current], self.holdings[partner])
        return True

    def distractor(self) -> str | None:
        text = self.template.distractor
        if "{x}" in text and not self.newcomers:
            return None
        number = 2 + self.draw.below(self.largest - 1)
        return text.format(x=self.newcomers.pop() if self.newcomers else "", n=number, p=self.other_object)

    def _operands(self, op: Operator) -> range:
        if op == "+":
            return range(1, self.largest - self.value + 1)
        if op == "-":
            return range(1, self.value + 1)
        return range(2, min(3, self.largest // self.value) + 1) if self.value else range(0)

    def _partners(self, ending: Ending) -> list[str]:
        others = {name: node for name, node in self.holdings.items() if name != self.current}
        values = {name: self.graph[node]["value"] for name, node in others.items()}
        if ending == "together":
            return [name for name, value in values.items() if self.value + value <= self.largest]
        # The difference to the entity that the last sentence compares with would only repeat a number of the story.
        last = self.graph[self.holdings[self.current]]
        compared = last["inputs"][0] if last["op"] in ("+", "-") else None
        return [name for name, value in values.items() if value < self.value and others[name] != compared]


def _draw_problem(settings: Generated, operations: int, draw: _Draw) -> Problem | None:
    """One draw of a problem; None where its story cannot be finished or is too long."""
    template: Template = draw.pick(TEMPLATES)
    ending: Ending = draw.pick(tuple(template.endings))
    story = _Story(template, settings.largest, draw)
    moves = operations - template.scaled - (ending != "value")
    if moves < 0:
        return None
    story.open()
    if not all(story.move() for _ in range(moves)) or not story.close(ending):
        return None
    limit = max(WORDS, 11 * operations)
    words = sum(len(sentence.split()) for sentence in story.sentences)
    if words > limit:
        return None
    signature = _signature(template, story.sentences)
    sentences: list[str] = []
    distractors = 0
    for sentence in story.sentences:
        sentences.append(sentence)
        if sentence is not story.sentences[-1] and draw.chance(settings.distractors):
            extra = story.distractor()
            if extra is not None and words + len(extra.split()) <= limit:
                words += len(extra.split())
                distractors += 1
                sentences.append(extra)
    answer = str(story.graph[-1]["value"])
    meta = {
        "operations": operations,
        "numbers": max(quantity["value"] for quantity in story.graph),
        "template": template.name,
        "distractors": distractors,
        "signature": signature,
        "graph": story.graph,
    }
    return Problem.of(" ".join(sentences), answer, f"{' ; '.join(story.steps)} #### {answer}", TASK, meta)


def _signature(template: Template, sentences: list[str]) -> str:
    renamed: dict[str, str] = {}
    words = []
    for word in " ".join(sentences).split():
        if word in template.entities:
            word = renamed.setdefault(word, f"@{len(renamed)}")
        words.append("*things*" if word in OBJECTS else word)
    return " ".join(words)
