"""Matrix products in bfloat16 for float32 models on a processor.

Only the products of the layers are computed in bfloat16, where nearly all the time goes. Everything else, such as the
sum over the layers, attention, the KV cache and the logits, stays in float32: in the 8 significant bits of bfloat16,
small updates of large activations are lost, and the two most probable tokens often have equal logits.

oneDNN copies a plain bfloat16 weight into the layout that the processor's instructions need in every call. That hardly
matters for a long prompt, but takes about as long as the product itself when one token is decoded, so each weight is
copied once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Linear, functional

from ragkit.models.devices import multiplies_bfloat16

_MOST_PARAMETERS = 10**9  # of a model whose weights are in memory twice; larger ones run in bfloat16 as a whole


class HalfPrecision:
    """The bfloat16 products of one model, prepared at the first use and again after its weights have changed."""

    def __init__(self, module: Any) -> None:
        """Take a float32 model of transformers, before adapters are put on it; it is changed only within `on`."""
        self._layers = [layer for layer in module.modules() if type(layer) is Linear]
        self._head = module.get_output_embeddings()
        self._products: list[Callable[[Any], Any]] = []
        self._weights: list[tuple[int, int]] = []

    @staticmethod
    def suits(module: Any) -> bool:
        """Whether a model was loaded in bfloat16, and is on a processor and small enough to run in float32 instead."""
        on_processor = module.dtype == torch.bfloat16 and module.device.type == "cpu"
        return bool(on_processor and module.num_parameters() <= _MOST_PARAMETERS)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Use the products within a block. The caller holds the model's lock and needs no gradients."""
        weights = [(layer.weight.data_ptr(), layer.weight._version) for layer in self._layers]
        if weights != self._weights:
            self._products = [
                _product(layer, torch.float32 if layer is self._head else torch.bfloat16) for layer in self._layers
            ]
            self._weights = weights
        try:
            for layer, product in zip(self._layers, self._products, strict=True):
                layer.forward = product
            yield
        finally:
            for layer in self._layers:
                layer.__dict__.pop("forward", None)

    def release(self) -> None:
        """Free the prepared products; the next use prepares them again."""
        self._products, self._weights = [], []


def _product(layer: Linear, dtype: torch.dtype) -> Callable[[Any], Any]:
    """Products with the weight of a layer, which is copied into the layout of the processor if possible."""
    weight, bias = layer.weight.detach().to(dtype), None if layer.bias is None else layer.bias.detach().to(dtype)
    if not multiplies_bfloat16() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # made for torch's compiler
        return lambda states: functional.linear(states.to(dtype), weight, bias).to(states.dtype)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    multiply = torch.ops.mkldnn._linear_pointwise
    return lambda states: multiply(states.to(dtype), packed, bias, "none", [], "").to(states.dtype)
