"""Columns of a file of traces that hold reasoning beside the answer: which they are, and what is done with them.

A column is recognised by its name and, where the name also serves for labels (`reasoning: algebra`), by its values. Reasoning is
put in front of the trace between `<think>` and `</think>`; a label is left out. A row is refused where a column may be either, or
may be somebody else's reasoning (a data set's own rationale). Notes say what was done with every such column.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from w2sr_jax.core import sentences
from w2sr_jax.problems.rows import Unusable, field_value
from w2sr_jax.teachers import dialogue, thoughts

Use = Literal["reasoning", "label", "unsure", "aside"]

SURE = (
    *("reasoning_content", "reasoning_text", "reasoning_trace", "reasoning_details", "reasoning_steps"),
    *("thinking_content", "thinking_text", "thinking_trace", "thinking_trajectory", "thinking_blocks"),
    *("chain_of_thought", "thought_process", "internal_reasoning"),
)
"""Names that only reasoning has."""
LIKELY = ("reasoning", "reasonings", "thinking", "thought", "thoughts", "cot", "think")
"""Names of reasoning that labels and switches have as well."""
FOREIGN = re.compile(r"(?:^|_)(?:reasonings?|thinking|thoughts?|cot|chain_of_thought|scratchpad|rationales?)(?:_|$)")
"""Other names with these words are reasoning that may be somebody else's: a data set's own rationale, a judge's, another
model's."""

ASIDE = ("explanation", "explanations", "analysis", "working", "workings", "work", "steps", "justification", "scratch")
"""Names that are as often something else: the column is not used, and a note says so."""

_NO_TEXT = re.compile(
    r"_(?:effort|types?|kind|level|modes?|tokens?|counts?|num|budget|scores?|labels?|category|categories|len|length|time|id|lang|"
    r"language|model|enabled|required|quality|correct|skills?|tags?)$"
)  # ends of the names of columns about reasoning that hold none
_LONG = 60  # characters from which on a text is no label
_MANY = 8  # rows from which on few different values are a sign of labels
_FEW = 8  # characters that a label in Chinese or Japanese may have
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_CLAUSES = re.compile(r"[。！？；，、]")
_WORKING = re.compile(r"[=+*/×÷·√^]|<<|\d\s*-\s*\d")


class ReasoningColumns(NamedTuple):
    """What a file's columns beside its traces are used for, by name. `taken` are the columns that serve for something else;
    `named`: the settings name the column."""

    uses: Mapping[str, Use]
    taken: frozenset[str] = frozenset()
    named: bool = False

    def prepend(self, values: Mapping[str, Any], traces: Sequence[str | Unusable]) -> tuple[list[str | Unusable], list[str]]:
        """A row's traces, each behind the reasoning that the row's columns hold for it (unusable traces stay), and notes on what
        was done. Raises Unusable where it is not clear which reasoning belongs to the traces."""
        notes: dict[str, None] = {}
        columns: dict[str, list[str]] = {}
        for name, use in self._of(values).items():
            value = _value(values, name)
            if use == "aside":
                notes[f"column {sentences.value(name, 40)} not used; set reasoning to it if it belongs in front of the trace"] = (
                    None
                )
                continue
            if use == "label" or not thoughts.text_of(value).strip():
                notes[f"column {sentences.value(name, 40)} left out, since it holds labels or settings, no reasoning"] = None
                continue
            texts = _for_each(value, name, len(traces))
            if use == "unsure" and not all(_within(text, trace) for text, trace in zip(texts, traces, strict=True)):
                raise Unusable(_asking(name, texts))
            columns[name] = texts
        joined: list[str | Unusable] = []
        for index, trace in enumerate(traces):
            mine = {name: texts[index] for name, texts in columns.items() if texts[index].strip()}
            try:
                joined.append(trace if isinstance(trace, Unusable) else _joined(mine, trace, notes))
            except Unusable as bad:
                joined.append(bad)
        return joined, list(notes)

    def _of(self, values: Mapping[str, Any]) -> dict[str, Use]:
        """The use of each of a row's columns that is not empty; a column that the first rows left empty is judged by this row."""
        names = self.uses if self.named else [name for name in values if isinstance(name, str) and name not in self.taken]
        uses: dict[str, Use] = {}
        for name in names:
            value = _value(values, name)
            use = None if _blank(value) else self.uses.get(name) or _use(name, [value])
            if use is not None:
                uses[name] = use
        return uses


def find(rows: Sequence[Mapping[str, Any]], named: str | None, taken: Iterable[str]) -> ReasoningColumns:
    """The columns of reasoning of a file, whose first rows these are. `named` is the one that the settings name ("": the file has
    none; None: they name none); `taken` are the columns that serve for something else."""
    if named is not None:
        return ReasoningColumns({named: "reasoning"} if named else {}, named=True)
    others = frozenset(taken)
    names = dict.fromkeys(name for row in rows for name in row if isinstance(name, str) and name not in others)
    uses = {name: use for name in names if (use := _use(name, [row.get(name) for row in rows])) is not None}
    return ReasoningColumns(uses, others)


def _use(name: str, values: Sequence[Any]) -> Use | None:
    plain = _plain(name)
    if plain in SURE:
        return "reasoning"
    if plain in ASIDE:
        return "aside" if any(_worked(thoughts.text_of(value)) for value in values if not _blank(value)) else None
    if plain not in LIKELY and (not FOREIGN.search(plain) or _NO_TEXT.search(plain)):
        return None
    if all(map(_blank, values)):
        return None
    every = [one for value in values for one in (value if isinstance(value, list) else [value])]
    texts = [text for one in every if (text := thoughts.text_of(one)).strip()]
    if not texts:
        return "label"
    if 2 * sum(map(_worked, texts)) >= len(texts):
        return "reasoning" if plain in LIKELY else "unsure"
    distinct = len({text.strip().casefold() for text in texts})
    words = all(map(_word, texts))
    few = len(texts) >= _MANY and 2 * distinct <= len(texts) and not any(map(_worked, texts))
    return "label" if words or few else "unsure"


def _worked(text: str) -> bool:
    """Whether a text reads like reasoning: it is long, has lines, calculates, or has several numbers or a sentence in it."""
    text = text.strip()
    words = len(text.split())
    if len(text) >= _LONG or "\n" in text or _WORKING.search(text) or _CLAUSES.search(text):
        return True
    return words > 1 and (len(re.findall(r"\d+", text)) > 1 or (words > 3 and text[-1] in ".!?。"))


def _word(text: str) -> bool:
    """Whether a text is one word; where words are not set apart, few characters."""
    text = text.strip()
    return len(text.split()) == 1 and len(text) < (_FEW if _UNSPACED.search(text) else _LONG) and not _worked(text)


def _joined(mine: Mapping[str, str], trace: str, notes: dict[str, None]) -> str:
    """A trace behind the reasoning of its columns (`mine`: text by name). Raises Unusable where columns disagree, or the trace
    has other reasoning between marks."""
    for name in list(mine):
        if _within(mine[name], trace):
            notes[dialogue.note(f"column {sentences.value(name, 40)}", False)] = None
            mine = {other: text for other, text in mine.items() if other != name}
    text = thoughts.merged(mine.values())
    if not text:
        return trace
    names = list(mine)
    if len(text) > max(len(one.strip()) for one in mine.values()):
        raise Unusable(f"fields {names[0]!r} and {names[1]!r} hold different reasoning; set reasoning to the one that is meant")
    joined = dialogue.with_reasoning(text, names[0], trace)
    notes[dialogue.note(f"column {sentences.value(names[0], 40)}", True)] = None
    return joined


def _for_each(value: Any, name: str, count: int) -> list[str]:
    """The reasoning of each of a row's traces. Raises Unusable."""
    if isinstance(value, list) and count > 1:
        texts = [thoughts.text_of(one) for one in value]
        if len(texts) != count:
            raise Unusable(f"field {name!r} holds {len(texts)} texts for {count} traces")
        return texts
    if count > 1:
        raise Unusable(f"field {name!r} holds one text of reasoning for {count} traces")
    return [thoughts.text_of(value)]


def _within(text: str, trace: str | Unusable) -> bool:
    return isinstance(trace, str) and (not text.strip() or thoughts.contains(text, trace))


def _asking(name: str, texts: Sequence[str]) -> str:
    kind = "a label" if _plain(name) in LIKELY else "reasoning that is not the teacher's own"
    words = f"field {name!r} holds {sentences.value(texts[0], 40)}, which may be {kind}"
    return f"{words}; set reasoning to {name!r} if it belongs in front of the trace, and to '' if not"


def _value(values: Mapping[str, Any], name: str) -> Any:
    try:
        return field_value(values, name)
    except KeyError:
        return None


def _blank(value: Any) -> bool:
    """Whether a value is empty. Switches and numbers are not, though they are no reasoning."""
    if isinstance(value, bool | int | float):
        return False
    return value is None or not value or (isinstance(value, str) and not value.strip())


def _plain(name: str) -> str:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s\-.]+", "_", spaced).casefold()
