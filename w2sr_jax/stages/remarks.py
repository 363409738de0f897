"""What is odd about the responses that a model is trained on, and which are left out for it: counted, the first one named."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from w2sr_jax.batches.encode import named
from w2sr_jax.core import sentences
from w2sr_jax.core.records import Example
from w2sr_jax.text.render import Renderer

_ADVICE = {
    "never closes the thinking that the prompt opens": "for traces without thoughts set tokenizer.thinking False",
    "thinks although the prompt has closed its thinking": "for traces with thoughts set tokenizer.thinking True",
}


class Remark(NamedTuple):
    """How many responses it holds for, and the name of the first."""

    responses: int
    first: str


def remarked(renderer: Renderer, examples: Iterable[Example]) -> dict[str, Remark]:
    """Remarks on examples, in words, most frequent first. Each is looked at once, and none is held."""
    by_word: dict[str, Remark] = {}
    for example in examples:
        refused = renderer.refusal(example.response)
        words = [f"{refused}, and is left out"] if refused else renderer.remarks(example.response, example.style)
        for word in words:
            before = by_word.get(word) or Remark(0, sentences.shown(named(example)))
            by_word[word] = before._replace(responses=before.responses + 1)
    return dict(sorted(by_word.items(), key=lambda one: -one[1].responses))


def counts(remarks: Mapping[str, Remark]) -> dict[str, int]:
    return {words: remark.responses for words, remark in remarks.items()}


def warnings(model: str, total: int, remarks: Mapping[str, Remark]) -> list[str]:
    """A sentence for each remark on the responses of a model's `total` examples."""
    said = []
    for words, (count, first) in remarks.items():
        advice = f"; {_ADVICE[words]}" if words in _ADVICE else ""
        said.append(f"{model}: {count:,} of {total:,} responses: {words} (the first is {first}){advice}")
    return said
