"""A base in 4 bits, through bitsandbytes."""

from __future__ import annotations

from typing import Any

from ragkit.errors import UnsupportedError
from ragkit.extras import require


def four_bit_config() -> Any:
    """How QLoRA stores its base: NormalFloat in 4 bits, scales quantized too, arithmetic in bfloat16.

    Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", NeurIPS 2023.

    Returns:
        A ``BitsAndBytesConfig`` of transformers.

    Raises:
        UnsupportedError: If there is no GPU.
    """
    check_four_bit()
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def check_four_bit() -> None:
    """Fail early where 4 bits cannot be had.

    Raises:
        UnsupportedError: If there is no GPU.
    """
    require("torch")
    import torch

    if not torch.cuda.is_available():
        raise UnsupportedError(
            "'qlora' keeps its base in 4 bits, which takes a CUDA GPU, and there is none; use method='lora'"
        )
    require("bitsandbytes", "transformers", "accelerate")
