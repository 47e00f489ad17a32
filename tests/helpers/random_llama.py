"""A small Llama with random weights and the tokenizer of `tiny`, for tests of what its architecture allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_random_llama(folder: Path, *, kind: str = "Llama", seed: int = 0, **sizes: Any) -> str:
    """Write a model folder and give its spec; weights are large enough that the likeliest token is never close."""
    import torch
    import transformers

    from ragkit.models import load_model

    tokenizer: Any = load_model("tiny").tokenizer  # type: ignore[attr-defined]
    torch.manual_seed(seed)
    facts = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    model = getattr(transformers, f"{kind}ForCausalLM")
    model(model.config_class(**{**facts, **sizes})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"hf:{folder}"
