"""A CUDA device that is pretended on the CPU: real numbers, and the rules of two devices.

Tensors on it say ``cuda:0`` of themselves and compute on the CPU. What would fail on a card fails here too: an
operation on tensors of both devices, a CPU generator for a tensor on the card, ``numpy()`` of such a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CARD, CPU = torch.device("cuda:0"), torch.device("cpu")
# Operations that take an index or a source on the other device, and copy it over.
_MAY_MIX = {
    "aten.copy_",
    "aten.to",
    "__getitem__",
    "aten._to_copy",
    "aten.index",
    "aten.index_put_",
    "aten.index_put",
    "aten._index_put_impl_",
}


class OnCard(torch.Tensor):
    """A tensor on the pretended card, with its numbers in a CPU tensor."""

    numbers: torch.Tensor

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> OnCard:
        made = torch.Tensor._make_wrapper_subclass(
            cls, numbers.shape, strides=numbers.stride(), storage_offset=numbers.storage_offset(), dtype=numbers.dtype,
            device="meta", dispatch_device=True,
        )  # fmt: skip
        made.numbers = numbers
        return made

    def __repr__(self, **_: Any) -> str:
        return f"OnCard({self.numbers})"

    def tolist(self) -> Any:
        """The numbers, which torch gives of no subclass."""
        return self.numbers.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation: Any, _: Any, arguments: Any = (), named: Any = None) -> Any:
        return _dispatched(operation, arguments, named or {})


class _Generator(torch.Generator):
    """A generator that knows the device it is for."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made = super().__new__(cls)
        made.made_for = torch.device(device)
        return made


class PretendedCard(TorchDispatchMode):
    """While it is on, tensors can be made on or brought to the card."""

    def __torch_dispatch__(self, operation: Any, _: Any, arguments: Any = (), named: Any = None) -> Any:
        return _dispatched(operation, arguments, named or {})


class _Indexed(TorchFunctionMode):
    """Gives the card its number, which torch asks a driver for, and brings there what is made of lists."""

    def __torch_function__(self, function: Any, _: Any, arguments: Any = (), named: Any = None) -> Any:
        arguments, named = tree_map(_with_number, arguments), tree_map(_with_number, dict(named or {}))
        if function in {torch.tensor, torch.as_tensor} and named.get("device") == CARD:
            return function(*arguments, **{**named, "device": CPU}).to(CARD)
        if function is torch.Tensor.__setitem__:
            return _set_item(*arguments)
        if function is torch.Tensor.copy_ and any(isinstance(part, OnCard) for part in arguments):
            _numbers(arguments[0]).copy_(_numbers(arguments[1]))
            return arguments[0]
        generator = named.get("generator")
        if generator is not None and generator.made_for.type != arguments[0].device.type:
            raise RuntimeError(f"Expected a {arguments[0].device.type!r} device type for generator")
        try:
            return function(*arguments, **named)
        except RuntimeError as error:
            if "not linked" not in str(error):
                raise
            return _dispatched(function, arguments, named)  # Python's side of torch asked for CUDA's driver


def _set_item(tensor: Any, place: Any, value: Any) -> None:
    _check_index(tensor, place)
    by_list = any(isinstance(part, list | torch.Tensor) for part in (place if isinstance(place, tuple) else (place,)))
    if (
        by_list
        and isinstance(value, torch.Tensor)
        and value.dim()
        and isinstance(value, OnCard) != isinstance(tensor, OnCard)
    ):
        raise RuntimeError("Expected all tensors to be on the same device (index_put)")
    _numbers(tensor)[tree_map(_numbers, place)] = _numbers(value)


def _check_index(tensor: Any, place: Any) -> None:
    if not isinstance(tensor, OnCard) and any(isinstance(part, OnCard) for part in tree_flatten(place)[0]):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")


class _Thread(Thread):
    """A thread that knows the card too: torch keeps its modes by thread."""

    def run(self) -> None:
        with PretendedCard(), _Indexed():
            super().run()


def _with_number(part: Any) -> Any:
    return (
        CARD
        if (isinstance(part, str) and part == "cuda") or (isinstance(part, torch.device) and part.type == "cuda")
        else part
    )


def _dispatched(operation: Any, arguments: Any, named: Any) -> Any:
    if operation is torch.ops.prim.device.default:
        return CARD
    flat = tree_flatten((arguments, named))[0]
    here = [part for part in flat if isinstance(part, OnCard)]
    elsewhere = [part for part in flat if isinstance(part, torch.Tensor) and not isinstance(part, OnCard)]
    name = str(operation).rpartition(".")[0] if isinstance(operation, torch._ops.OpOverload) else operation.__name__
    _check_devices(name, arguments, here, elsewhere)
    asked = next((part for part in flat if isinstance(part, torch.device)), None)
    on_card = bool(here) if asked is None else asked.type == "cuda"
    if name == "aten.div" and on_card and isinstance(arguments[1], float):  # a card multiplies with the inverse
        operation, arguments = torch.ops.aten.mul.Tensor, (arguments[0], torch.tensor(arguments[1]).reciprocal())
    arguments, named = tree_map(_numbers, arguments), tree_map(_numbers, named)
    named.pop("pin_memory", None)
    made = operation(*arguments, **named)
    if _is_in_place(name) and isinstance(flat[0], OnCard):
        return flat[0]
    return tree_map(lambda part: OnCard(part) if isinstance(part, torch.Tensor) else part, made) if on_card else made


def _is_in_place(name: str) -> bool:
    return name.startswith("aten.__i") if name.endswith("__") else name.endswith("_")


def _check_devices(name: str, arguments: Any, here: list[Any], elsewhere: list[Any]) -> None:
    if not here:
        return
    if name in {"aten.index", "aten.index_put", "aten.index_put_", "__getitem__"} and not isinstance(
        arguments[0], OnCard
    ):
        raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor ({name})")
    if name not in _MAY_MIX and any(tensor.dim() for tensor in elsewhere):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu ({name})")


def _numbers(part: Any) -> Any:
    """What stands for it on the CPU."""
    if isinstance(part, torch.device):
        return CPU if part.type == "cuda" else part
    return part.numbers if isinstance(part, OnCard) else part


@contextmanager
def pretended_cuda(patch: pytest.MonkeyPatch, *, bfloat16: bool) -> Iterator[None]:
    """Let torch have one CUDA device for a while.

    Args:
        patch: Undoes what is changed in torch.
        bfloat16: Whether the card computes in it.

    Yields:
        Nothing.
    """
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: 1)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bfloat16)
    patch.setattr(torch.cuda, "_lazy_init", lambda: None)
    patch.setattr(torch, "Generator", _Generator)
    patch.setattr(torch, "inference_mode", torch.no_grad)  # which knows no tensors of other kinds
    patch.setattr("ragkit.models._concurrency.Thread", _Thread)
    with PretendedCard(), _Indexed():
        yield
