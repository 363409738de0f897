"""Small tokenizers with chat templates of the shapes that model families have. The templates are written for these tests."""

import dataclasses
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from w2sr_jax.text.settings import PretrainedTokenizer

SAMPLE = "<think>\n16 - 4 = 12, so\ntwice that.\n</think>\nIt is \\boxed{24}. How many does she have? Think step by step."

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Of an assistant's turn only what follows `</think>` is kept; without thinking an empty one is prefilled.
QWEN3 = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
    "{%- if m.role == 'assistant' %}{{- '<think>\\n\\n</think>\\n\\n' + m.content.split('</think>')[-1].lstrip('\\n') }}"
    "{%- else %}{{- m.content }}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
    "{% elif m['role'] == 'user' %}<｜User｜>{{ m['content'] }}"
    "{% else %}<｜Assistant｜>{{ m['content'].split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
LLAMA3 = (
    "{{- bos_token }}{%- if date_string is not defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n\n<|eot_id|>' }}"
    "{%- for m in messages %}{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate, user first.') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}"
    "{% endfor %}"
)
GEMMA3 = (
    "{{ bos_token }}{%- for m in messages -%}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim + '<end_of_turn>\n' }}"
    "{%- endfor -%}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@dataclasses.dataclass(frozen=True)
class Family:
    """`specials` are special tokens, `added` are added ones that are not; `words` says "bytes" or how spaces are marked."""

    template: str | None
    specials: tuple[str, ...]
    end: str
    pad: str
    added: tuple[str, ...] = ()
    bos: str | None = None
    eos: str | None = None
    words: str = "bytes"


THINK = ("<think>", "</think>")
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FAMILIES = {
    "base": Family(None, ("<|endoftext|>", "<pad>"), "<|endoftext|>", "<pad>"),
    "chatml": Family(CHATML, QWEN, "<|im_end|>", "<|endoftext|>"),
    "qwen3": Family(QWEN3, QWEN, "<|im_end|>", "<|endoftext|>", THINK),
    "r1": Family(
        R1,
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"),
        "<｜end▁of▁sentence｜>",
        "<｜▁pad▁｜>",
        (*THINK, "<｜User｜>", "<｜Assistant｜>"),
        bos="<｜begin▁of▁sentence｜>",
    ),
    "llama3": Family(
        LLAMA3,
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|pad|>"),
        "<|eot_id|>",
        "<|pad|>",
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
    ),
    "mistral": Family(MISTRAL, ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>"), "</s>", "<pad>", bos="<s>", words="first"),
    "gemma3": Family(
        GEMMA3,
        ("<unk>", "<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        "<pad>",
        bos="<bos>",
        eos="<eos>",
        words="replace",
    ),
}


def write(path: Path, family: Family) -> PretrainedTokenizer:
    """Save a family's tokenizer as a Hugging Face directory."""
    inner = _byte_level() if family.words == "bytes" else _marked(family.words)
    inner.add_special_tokens(list(family.specials))
    inner.add_tokens(list(family.added))
    named = {"pad_token": family.pad, "bos_token": family.bos, "eos_token": family.eos or family.end}
    if family.words != "bytes":
        named["unk_token"] = "<unk>"
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, **{name: token for name, token in named.items() if token})
    fast.chat_template = family.template
    fast.save_pretrained(str(path))
    return PretrainedTokenizer(str(path), reason="{question} Think.", direct="{question} Answer.")


def _byte_level() -> Tokenizer:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    inner.train_from_iterator([SAMPLE] * 3, trainer=trainer)
    return inner


def _marked(words: str) -> Tokenizer:
    """As SentencePiece has it: a space is ▁, what is not in the vocabulary is bytes; with "first" a text begins with a space."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127)), "▁t", "▁s", "he"]
    merges = [("▁", "t"), ("▁", "s"), ("h", "e")]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if words == "first":
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        steps.append(decoders.Strip(" ", 1, 0))
    else:
        inner.normalizer = normalizers.Replace(" ", "▁")
    inner.decoder = decoders.Sequence(steps)
    return inner
