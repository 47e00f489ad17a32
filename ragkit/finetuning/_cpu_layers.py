"""Layers for training on a CPU, with bfloat16 matrix products on CPUs that support them, and fewer stored activations.

Autocast would also round the outputs of an adapter's layers to bfloat16. A small LoRA update is then lost in the
rounding of the much larger output to which it is added, and the loss does not reflect it. Here, only the inputs and the
output of the matrix product itself are rounded; sums, norms, attention and the adapter's contribution remain in
float32.

Activations take most of the memory when a small model is trained, and allocating them takes time. Cheap activations are
therefore recomputed in the backward pass, and keys and values are not repeated for each head.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners import lora
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

# For smaller matrices, the conversion costs more than the product saves.
LEAST_SIDE = 192
_GATED = {"gate_proj", "up_proj", "down_proj", "act_fn"}  # the parts of a gated feed-forward layer in transformers


def multiply_in_bfloat16(model: Any, *, shrink: bool) -> None:
    """Use bfloat16 products in the large linear layers of a float32 model in training, except the output layer.

    With ``shrink``, frozen weights are stored in bfloat16, which avoids converting them for each product. Only for
    models whose frozen weights are not saved.
    """
    head = model.get_output_embeddings()
    for layer in model.modules():
        if type(layer) is torch.nn.Linear and layer is not head and min(layer.weight.shape) >= LEAST_SIDE:
            layer.__class__ = HalfLinear
            if shrink and not layer.weight.requires_grad:
                layer.weight.data = layer.weight.data.to(torch.bfloat16)


def save_activations(model: Any) -> None:
    """Store fewer activations of adapted layers, RMS norms and gated feed-forward layers for the backward pass.

    The model is changed in place, after `multiply_in_bfloat16`.
    """
    for layer in list(model.modules()):
        if type(layer) is lora.Linear and _is_plain(layer):
            layer.__class__ = AdaptedLinear
        elif type(layer).__name__.endswith("RMSNorm"):
            layer.forward = partial(_recomputed, layer.forward)
    for layer in model.modules():
        if _is_gated(layer):
            layer.forward = partial(_gated_layer, layer)


def share_frozen(model: Any, base: Any) -> None:
    """Make a PEFT model share its frozen weights in memory with the equal ones of its base model."""
    weights = dict(base.named_parameters())
    for name, weight in model.get_base_model().named_parameters():
        same = weights.get(name)
        if same is None or weight.requires_grad or (same.dtype, same.device) != (weight.dtype, weight.device):
            continue
        if torch.equal(same, weight):
            weight.data = same.data


@contextmanager
def shared_heads() -> Iterator[None]:
    """Use grouped-query attention on a CPU without repeating keys and values for each head.

    For the benefit of GPUs, transformers repeats them if there is a mask, unless this environment variable is set.
    """
    name = "TRANSFORMERS_SDPA_FORCE_GQA"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class HalfLinear(torch.nn.Linear):  # type: ignore[misc]
    """A linear layer that multiplies in bfloat16, regardless of the precision of its weight."""

    @override
    def forward(self, states: Any) -> Any:
        half = torch.bfloat16
        product = torch.nn.functional.linear(states.to(half), self.weight.to(half)).to(states.dtype)
        return product if self.bias is None else product + self.bias


class AdaptedLinear(lora.Linear):  # type: ignore[misc]
    """A frozen linear layer with a plain LoRA adapter, computed as one operation."""

    @override
    def forward(self, x: Any, *arguments: Any, **named: Any) -> Any:
        if self.disable_adapters or self.merged:
            return super().forward(x, *arguments, **named)
        product = _AdaptedProduct.apply(x, _rows_of(x, self.base_layer.weight.dtype), *self.factors())
        return product if self.base_layer.bias is None else product + self.base_layer.bias

    def factors(self) -> tuple[Any, Any, Any, float]:
        """Return the frozen weight, the two weights of the adapter, and its scale."""
        [name] = self.active_adapters
        return self.base_layer.weight, self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]


class _AdaptedProduct(torch.autograd.Function):  # type: ignore[misc]
    """``x W' + s (x A') B'``, with product inputs in the precision of the frozen W and the sum in float32.

    For the backward pass, only x in that precision is stored, once for all layers that share it.
    """

    @staticmethod
    @override
    def forward(ctx: Any, states: Any, rows: Any, weight: Any, first: Any, second: Any, scaling: float) -> Any:
        product, inner = _product(rows, weight, first, second, scaling)
        ctx.save_for_backward(rows, inner, weight, first, second)
        ctx.scaling = scaling
        return product.view(*states.shape[:-1], -1)

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Any) -> Any:
        states, first, second = _gradients(ctx.scaling, gradients[0], *ctx.saved_tensors)
        return states, None, None, first, second, None


class _GatedProduct(torch.autograd.Function):  # type: ignore[misc]
    """`_AdaptedProduct` for x = ``f(gate) * up`` with an activation function f; only gate and up are stored."""

    @staticmethod
    @override
    def forward(
        ctx: Any, activation: Any, gate: Any, up: Any, weight: Any, first: Any, second: Any, scaling: float
    ) -> Any:
        rows = (activation(gate) * up).to(weight.dtype).flatten(0, -2)
        product, inner = _product(rows, weight, first, second, scaling)
        ctx.save_for_backward(gate.to(weight.dtype), up.to(weight.dtype), inner, weight, first, second)
        ctx.activation, ctx.scaling = activation, scaling
        return product.view(*gate.shape[:-1], -1)

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Any) -> Any:
        gate, up, *factors = ctx.saved_tensors
        with torch.enable_grad():
            gate, up = (each.float().detach().requires_grad_() for each in (gate, up))
            states = ctx.activation(gate) * up
        rows = states.detach().to(factors[1].dtype).flatten(0, -2)
        outer, first, second = _gradients(ctx.scaling, gradients[0], rows, *factors)
        return None, *torch.autograd.grad(states, (gate, up), outer), None, first, second, None


def _product(rows: Any, weight: Any, first: Any, second: Any, scaling: float) -> tuple[Any, Any]:
    inner = rows @ first.to(weight.dtype).T
    return (rows @ weight.T).float().addmm_(inner.float(), second.T, alpha=scaling), inner


def _gradients(
    scaling: float, gradient: Any, rows: Any, inner: Any, weight: Any, first: Any, second: Any
) -> tuple[Any, Any, Any]:
    outer = gradient.to(weight.dtype).flatten(0, -2)
    middle = (outer @ second.to(weight.dtype)).mul_(scaling)
    states = (outer @ weight).float().addmm_(middle.float(), first).view(*gradient.shape[:-1], -1)
    return states, (middle.T @ rows).float(), (outer.T @ inner).float().mul_(scaling)


def _rows_of(states: Any, dtype: Any) -> Any:
    """Return the states as a matrix in a precision, shared by several layers such as queries, keys and values."""
    if states.is_inference():
        return states.to(dtype).flatten(0, -2)
    version, rows = getattr(states, "_rows", (None, None))
    if version != (states._version, dtype):
        rows = states.detach().to(dtype).flatten(0, -2)
        states._rows = (states._version, dtype), rows
    return rows


def _is_plain(layer: Any) -> bool:
    """Return whether an adapted layer is equivalent to `_AdaptedProduct`."""
    base, adapters = layer.base_layer, layer.active_adapters
    return (
        type(base) in {torch.nn.Linear, HalfLinear}
        and base.weight.dtype in {torch.float32, torch.bfloat16}
        and adapters == list(layer.lora_A) == list(layer.lora_B)
        and len(adapters) == 1
        and not layer.lora_variant
        and type(layer.lora_dropout[adapters[0]]) is torch.nn.Identity
        and layer.lora_A[adapters[0]].weight.dtype == torch.float32
        and layer.lora_B[adapters[0]].bias is None
    )


def _recomputed(forward: Any, states: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(states)
    return checkpoint(forward, states, use_reentrant=False, preserve_rng_state=False)


def _gated_layer(layer: Any, states: Any) -> Any:
    if layer.down_proj.disable_adapters or layer.down_proj.merged:
        return layer.down_proj(layer.act_fn(layer.gate_proj(states)) * layer.up_proj(states))
    gate, up = layer.gate_proj(states), layer.up_proj(states)
    return _GatedProduct.apply(layer.act_fn, gate, up, *layer.down_proj.factors())


def _is_gated(layer: Any) -> bool:
    """Return whether a feed-forward layer is a plain gated layer; some models add further operations."""
    if {name for name, _ in layer.named_children()} != _GATED or type(layer.down_proj) is not AdaptedLinear:
        return False
    if layer.down_proj.base_layer.bias is not None:
        return False
    states = torch.linspace(-1, 1, 3 * layer.gate_proj.in_features).view(3, -1)
    with torch.no_grad():
        return bool(torch.allclose(layer(states), _gated_layer(layer, states), rtol=1e-3, atol=1e-5))
