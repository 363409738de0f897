"""The peers, set up as a user who wants speed sets them up.

One thread, float32, torch's scaled_dot_product_attention, fused AdamW, no gradient checkpointing, no logging, no saving.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

from shapes import SHAPES


def hf_config(name: str, positions: int = 4096) -> Any:
    """The same model as a transformers `Qwen2Config`; torch's scaled_dot_product_attention."""
    from transformers import Qwen2Config

    c = SHAPES[name]
    sizes: dict[str, Any] = {
        "vocab_size": c.vocab_size,
        "hidden_size": c.width,
        "intermediate_size": c.mlp_size,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
        "rms_norm_eps": c.norm_eps,
        "tie_word_embeddings": True,
        "max_position_embeddings": positions,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
        "attn_implementation": "sdpa",
    }
    return Qwen2Config(**sizes)


def hf_model(name: str, positions: int = 4096) -> Any:
    """A randomly initialised float32 `Qwen2ForCausalLM`; torch computes with one thread."""
    import torch
    from transformers import Qwen2ForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return Qwen2ForCausalLM(hf_config(name, positions)).float()


def tokenizer() -> Any:
    """A tokenizer that TRL accepts, for data that is token ids already."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


@contextlib.contextmanager
def trl_settings(**more: Any) -> Iterator[Any]:
    """An `SFTConfig` that packs, in a folder that is removed afterwards; TRL prints nothing meanwhile."""
    from trl import SFTConfig

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        yield SFTConfig(
            output_dir=folder,
            packing=True,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            optim="adamw_torch_fused",
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            **more,
        )
