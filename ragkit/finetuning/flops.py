"""How much arithmetic a training run takes, counted from shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def training_flops(module: Any, lengths: Sequence[int], *, layers: int | None = None, reference: bool = False) -> float:
    """Floating-point operations of one pass over some sequences, padding left out.

    A forward pass takes two operations for each weight and token, and attention besides; the way back takes as many
    again for the gradients of activations, and two for each weight that is trained (Kaplan et al., "Scaling Laws for
    Neural Language Models", 2020). What is trained is read off ``requires_grad``.

    Args:
        module: The model as it is trained.
        lengths: Tokens of each sequence.
        layers: Blocks that gradients pass through, all if None.
        reference: Whether a second model reads every sequence, as in preference training.

    Returns:
        A number of operations.
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
    """What a forward pass multiplies with.

    Args:
        module: A model of transformers.

    Returns:
        Number of weights without embeddings that are only looked up, and number of blocks with attention.
    """
    config = module.config.get_text_config()
    embedding = module.get_input_embeddings()
    tied = module.get_output_embeddings() is not None and (
        module.get_output_embeddings().weight is getattr(embedding, "weight", None)
    )
    looked_up = 0 if tied else sum(weight.numel() for weight in embedding.parameters())
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    return (
        sum(_size(weight) for weight in module.parameters()) - looked_up,
        sum("attention" in kind for kind in kinds),
    )


def _size(weight: Any) -> int:
    """Entries of a weight; one in 4 bits holds two a byte."""
    shape = getattr(getattr(weight, "quant_state", None), "shape", None)
    if shape is None:
        return int(weight.numel())
    size = 1
    for side in shape:
        size *= int(side)
    return size
