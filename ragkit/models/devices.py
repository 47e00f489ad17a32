"""Where models run and are trained, and in which precision."""

from __future__ import annotations

import os
from typing import Any

from ragkit.errors import UnsupportedError


def default_device() -> str:
    """Where models run: a CUDA device, else the CPU.

    Returns:
        A name for torch: the device that a launcher gave to this process, else ``"cuda"`` for the first.
    """
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    rank = os.environ.get("LOCAL_RANK", "")
    return f"cuda:{rank}" if rank.isdecimal() else "cuda"


def has_bfloat16() -> bool:
    """Whether there is a GPU that computes in bfloat16; older ones only imitate it, slower than single precision.

    Returns:
        True where there is one.
    """
    import torch

    return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))


def default_dtype() -> Any:
    """The precision in which models run: bfloat16 on a GPU that computes in it, else float32.

    Returns:
        A ``torch.dtype``.
    """
    import torch

    return torch.bfloat16 if has_bfloat16() else torch.float32


def trains_on_gpu() -> bool:
    """Whether training takes a GPU.

    Returns:
        True where there is one.

    Raises:
        UnsupportedError: If several are visible and no launcher was used: a trainer would split each batch among them,
            and batches of another size give another model.
    """
    import torch

    if not torch.cuda.is_available():
        return False
    if torch.cuda.device_count() > 1 and not torch.distributed.is_torchelastic_launched():
        raise UnsupportedError(
            f"{torch.cuda.device_count()} GPUs are visible to one process; start the script with "
            "`accelerate launch`, or set CUDA_VISIBLE_DEVICES to one of them"
        )
    return True
