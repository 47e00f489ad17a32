"""Batches with a different LoRA adapter per row, by batched matrix products (the idea of Punica, Chen et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora.layer import Linear


class MixedRows:
    """The LoRA matrices of all adapters of one model, stacked per layer.

    In each layer, PEFT applies the adapters one by one. This class applies two batched matrix products, regardless of
    the number of adapters.
    """

    def __init__(self, module: Any, adapters: Sequence[str]) -> None:
        """Stack the adapters of a PEFT model; index 0 contains zeros, for the base model without an adapter."""
        self._place: dict[str | None, int] = {None: 0, **{name: row for row, name in enumerate(adapters, 1)}}
        self._stacks = [
            (layer, _stacked(layer.lora_A, layer, adapters), _stacked(layer.lora_B, layer, adapters))
            for layer in module.modules()
            if isinstance(layer, Linear)
        ]

    @staticmethod
    def fits(module: Any) -> bool:
        """Return whether all adapters are plain LoRA and change only linear layers."""
        configs = module.peft_config.values()
        plain = all(str(config.peft_type.value) == "LORA" and not config.use_dora for config in configs)
        saved = any(config.modules_to_save or config.bias != "none" for config in configs)
        adapted = [layer for layer in module.modules() if hasattr(layer, "lora_A")]
        return plain and not saved and all(type(layer) is Linear for layer in adapted)

    @contextmanager
    def on(self, names: Sequence[str | None]) -> Iterator[None]:
        """Apply an adapter, or none, to each row of the batches that run within the block, by PEFT's names."""
        places = [self._place[name] for name in names]
        try:
            for layer, down, up in self._stacks:
                layer.forward = _by_row(layer.base_layer, down[places], up[places])
            yield
        finally:
            for layer, _, _ in self._stacks:
                layer.__dict__.pop("forward", None)


def _stacked(parts: Any, layer: Any, adapters: Sequence[str]) -> Any:
    """Return the transposed matrices of all adapters, padded to the largest rank: float[adapters + 1, in, out]."""
    is_up = parts is layer.lora_B
    held = {name: parts[name].weight.T * (layer.scaling[name] if is_up else 1.0) for name in adapters if name in parts}
    shapes = [matrix.shape for matrix in held.values()]
    like = next(iter(held.values()))
    whole = like.new_zeros(len(adapters) + 1, max(shape[0] for shape in shapes), max(shape[1] for shape in shapes))
    for row, name in enumerate(adapters, 1):
        if name in held:
            whole[row, : held[name].shape[0], : held[name].shape[1]] = held[name]
    return whole.detach()


def _by_row(base: Any, down: Any, up: Any) -> Any:
    def forward(states: Any) -> Any:
        output = base(states)
        if output.dtype == up.dtype:
            return torch.baddbmm(output, torch.bmm(states, down), up)
        # As in PEFT, adapters of a base model in half precision are computed in float32.
        added = torch.bmm(torch.bmm(states.to(down.dtype), down), up)
        return (output + added).to(output.dtype)

    return forward
