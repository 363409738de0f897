"""A generated family of word problems: a dependency graph of quantities, told as a story and solved step by step, exactly.

Task after the recipe in which weak-to-strong training comes out on a CPU: 2–4 operations (+, −, ×2, ×3), numbers 0 … `largest`,
about 10 % distracting sentences. Every token of a question or solution is one word, number or mark between single spaces.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.keys import generator
from w2sr_jax.core.records import Problem
from w2sr_jax.problems.settings import Generated
from w2sr_jax.problems.stories import OBJECTS, TEMPLATES, Ending, Operator, Template

TASK = "generated"
WORDS = 44  # the longest question of at most four operations; longer ones are told anew
PATIENCE = 2000  # tellings tried before the family counts as used up


def generate(settings: Generated, count: int, start: int = 0) -> list[Problem]:
    """Problems `start` … `start + count - 1` of the family.

    Problem i depends on (settings, i) alone: longer lists begin with the shorter ones. No two differ only in names, objects and
    distractors. `solution` is `16 - 4 = 12 ; 12 * 2 = 24 #### 24`; `meta` holds `operations`, `numbers` (largest number used),
    `template`, `distractors`, `signature` (digest-like text that is equal for renamed problems) and `graph`: quantities in order,
    each `{"op": "given", "value"}` or `{"op": "+|-|*", "inputs": [i, j], "value"}`, the last one asked for.
    Raises UserError for impossible settings or when the family holds too few problems.
    """
    _check(settings)
    return list(itertools.islice(_distinct(settings), start, start + count))


def facts(settings: Generated, count: int, per_line: int = 12) -> list[str]:
    """`count` lines of `per_line` arithmetic facts, `16 - 4 = 12 ; 3 * 2 = 6 ; …`, for pretraining.

    The three operations are equally frequent; within each, all facts over 0 … `largest` are dealt from a shuffled deck, so every
    fact comes equally often. A line of 12 is as long as a question of 44 words with its solution of 28.
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
        for _ in range(PATIENCE):
            story = _tell(settings, operations, draw)
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
    """Raw 64-bit words of a counter-based generator: the same on every platform and NumPy version."""

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
    """A story under construction: sentences, the graph of quantities behind them, and the steps that solve it."""

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

    def given(self, value: int) -> int:
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
            self.holdings[self.current] = self.derive("*", self.given(value), self.given(factor))
        else:
            value = 2 + self.draw.below(self.largest - 1)
            self.say(self.template.opening, n=value)
            self.holdings[self.current] = self.given(value)

    def move(self) -> bool:
        """Tell one more operation on the running quantity; False where the story cannot go on."""
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
        self.holdings[subject] = self.derive(op, self.holdings[self.current], self.given(number))
        self.current = subject
        return True

    def close(self, ending: Ending) -> bool:
        """Ask the question; False where its quantities do not fit."""
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
        # The difference to whom the running quantity was just compared with would only repeat a number of the story.
        last = self.graph[self.holdings[self.current]]
        told = last["inputs"][0] if last["op"] in ("+", "-") else None
        return [name for name, value in values.items() if value < self.value and others[name] != told]


def _tell(settings: Generated, operations: int, draw: _Draw) -> Problem | None:
    """One telling, or None where it got stuck or too long."""
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
    told: list[str] = []
    distractors = 0
    for sentence in story.sentences:
        told.append(sentence)
        if sentence is not story.sentences[-1] and draw.chance(settings.distractors):
            extra = story.distractor()
            if extra is not None and words + len(extra.split()) <= limit:
                words += len(extra.split())
                distractors += 1
                told.append(extra)
    answer = str(story.graph[-1]["value"])
    meta = {
        "operations": operations,
        "numbers": max(quantity["value"] for quantity in story.graph),
        "template": template.name,
        "distractors": distractors,
        "signature": signature,
        "graph": story.graph,
    }
    return Problem.of(" ".join(told), answer, f"{' ; '.join(story.steps)} #### {answer}", TASK, meta)


def _signature(template: Template, sentences: list[str]) -> str:
    renamed: dict[str, str] = {}
    words = []
    for word in " ".join(sentences).split():
        if word in template.entities:
            word = renamed.setdefault(word, f"@{len(renamed)}")
        words.append("*things*" if word in OBJECTS else word)
    return " ".join(words)
