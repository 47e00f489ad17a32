"""FLOPs of training runs, computed from shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def training_flops(module: Any, lengths: Sequence[int], *, layers: int | None = None, reference: bool = False) -> float:
    """Return the FLOPs of training once on sequences with these numbers of tokens, without padding.

    A forward pass takes two operations per weight and token, plus those of attention. The backward pass takes as many
    for the gradients of activations, through ``layers`` blocks or all, and two per trained weight and token (Kaplan et
    al., "Scaling Laws for Neural Language Models", 2020). Trained weights are those with ``requires_grad``. With
    ``reference``, a second model processes every sequence, as in preference training.
    """
    config = module.config.get_text_config()
    weights, attending = weights_of(module)
    trained = sum(_size(weight) for weight in module.parameters() if weight.requires_grad)
    blocks = config.num_hidden_layers
    tokens, squares = sum(lengths), sum(length**2 for length in lengths)
    forward = 2.0 * weights * tokens + 4.0 * attending * config.hidden_size * squares
    back = forward * (1 if layers is None else min(1.0, layers / blocks))
    return float(forward * (2 if reference else 1) + back + 2.0 * trained * tokens)


def weights_of(module: Any) -> tuple[int, int]:
    """Return the number of weights, without embeddings that are only looked up, and of blocks with attention."""
    config = module.config.get_text_config()
    embedding, head = module.get_input_embeddings(), module.get_output_embeddings()
    tied = head is not None and head.weight is getattr(embedding, "weight", None)
    looked_up = 0 if tied else sum(weight.numel() for weight in embedding.parameters())
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    weights = sum(_size(weight) for weight in module.parameters())
    return weights - looked_up, sum("attention" in kind for kind in kinds)


def _size(weight: Any) -> int:
    """Return the number of entries of a weight; a 4-bit weight stores two entries per byte."""
    shape = getattr(getattr(weight, "quant_state", None), "shape", None)
    return int(weight.numel() if shape is None else math.prod(map(int, shape)))
