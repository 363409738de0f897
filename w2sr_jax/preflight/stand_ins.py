"""Stand-ins for what cannot be downloaded: a tokenizer with a chat template, tiny checkpoints, problems, recorded traces.

All of it is made from seeds, in the formats of the real things: a Hugging Face directory for a model, Parquet under the data
set's own field names. Each part is put in place as a whole, so that a killed call leaves none half-made.
"""

import contextlib
import dataclasses
import json
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers
from tokenizers import decoders, models

from w2sr_jax.core import files, keys
from w2sr_jax.core.keys import key
from w2sr_jax.core.records import Problem
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import pretrained
from w2sr_jax.problems.settings import Files
from w2sr_jax.teachers.settings import Recorded

VOCABULARY = 120
PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{%- for message in messages -%}"
    "<|im_start|>{{ message['role'] + '\\n' }}"
    "{{ message['content'].split('</think>')[-1] if message['role'] == 'assistant' else message['content'] }}"
    "<|im_end|>{{ '\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\\n' }}{%- endif -%}"
)
"""ChatML that, like the templates of reasoning models, drops an assistant's thoughts."""


class Traces(NamedTuple):
    """Settings of a recorded teacher that point to stand-ins."""

    path: str
    where: tuple[tuple[str, str], ...]
    limit: int | None


class StandIns:
    """A directory of stand-ins. Every method gives the path of one, and makes it if it is not there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def tokenizer(self) -> Path:
        """A token for every ASCII character and for digits that stand alone, so that random models write numbers often enough to
        be right now and then."""
        return self._path_of("tokenizer", _write_tokenizer)

    def checkpoint(self, reference: str, config: ModelConfig) -> Path:
        """A model of random weights as safetensors, another one for another reference or of other sizes."""

        def write(directory: Path) -> None:
            pretrained.save(directory, config, transformer.init(config, key(0, "stand-in", reference)))

        sizes = files.digest_json(dataclasses.asdict(config))[:8]
        return self._path_of(f"models/{_plain(reference)}-{sizes}", write)

    def problems(self, source: Files, name: str, count: int) -> str:
        """A data set of sums with single-digit answers under the source's field names; what `Files.path` is to be."""
        rows = _problems(source.path, count)
        return f"hf:{self._path_of(f'data/{name}', lambda directory: _write_table(directory, _columns(source, rows)))}"

    def traces(self, teacher: Recorded, count: int) -> Traces:
        """Recorded traces under the teacher's field names, two of three of them right."""

        def write(directory: Path) -> None:
            lines = [json.dumps(_trace(teacher, index, row)) for index, row in enumerate(_problems("traces", count))]
            files.write_text(directory / "traces.jsonl", "\n".join(lines) + "\n")

        return Traces(str(self._path_of(f"traces/{_plain(teacher.name)}", write) / "traces.jsonl"), (), None)

    def answers(self, name: str, problems: Sequence[Problem]) -> str:
        """A file of recorded traces for problems that there are, two of three of them right; what the path of a `Recorded`
        without gold answers is to be."""
        rows = [{"question": problem.question, "trace": _answer(problem, index)} for index, problem in enumerate(problems)]

        def write(directory: Path) -> None:
            files.write_text(directory / "traces.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

        return str(self._path_of(f"traces/{_plain(name)}-{files.digest_json(rows)[:8]}", write) / "traces.jsonl")

    def _path_of(self, name: str, write: Callable[[Path], None]) -> Path:
        folder = self.directory / name
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as half:
                whole = Path(half, "whole")
                whole.mkdir()
                write(whole)
                with contextlib.suppress(OSError):  # another process has been faster
                    whole.rename(folder)
        return folder


def _write_tokenizer(directory: Path) -> None:
    specials = [PAD, START, END]
    characters = ["\n", *map(chr, range(32, 127))]
    merges = [(" ", digit) for digit in "0123456789"] + [(f" {digit}", ".") for digit in "0123456789"]
    tokens = [*specials, *characters, *("".join(merge) for merge in merges)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens(specials)
    files.write_text(directory / "tokenizer.json", inner.to_str(pretty=True))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": END, "chat_template": TEMPLATE}
    files.write_json(directory / "tokenizer_config.json", config)
    files.write_json(directory / "generation_config.json", {"eos_token_id": [vocabulary[END]]})


def _problems(purpose: str, count: int) -> list[dict[str, str]]:
    """Questions about small sums, their answers and worked solutions; the questions of one purpose differ from each other."""
    dice = random.Random(keys.words(0, "stand-in", purpose)[0])
    rows = []
    for index in range(count):
        first = dice.randrange(5)
        second = dice.randrange(5)
        thing = f"{dice.choice(('red', 'blue', 'old', 'new', 'big', 'tiny'))} {_word(dice)}s"
        question = (
            f"{_word(dice).title()} has {first} {thing} in bag {index} and finds {second} more. How many {thing} are there?"
        )
        total = first + second
        steps = f"{first} + {second} = {total}. "
        rows.append(
            {"question": question, "answer": str(total), "solution": f"{steps}So it is \\boxed{{{total}}}.\n#### {total}"}
        )
    return rows


def _word(dice: random.Random) -> str:
    return "".join(dice.choice(letters) for letters in ("bdfgklmnprst", "aeiou", "bdfgklmnprst", "aeiou", "lmnrt"))


def _columns(source: Files, rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Rows as the source has them: the answer field also holds the worked solution, as in GSM8K."""
    fields = source.fields
    columns = []
    for index, row in enumerate(rows):
        values: dict[str, Any] = {}
        _put(values, fields.question, row["question"])
        _put(values, fields.answer, row["solution"])
        if fields.solution is not None:
            _put(values, fields.solution, row["solution"])
        if fields.id is not None:
            _put(values, fields.id, str(index))
        columns.append(values)
    return columns


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    *above, name = path.split(".")
    for part in above:
        values = values.setdefault(part, {})
    values[name] = value


def _write_table(directory: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), directory / "train.parquet")


def _trace(teacher: Recorded, index: int, row: Mapping[str, str]) -> dict[str, Any]:
    text = row["solution"] if index % 3 else row["solution"].replace(row["answer"], str(int(row["answer"]) + 1))
    values: dict[str, Any] = {teacher.question: row["question"], teacher.trace: text}
    if teacher.gold is not None:
        values[teacher.gold] = row["answer"]
    if teacher.id is not None:
        values[teacher.id] = f"stand-in-{index}"
    if teacher.sample is not None:
        values[teacher.sample] = 0
    return values


def _answer(problem: Problem, index: int) -> str:
    gold = problem.answer or "0"
    wrong = str(int(gold) + 1) if gold.lstrip("-").isdigit() else f"not {gold}"
    answer = gold if index % 3 else wrong
    return f"So it is {answer}.\n#### {answer}"


def _plain(reference: str) -> str:
    """A reference as a name of a directory, another one for another reference."""
    plain = "".join(character if character.isalnum() or character in "-." else "-" for character in reference)[-60:].strip(".-")
    return f"{plain}-{files.digest_bytes(reference.encode())[:8]}"
