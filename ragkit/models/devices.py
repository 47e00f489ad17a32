"""Where models run and are trained, and in which precision."""

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


@cache
def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has instructions that multiply bfloat16 matrices; others emulate them, slower than float32.

    Args:
        cpuinfo: Where Linux lists the features of the processor; other systems have no such file.

    Returns:
        True for processors with AVX512-BF16 or AMX.
    """
    import torch

    try:
        flags = set(cpuinfo.read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16"}) and torch.backends.mkldnn.is_available()


def dtype_for(asked: AnyDtype, stored: Any) -> Any:
    """Choose the precision in which a model runs.

    Args:
        asked: A precision, or ``"auto"`` for the one that is fast on this machine: bfloat16 on a GPU that computes in
            it, and on a processor that multiplies it if the weights are stored in 16 bits; otherwise float32.
        stored: The ``torch.dtype`` of the stored weights; None if it is not known.

    Returns:
        A ``torch.dtype``.
    """
    import torch

    if asked != "auto":
        return getattr(torch, asked)
    halved = stored in {torch.bfloat16, torch.float16}
    fast = has_bfloat16() or (halved and not torch.cuda.is_available() and multiplies_bfloat16())
    return torch.bfloat16 if fast else torch.float32


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


def return_freed_memory() -> None:
    """Collect garbage, and give the memory that was freed back to the system.

    glibc keeps freed memory for later allocations of the same thread. After a phase that needed much, such as training,
    that can be gigabytes which the next phase does not use.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)
