"""Faster and more exact matrix products for bfloat16 models on processors that multiply bfloat16.

oneDNN copies a plain bfloat16 weight into the layout that the processor's instructions need in every call. That hardly
matters for a long prompt, but it takes about as long as the product itself when one token is decoded, so the layers of
small models keep a copy in that layout. Logits are computed in float32, because bfloat16 has only 8 significant bits:
the two most probable tokens would often get equal logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Linear, functional

from ragkit.models.devices import multiplies_bfloat16

_MOST_PARAMETERS = 10**9  # of a model whose weights are in memory twice


class HalfPrecision:
    """The products of one model, prepared at the first use and again after its weights have changed."""

    def __init__(self, module: Any) -> None:
        """Take a model of transformers or PEFT; it is changed only within `on`."""
        self._module = module
        self._products: dict[Linear, Callable[[Any], Any]] = {}
        self._weights: list[tuple[int, int]] = []

    @contextmanager
    def on(self) -> Iterator[None]:
        """Use the products within a block. The caller holds the model's lock and needs no gradients."""
        layers = self._layers()
        weights = [(layer.weight.data_ptr(), layer.weight._version) for layer in layers]
        if weights != self._weights:
            self._products = {layer: _product(layer, logits=logits) for layer, logits in layers.items()}
            self._weights = weights
        try:
            for layer, product in self._products.items():
                layer.forward = product
            yield
        finally:
            for layer in self._products:
                layer.__dict__.pop("forward", None)

    def release(self) -> None:
        """Free the prepared products; the next use makes them again."""
        self._products, self._weights = {}, []

    def _layers(self) -> dict[Linear, bool]:
        """The layers whose products are replaced, and whether they compute logits."""
        module = self._module
        if getattr(module, "dtype", None) != torch.bfloat16 or module.device.type != "cpu":
            return {}
        head = module.get_output_embeddings()
        packs = multiplies_bfloat16() and module.num_parameters() <= _MOST_PARAMETERS
        return {
            layer: layer is head
            for layer in module.modules()
            if type(layer) is Linear and layer.weight.dtype == torch.bfloat16 and (packs or layer is head)
        }


def _product(layer: Linear, *, logits: bool) -> Callable[[Any], Any]:
    """Products with the weight of a layer, which is copied into the layout of the processor if possible."""
    dtype = torch.float32 if logits else torch.bfloat16
    weight, bias = layer.weight.detach().to(dtype), None if layer.bias is None else layer.bias.detach().to(dtype)
    if not multiplies_bfloat16() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # made for torch's compiler
        return lambda states: functional.linear(states.to(dtype), weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    return lambda states: torch.ops.mkldnn._linear_pointwise(states.to(dtype), packed, bias, "none", [], "")
