"""The wording of generated problems: story templates as data. Words, numbers and marks are separated by single spaces.

In the formats `{a}` is the entity that has the running quantity, `{b}` a new entity or one to compare with, `{c}` a new entity
where `{b}` is one to compare with, `{o}` the objects that are counted, `{n}` a number, `{times}` "twice" or "3 times", `{grows}`
"doubles" or "triples", `{m}` 2 or 3; in distractors `{x}` is an entity outside the story and `{p}` other objects.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

Operator = Literal["+", "-", "*"]
Ending = Literal["value", "together", "difference"]
Formats = tuple[str, ...]

NAMES = ("Ann", "Bob", "Cleo", "Dan", "Eve", "Fay", "Gus", "Ida", "Jon", "Kim")
OBJECTS = ("apples", "beads", "books", "cards", "eggs", "pens", "shells", "stamps")
ITEMS = ("cup", "hat", "map", "toy", "lamp", "bag")


@dataclasses.dataclass(frozen=True)
class Template:
    """One kind of story.

    `changes` alter the running quantity. `relations` add an entity whose quantity follows from the running one, `sums` an entity
    that has as much as two others together. A `scaled` opening is a multiplication. The ending `value` asks for the running
    quantity; `together` and `difference` ask for an operation on two quantities.
    """

    name: str
    entities: Formats
    opening: str
    distractor: str
    endings: Mapping[Ending, str]
    changes: Mapping[Operator, Formats] = dataclasses.field(default_factory=dict)
    relations: Mapping[Operator, Formats] = dataclasses.field(default_factory=dict)
    sums: Formats = ()
    scaled: bool = False


_HAS = "{a} has {n} {o} ."
_ANOTHER = "{x} has {n} {p} ."
_OWN: Mapping[Operator, Formats] = {
    "+": ("{a} finds {n} more .", "{a} buys {n} more ."),
    "-": ("{a} loses {n} .", "{a} sells {n} ."),
    "*": ("{a} {grows} the {o} .",),
}
_GIFTS: Mapping[Operator, Formats] = {
    "+": ("{b} gives {n} to {a} .", "{a} gets {n} from {b} ."),
    "-": ("{a} gives {n} to {b} .",),
    "*": ("{a} {grows} the {o} .",),
}
_COMPARED: Mapping[Operator, Formats] = {
    "+": ("{b} has {n} more than {a} .",),
    "-": ("{b} has {n} fewer than {a} .",),
    "*": ("{b} has {times} as many as {a} .",),
}
_SUM = ("{c} has as many as {a} and {b} together .",)
_VALUE = "How many {o} does {a} have ?"
_TOGETHER = "How many {o} do {a} and {b} have together ?"
_DIFFERENCE = "How many more {o} does {a} have than {b} ?"

TEMPLATES = (
    Template("changes", NAMES, _HAS, _ANOTHER, {"value": _VALUE}, changes=_OWN),
    Template("gifts", NAMES, _HAS, _ANOTHER, {"value": _VALUE}, changes=_GIFTS),
    Template("bags", NAMES, "{a} has {m} bags with {n} {o} each .", _ANOTHER, {"value": _VALUE}, changes=_OWN, scaled=True),
    Template("comparison", NAMES, _HAS, _ANOTHER, {"value": _VALUE}, relations=_COMPARED, sums=_SUM),
    Template("mixed", NAMES, _HAS, _ANOTHER, {"value": _VALUE}, changes=_OWN, relations=_COMPARED),
    Template("together", NAMES, _HAS, _ANOTHER, {"together": _TOGETHER}, changes=_OWN, relations=_COMPARED),
    Template("difference", NAMES, _HAS, _ANOTHER, {"difference": _DIFFERENCE}, changes=_OWN, relations=_COMPARED),
    Template(
        "shop",
        ITEMS,
        "A {a} costs {n} coins .",
        "A {x} costs {n} coins .",
        {
            "value": "How many coins does the {a} cost ?",
            "together": "How many coins do the {a} and the {b} cost together ?",
            "difference": "How many more coins does the {a} cost than the {b} ?",
        },
        relations={
            "+": ("A {b} costs {n} more than the {a} .",),
            "-": ("A {b} costs {n} less than the {a} .",),
            "*": ("A {b} costs {times} as much as the {a} .",),
        },
    ),
    Template(
        "bus",
        ("bus",),
        "A bus has {n} riders .",
        "The ticket costs {n} coins .",
        {"value": "How many riders does the bus have ?"},
        changes={
            "+": ("{n} more get on .",),
            "-": ("{n} get off .",),
            "*": ("The number of riders {grows} .",),
        },
    ),
)
