"""Matrix products in bfloat16 for float32 models on a CPU.

Only the matrix products of linear layers, which take nearly all the time, are computed in bfloat16. Everything else,
such as the residual stream, attention, the KV cache and the logits, remains in float32: with the 8 significant bits of
bfloat16, small updates of large activations are lost, and the two most probable tokens often have equal logits.

In every call, oneDNN copies a plain bfloat16 weight into the layout that the CPU's instructions need. This is
negligible for a long prompt, but takes about as long as the product itself when one token is decoded. Each weight is
therefore copied once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Linear, functional

from ragkit.models._devices import multiplies_bfloat16

_MOST_PARAMETERS = 10**9  # limit for two copies of the weights in memory; larger models run entirely in bfloat16


class HalfPrecision:
    """The bfloat16 products of one model, prepared at the first use and again if its weights change."""

    def __init__(self, module: Any) -> None:
        """Wrap a float32 transformers model before adapters are added; the model is changed only within `on`."""
        self._layers = [layer for layer in module.modules() if type(layer) is Linear]
        self._head = module.get_output_embeddings()
        self._products: list[Callable[[Any], Any]] = []
        self._weights: list[tuple[int, int]] = []

    @staticmethod
    def suits(module: Any) -> bool:
        """Return whether a model was loaded in bfloat16 on a CPU and is small enough to run in float32 instead."""
        on_processor = module.dtype == torch.bfloat16 and module.device.type == "cpu"
        return bool(on_processor and module.num_parameters() <= _MOST_PARAMETERS)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Use the products within a block. The caller holds the model's lock and does not compute gradients."""
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
        """Free the prepared products, which are prepared again at the next use."""
        self._products, self._weights = [], []


def _product(layer: Linear, dtype: torch.dtype) -> Callable[[Any], Any]:
    """Return a function that applies a linear layer, whose weight is copied into the CPU's layout if possible."""
    weight, bias = layer.weight.detach().to(dtype), None if layer.bias is None else layer.bias.detach().to(dtype)
    if not multiplies_bfloat16() or not hasattr(
        torch.ops.mkldnn, "_linear_pointwise"
    ):  # internal operators of torch's compiler
        return lambda states: functional.linear(states.to(dtype), weight, bias).to(states.dtype)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    multiply = torch.ops.mkldnn._linear_pointwise
    return lambda states: multiply(states.to(dtype), packed, bias, "none", [], "").to(states.dtype)
