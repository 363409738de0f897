"""A Hugging Face tokenizer, from a local directory or the Hub, as a `Tokenizer`.

The prompt is what the chat template writes up to where the response begins, and the raw response follows it. Assistant turns are
not rendered by the template, because templates of reasoning models delete all that precedes `</think>` in them.

Where the prompt has opened `<think>`, it is not repeated: a recorded trace that begins with `<think>` loses it; a sampled trace
never had it and is trained on token by token. Nothing is added: a trace that never closes its thought is rendered as it is
(`Renderer.remarks` reports it).

Special tokens, and tokens that the template writes around turns, come from the template alone: one that is spelled out in a
question or a response is encoded as the characters that it is, except `<think>` and its like, which belong to a response.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2sr_jax.core import files, hub, sentences, thinking
from w2sr_jax.core.errors import UserError
from w2sr_jax.text import chat, pieces, portable, untrusted
from w2sr_jax.text.literal import Literal, Written

if TYPE_CHECKING:
    from w2sr_jax.text.settings import PretrainedTokenizer

GENERATION = "generation_config.json"
_ENDS_TURNS = "<|end|>"  # ends a thought of gpt-oss, and also turns of gpt-oss and other models
_SERVING = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # sets of files that hold a vocabulary


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A `Tokenizer` over a fast tokenizer of transformers. `extra_ends` are the end tokens of its generation config."""

    inner: Any
    settings: PretrainedTokenizer
    extra_ends: tuple[int, ...]

    @classmethod
    def open(cls, settings: PretrainedTokenizer, where: Path | None = None) -> Pretrained:
        """Open `settings.path`, or the directory `where` it was saved. Raises UserError where it cannot be read completely, or
        where a model could not be trained with its template, padding or end of turn."""
        if where is None and not settings.path:
            raise UserError("tokenizer.path is empty; give the directory or the Hub id of a Hugging Face tokenizer")
        path = where or hub.snapshot(settings.path, "tokenizer")
        untrusted.check(path)
        inner = _read(path)
        if settings.pad is not None:
            if settings.pad not in inner.get_vocab():
                raise UserError(f"the pad token {settings.pad!r} is not in the vocabulary of the tokenizer {path}")
            inner.pad_token = settings.pad
        opened = cls(inner, settings, _generation_ends(path / GENERATION, inner))
        opened._check(path)
        return opened

    @classmethod
    def load(cls, directory: Path, settings: PretrainedTokenizer) -> Pretrained:
        return cls.open(settings, directory)

    @property
    def pad(self) -> int:
        return int(self.inner.pad_token_id)

    @functools.cached_property
    def end_of_turn(self) -> int:
        """The special token that the chat template writes after an assistant's words; without a template, the eos token."""
        special = set(self.inner.all_special_ids) | set(self.inner.added_tokens_decoder)
        ending = self._raw(self._chat.ending) if self._chat else []
        for at, token in enumerate(ending):
            if token in special:
                words = self.decode([ending[:at]])[0].strip()
                if words:
                    raise UserError(
                        f"the chat template of {self.settings.path} writes {sentences.value(words)} behind an assistant's words, "
                        f"which a raw trace would not have; take a template that ends a turn at once"
                    )
                return token
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
    def embedding_rows(self) -> int:
        own = self.inner.backend_tokenizer.get_vocab(with_added_tokens=False).values()
        return 1 + max(*own, *self.end_tokens, self.pad)

    @functools.cached_property
    def digest(self) -> str:
        prompt = dataclasses.asdict(dataclasses.replace(self.settings, path=""))
        encoding = self.inner.backend_tokenizer.to_str()
        return files.digest_json([encoding, self._template, list(self.end_tokens), self.pad, prompt])

    @functools.cached_property
    def end_texts(self) -> tuple[str, ...]:
        own = [str(self.inner.convert_ids_to_tokens(token)) for token in (*self.end_tokens, self.pad)]
        written = self._chat.ending.strip() if self._chat else ""
        # A pad token may be an ordinary one, as "!" is in some models.
        return tuple(dict.fromkeys(name for name in (*own, written) if len(name) > 2 and not name.isalnum()))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [ids for ids, _ in self.encode_marked(texts, [None] * len(texts))]

    def encode_marked(self, texts: Sequence[str], marks: Sequence[int | None]) -> list[tuple[list[int], int | None]]:
        with untrusted.working(self.settings.path):
            return [(ids, mark) for ids, mark in self._literal.encode([Written("", text, "") for text in texts], marks)]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        with untrusted.working(self.settings.path):
            return list(self.inner.backend_tokenizer.decode_batch([list(row) for row in rows], skip_special_tokens=False))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return pieces.pieces(ids, self.decode, self.inner.convert_ids_to_tokens, set(self.inner.all_special_ids))

    def prompts(self, questions: Sequence[str], style: str) -> list[list[int]]:
        wording = {"reason": self.settings.reason, "direct": self.settings.direct}[style]
        before, after = self._around[style]
        written = [Written(before, self._asked(wording.replace("{question}", question), style), after) for question in questions]
        bare = self._bare_start
        with untrusted.working(self.settings.path):
            rows = [[*bare, *ids] for ids, _ in self._literal.encode(written, [None] * len(written))]
        wanted = self._control_ids([*bare, *self._raw(before + after)])
        for row, question in zip(rows, questions, strict=True):
            if self._control_ids(row) != wanted:
                raise UserError(
                    f"the question {sentences.value(question, 80)} spells out a special token of the tokenizer "
                    f"{self.settings.path}, which cannot encode it as text; leave the row out"
                )
        return rows

    def without_prefix(self, response: str, style: str) -> str:
        return self._chat.turns[style].without_prefix(response) if self._chat and style in self._chat.turns else response

    def response_prefix(self, style: str) -> str:
        turn = self._chat.turns.get(style) if self._chat else None
        return turn.response_prefix if turn else ""

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.inner.save_pretrained(str(directory))
        portable.rewrite(directory)
        named = {"bos_token_id": self.inner.bos_token_id, "pad_token_id": self.pad}
        files.write_json(
            directory / GENERATION,
            {"eos_token_id": list(self.end_tokens)} | {name: token for name, token in named.items() if token is not None},
        )
        manifest = {"kind": "pretrained", "settings": dataclasses.asdict(self.settings)}
        files.write_json(directory / "w2sr_tokenizer.json", manifest)

    @functools.cached_property
    def _template(self) -> str | None:
        templates = self.inner.chat_template
        return templates.get("default") if isinstance(templates, dict) else templates

    @functools.cached_property
    def _chat(self) -> chat.Chat | None:
        if not self._template:
            return None
        named = {name: str(token) for name, token in self.inner.special_tokens_map.items() if isinstance(token, str)}
        try:
            return chat.learn(self._template, named, self.settings.system, self.settings.thinking)
        except UserError as error:
            raise UserError(f"the chat template of {self.settings.path} {error}") from None

    @functools.cached_property
    def _around(self) -> Mapping[str, tuple[str, str]]:
        if self._chat is None:
            return {"reason": ("", "\n"), "direct": ("", "\n")}
        return {style: (turn.before, turn.after) for style, turn in self._chat.turns.items()}

    @functools.cached_property
    def _bare_start(self) -> list[int]:
        """The ids that the tokenizer puts before a text (its bos token); none where there is a template, which writes its own."""
        if self._chat is not None:
            return []
        plain, dressed = self._raw("?"), list(self.inner("?")["input_ids"])
        at = next((i for i in range(len(dressed)) if dressed[i : i + len(plain)] == plain), 0)
        return dressed[:at]

    @functools.cached_property
    def _controls(self) -> dict[str, int]:
        """The ids, by name, of tokens that only the template may write: special tokens, end tokens, and added tokens that it
        writes."""
        written = "\0".join(f"{before}\0{after}" for before, after in self._around.values())
        written += f"\0{self._chat.ending}" if self._chat else ""
        controls = {}
        for number, token in self.inner.added_tokens_decoder.items():
            name = str(token.content)
            content = not name.strip() or name in self._thoughts
            if not content and (token.special or number in self.end_tokens or name in written):
                controls[name] = int(number)
        names = (self.inner.bos_token, self.inner.pad_token, self.inner.unk_token)
        controls.update({str(name): int(self.inner.convert_tokens_to_ids(name)) for name in names if name})
        return controls | {str(self.inner.convert_ids_to_tokens(end)): end for end in self.end_tokens}

    @functools.cached_property
    def _thoughts(self) -> frozenset[str]:
        """The tokens that are marks of thoughts or begin one, and so belong to responses; without those that also end turns."""
        pairs = [pair for pair in thinking.PAIRS if pair[1] != _ENDS_TURNS]
        begin = {opening[: opening.find(">") + 1] for opening, _ in pairs}
        ends = {str(self.inner.convert_ids_to_tokens(end)) for end in self.end_tokens}
        return frozenset({*begin, *(mark for pair in pairs for mark in pair)} - ends)

    @functools.cached_property
    def _literal(self) -> Literal:
        return Literal(self.inner.backend_tokenizer, self._controls)

    def _asked(self, text: str, style: str) -> str:
        return self._chat.turns[style].text(text) if self._chat else text

    def _raw(self, text: str) -> list[int]:
        """The ids of a template's text, in which names of special tokens are these tokens."""
        with untrusted.working(self.settings.path):
            return [int(token) for token in self.inner(text, add_special_tokens=False)["input_ids"]] if text else []

    def _control_ids(self, ids: Sequence[int]) -> list[int]:
        own = frozenset(self._controls.values()) - {self.unknown}
        return [token for token in ids if token in own]

    def _check(self, path: Path) -> None:
        end = self.inner.convert_ids_to_tokens(self.end_of_turn)
        if self.inner.pad_token_id is None:
            raise UserError(f"the tokenizer {path} has no pad token; name one that ends no turn with `pad`{self._candidate()}")
        if self.pad == self.end_of_turn:
            raise UserError(
                f"the tokenizer {path} pads with {end!r}, its end-of-turn token, so that a model would not learn to stop; name "
                f"another token with `pad`{self._candidate()}"
            )
        bos = self.inner.bos_token_id
        if bos is not None and bos not in self.end_tokens:
            for style, (before, after) in self._around.items():
                count = [*self._bare_start, *self._raw(before + after)].count(bos)
                if count > 1:
                    raise UserError(
                        f"a prompt of the tokenizer {path} (style {style}) would have {count} {self.inner.bos_token!r} tokens; "
                        f"its chat template must write one at most"
                    )

    def _candidate(self) -> str:
        """The end of a sentence that proposes a pad token; "" where there is none to propose."""
        ends = {self.inner.convert_ids_to_tokens(end) for end in self.end_tokens}
        names = [str(token.content) for token in self.inner.added_tokens_decoder.values() if str(token.content) not in ends]
        likely = [name for word in ("pad", "reserved", "unk", "unused") for name in names if word in name.lower()]
        return f", for example {likely[0]!r}" if likely else ""


def _read(path: Path) -> Any:
    """The fast tokenizer of a directory, which must have a vocabulary: without one, the library opens an empty tokenizer."""
    from transformers import AutoTokenizer

    if not any(all((path / name).is_file() for name in names) for names in _SERVING):
        if (path / "tokenizer.model").is_file() or (path / "spiece.model").is_file():
            raise UserError(
                f"the tokenizer {path} is a SentencePiece model alone; where sentencepiece is installed, write its "
                f"tokenizer.json with AutoTokenizer.from_pretrained(PATH).save_pretrained(PATH)"
            )
        raise UserError(
            f"{path} cannot be opened as a tokenizer: it has no tokenizer.json (nor vocab.json with merges.txt); if it was being "
            f"downloaded, it is not complete"
        )
    try:
        inner = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers raises many kinds for a bad directory
        raise UserError(f"{path} cannot be opened as a tokenizer: {sentences.cause(error)}") from None
    if getattr(inner, "backend_tokenizer", None) is None:
        raise UserError(
            f"the tokenizer {path} is written in Python ({type(inner).__name__}); one with a tokenizer.json is needed"
        )
    # Some directories store these; they would cut texts, and change the digest with the first call.
    inner.backend_tokenizer.no_padding()
    inner.backend_tokenizer.no_truncation()
    if getattr(inner.backend_tokenizer.model, "dropout", None):
        inner.backend_tokenizer.model.dropout = None  # with it a text would have other tokens every time
    if isinstance(inner.chat_template, dict) and "default" not in inner.chat_template:
        raise UserError(f"the tokenizer {path} has several chat templates ({', '.join(inner.chat_template)}) but no default one")
    return inner


def _generation_ends(path: Path, inner: Any) -> tuple[int, ...]:
    """The end tokens of a generation config. Raises UserError where one of them is not in the vocabulary."""
    if not path.exists():
        return ()
    config = files.read_json(path)
    named = config.get("eos_token_id") if isinstance(config, dict) else config
    ends = [] if named is None else named if isinstance(named, list) else [named]
    vocabulary = set(inner.get_vocab().values())
    for end in ends:
        if not isinstance(end, int) or isinstance(end, bool) or end not in vocabulary:
            raise UserError(
                f"{path} names {sentences.value(end)} as eos_token_id, which is not the id of a token; the tokenizer has "
                f"{len(vocabulary):,} tokens"
            )
    return tuple(ends)
