"""Matrix products in bfloat16 on CPUs that are fast at them; everything else stays in float32.

Autocast also rounds the outputs of an adapter's layers to bfloat16. A small update of LoRA is then lost in the rounding
of the much larger output that it is added to, so the loss does not see what was learned. Here only the inputs and the
output of the product itself are rounded: sums, norms, attention and the adapter are computed in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from typing_extensions import override

# Smaller matrices cost more to convert than their product gains.
LEAST_SIDE = 192


class HalfLinear(torch.nn.Linear):  # type: ignore[misc]
    """A linear layer that multiplies in bfloat16, whatever its weight is stored in."""

    @override
    def forward(self, states: Any) -> Any:
        half = torch.bfloat16
        product = torch.nn.functional.linear(states.to(half), self.weight.to(half)).to(states.dtype)
        return product if self.bias is None else product + self.bias


def multiply_in_bfloat16(model: Any, *, shrink: bool) -> None:
    """Make the large linear layers of a model multiply in bfloat16, except the one that gives the logits.

    Args:
        model: A float32 model that is ready for training, with its adapter; it is changed in place.
        shrink: Whether frozen weights are stored in bfloat16, which saves converting them for each product. Only for
            models whose frozen weights are not saved.
    """
    head = model.get_output_embeddings()
    for layer in model.modules():
        if type(layer) is torch.nn.Linear and layer is not head and min(layer.weight.shape) >= LEAST_SIDE:
            layer.__class__ = HalfLinear
            if shrink and not layer.weight.requires_grad:
                layer.weight.data = layer.weight.data.to(torch.bfloat16)
