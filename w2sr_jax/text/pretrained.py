"""A local Hugging Face tokenizer directory as a `Tokenizer`.

The prompt is the user's turn with the generation prompt; the raw response follows it. No assistant turn is ever rendered by
the chat template, because templates of reasoning models delete what comes before `</think>` in it.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from w2sr_jax import files
from w2sr_jax.errors import UserError
from w2sr_jax.text.settings import PretrainedTokenizer

_PROBE = "w2sr-probe-turn"
_GENERATION = "generation_config.json"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A `Tokenizer` over a transformers tokenizer. `extra_ends` are the end tokens of the directory's generation config."""

    inner: Any
    settings: PretrainedTokenizer
    extra_ends: tuple[int, ...]

    @classmethod
    def open(cls, settings: PretrainedTokenizer, where: Path | None = None) -> "Pretrained":
        """Open `settings.path` (or `where` it was saved to). `UserError` where padding or ending a turn is not possible."""
        path = where or Path(settings.path)
        if not settings.path or not path.is_dir():
            raise UserError(
                f"the tokenizer directory {str(path)!r} does not exist; give the path of a local Hugging Face tokenizer"
            )
        for name in ("reason", "direct"):
            if "{question}" not in getattr(settings, name):
                raise UserError(f"the {name} prompt of the tokenizer {path} must contain {{question}}")
        try:
            inner = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
        except Exception as error:  # transformers raises many kinds for a bad directory
            raise UserError(f"{path} cannot be opened as a tokenizer: {str(error).splitlines()[0]}") from None
        if settings.pad is not None:
            if settings.pad not in inner.get_vocab():
                raise UserError(f"the pad token {settings.pad!r} is not in the vocabulary of {path}")
            inner.pad_token = settings.pad
        opened = cls(inner, settings, _generation_ends(path / _GENERATION))
        if inner.pad_token_id is None:
            raise UserError(f"the tokenizer {path} has no pad token; name one of its tokens that ends no turn with `pad`")
        if opened.pad == opened.end_of_turn:
            raise UserError(
                f"the tokenizer {path} pads with {inner.pad_token!r}, its end-of-turn token, so that a model would not learn to "
                f"stop; name another token with `pad`"
            )
        return opened

    @classmethod
    def load(cls, directory: Path, settings: Mapping[str, Any]) -> "Pretrained":
        return cls.open(PretrainedTokenizer(**settings), directory)

    @property
    def pad(self) -> int:
        return int(self.inner.pad_token_id)

    @functools.cached_property
    def end_of_turn(self) -> int:
        """The special token that the chat template writes after an assistant's turn; without a template the eos token."""
        if self.inner.chat_template:
            turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}]
            try:
                text = str(self.inner.apply_chat_template(turns, tokenize=False))
            except Exception:  # a template may refuse the turns for reasons of its own
                text = ""
            special = set(self.inner.all_special_ids) | set(self.inner.added_tokens_decoder)
            for token in self._plain([text.rpartition(_PROBE)[2]])[0] if _PROBE in text else []:
                if token in special:
                    return int(token)
        if self.inner.eos_token_id is None:
            raise UserError(
                f"the tokenizer {self.settings.path} has no end-of-turn token: neither its chat template nor an eos token"
            )
        return int(self.inner.eos_token_id)

    @functools.cached_property
    def end_tokens(self) -> tuple[int, ...]:
        eos = () if self.inner.eos_token_id is None else (int(self.inner.eos_token_id),)
        return tuple(dict.fromkeys((self.end_of_turn, *eos, *self.extra_ends)))

    @property
    def unknown(self) -> int | None:
        unknown = self.inner.unk_token_id
        # Some tokenizers name an unknown token that is also the end or pad token and is never produced.
        return None if unknown is None or unknown in (*self.end_tokens, self.pad) else int(unknown)

    @functools.cached_property
    def vocab_size(self) -> int:
        return max(len(self.inner), max(self.inner.get_vocab().values()) + 1)

    @functools.cached_property
    def digest(self) -> str:
        backend = getattr(self.inner, "backend_tokenizer", None)
        encoding = backend.to_str() if backend is not None else files.canonical_json(self.inner.get_vocab())
        prompt = dataclasses.asdict(dataclasses.replace(self.settings, path=""))
        return files.digest_json([encoding, self.inner.chat_template, list(self.end_tokens), self.pad, prompt])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._plain(texts)

    def encode_marked(self, texts: Sequence[str], marks: Sequence[int | None]) -> list[tuple[list[int], int | None]]:
        if not texts:
            return []
        if not self.inner.is_fast:
            return [(ids, self._search(ids, mark)) for ids, mark in zip(self._plain(texts), marks, strict=True)]
        encoded = self.inner(list(texts), add_special_tokens=False)
        return [
            (list(encoded["input_ids"][i]), None if mark is None else encoded.char_to_token(i, mark))
            for i, mark in enumerate(marks)
        ]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return [
            self.inner.decode(list(row), skip_special_tokens=False, clean_up_tokenization_spaces=False) if len(row) else ""
            for row in rows
        ]

    def prompts(self, questions: Sequence[str], style: str) -> list[list[int]]:
        wording = {"reason": self.settings.reason, "direct": self.settings.direct}[style]
        turns = [wording.replace("{question}", question) for question in questions]
        if not self.inner.chat_template:
            ends = set(self.end_tokens)
            rows = [self.inner(f"{turn}\n")["input_ids"] for turn in turns]
            return [list(row[:-1] if row and row[-1] in ends else row) for row in rows]
        system = [{"role": "system", "content": self.settings.system}] if self.settings.system is not None else []
        texts = []
        for turn in turns:
            text = self.inner.apply_chat_template(
                [*system, {"role": "user", "content": turn}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=style == "reason",
            )
            if turn.strip() not in text:
                raise UserError(f"the chat template of {self.settings.path} drops or changes the question {turn[:80]!r}")
            texts.append(text)
        return self._plain(texts)

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.inner.save_pretrained(str(directory))
        files.write_json(directory / _GENERATION, {"eos_token_id": list(self.end_tokens)})
        manifest = {"kind": "pretrained", "settings": dataclasses.asdict(self.settings)}
        files.write_json(directory / "w2sr_tokenizer.json", manifest)

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(ids) for ids in self.inner(list(texts), add_special_tokens=False)["input_ids"]] if texts else []

    def _search(self, ids: Sequence[int], mark: int | None) -> int | None:
        """The token that holds character `mark`, by decoding prefixes: tokenizers written in Python keep no offsets."""
        if mark is None:
            return None
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high) // 2
            if len(self.decode([ids[: middle + 1]])[0]) > mark:
                high = middle
            else:
                low = middle + 1
        return low if low < len(ids) else None


def _generation_ends(path: Path) -> tuple[int, ...]:
    if not path.exists():
        return ()
    ends = files.read_json(path).get("eos_token_id") or ()
    return (int(ends),) if isinstance(ends, int) else tuple(int(end) for end in ends)
