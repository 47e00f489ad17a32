"""A small Llama with random weights and a tokenizer as a GGUF file, written with the package `gguf`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

MERGES = [("Ġ", "l"), ("Ġl", "a"), ("Ġla", "m"), ("Ġlam", "p"), ("Ġ", "Ġ"), ("1", "2")]
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def vocabulary() -> list[str]:
    """Special tokens, bytes and the results of `MERGES`."""
    from tokenizers.pre_tokenizers import ByteLevel

    return ["<pad>", "<bos>", "<eos>", *sorted(ByteLevel.alphabet()), *("".join(pair) for pair in MERGES)]


def random_llama(seed: int = 0) -> Any:
    """The model in float32, with weights that bfloat16 can hold, so that the conversion loses nothing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary()), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2,
        tie_word_embeddings=False, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    module = LlamaForCausalLM(config).eval()
    for weight in module.parameters():
        weight.data = weight.data.bfloat16().float()
    return module


def save_gguf(
    path: Path, module: Any, *, drop: tuple[str, ...] = (), facts: Mapping[str, str | int] | None = None
) -> Path:
    """Write the model of `random_llama`, without some keys or tensors, and with other facts."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    config = module.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary())
    writer.add_token_types([3, 3, 3, *[1] * (config.vocab_size - 3)])
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, weight in module.state_dict().items():
        writer.add_tensor(*_tensor(name, weight.numpy(), config))
    for key, value in (facts or {}).items():
        kind = gguf.GGUFValueType.STRING if isinstance(value, str) else gguf.GGUFValueType.UINT16
        writer.kv_data[0][key] = gguf.gguf_writer.GGUFValue(value, kind)
    for name in drop:
        (writer.kv_data[0] if name in writer.kv_data[0] else writer.tensors[0]).pop(name)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensor(name: str, weight: Any, config: Any) -> tuple[str, Any]:
    """The name and the layout that llama.cpp gives a weight; it turns pairs of rotated dimensions around."""
    if not name.startswith("model.layers."):
        return {
            "model.embed_tokens.weight": "token_embd.weight",
            "model.norm.weight": "output_norm.weight",
            "lm_head.weight": "output.weight",
        }[name], weight
    _, _, layer, part = name.split(".", 3)
    inner = part.removesuffix(".weight")
    heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}.get(inner)
    if heads is not None:
        weight = weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
    return f"blk.{layer}.{_NAMES[inner]}.weight", weight
