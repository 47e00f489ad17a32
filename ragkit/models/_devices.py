"""Devices and precision for inference and training."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ragkit.errors import UnsupportedError

AnyDtype = Literal["auto", "bfloat16", "float32"]


def default_device() -> str:
    """Return the device on which models run: the GPU that a launcher assigned to this process, any GPU, or the CPU."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    rank = os.environ.get("LOCAL_RANK", "")
    return f"cuda:{rank}" if rank.isdecimal() else "cuda"


def has_bfloat16() -> bool:
    """Return whether there is a GPU with native bfloat16 arithmetic; older GPUs emulate it more slowly than float32."""
    import torch

    return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))


@cache
def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the CPU has bfloat16 matrix instructions (AVX512-BF16 or AMX), as Linux lists them in a file.

    Other CPUs emulate these instructions more slowly than float32.
    """
    import torch

    try:
        flags = set(cpuinfo.read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16"}) and torch.backends.mkldnn.is_available()


def dtype_for(asked: AnyDtype, stored: Any) -> Any:
    """Return the ``torch.dtype`` in which a model runs, given the dtype of its stored weights or None.

    ``"auto"`` is bfloat16 on a GPU with native bfloat16 arithmetic, and on a CPU with bfloat16 instructions if the
    weights are stored in 16 bits; otherwise float32.
    """
    import torch

    if asked != "auto":
        return getattr(torch, asked)
    halved = stored in {torch.bfloat16, torch.float16}
    fast = has_bfloat16() or (halved and not torch.cuda.is_available() and multiplies_bfloat16())
    return torch.bfloat16 if fast else torch.float32


def trains_on_gpu() -> bool:
    """Return whether training runs on a GPU, which it does if one is available.

    Raises:
        UnsupportedError: If several GPUs are visible and no launcher was used: a trainer would split each batch among
            them, and a different batch size results in a different model.
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


def return_freed_memory() -> None:
    """Collect garbage and return freed memory to the operating system.

    glibc retains freed memory for later allocations of the same thread. After a memory-intensive phase such as
    training, this can be gigabytes that the next phase does not use.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only in glibc
        if trim is not None:
            trim(0)
