"""Base models in 4 bits, with bitsandbytes."""

from __future__ import annotations

from typing import Any

from ragkit._extras import require
from ragkit.errors import UnsupportedError


def four_bit_config() -> Any:
    """Return the quantization of QLoRA: 4-bit NormalFloat, double quantization, arithmetic in bfloat16.

    Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", NeurIPS 2023.

    Returns:
        A transformers ``BitsAndBytesConfig``.

    Raises:
        UnsupportedError: If no GPU is available.
    """
    require("torch")
    import torch

    if not torch.cuda.is_available():
        raise UnsupportedError(
            "'qlora' keeps its base in 4 bits, which takes a CUDA GPU, and there is none; use method='lora'"
        )
    require("bitsandbytes", "transformers", "accelerate")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
