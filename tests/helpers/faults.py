"""Real faults, for tests and for benchmarks/reliability: processes killed, disks that are full, bytes that change."""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

TROUBLES = ("429", "429 soon", "500", "cut", "half json", "empty", "wrong usage", "hang")  # of `OpenAIServer`


def killed(work: Callable[[int], object], delay: float) -> list[str]:
    """Run work in a fork, and kill it with SIGKILL a while after it has told something.

    Args:
        work: Gets a file descriptor to write lines to, each in one `os.write`.
        delay: Seconds from the first line to the kill; work that ends before is not killed.

    Returns:
        The lines.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        try:
            work(writer)
        finally:
            os._exit(1)
    os.close(writer)
    select.select([reader], [], [], 30)  # it has begun
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reader) as report:
        return report.read().splitlines()


@contextmanager
def no_file_past(size: int) -> Iterator[None]:
    """While the block lasts, writing past ``size`` bytes of any file fails, as on a full disk."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three bytes are others."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        changed[int(rng.integers(len(changed)))] ^= int(rng.integers(1, 256))
    return bytes(changed)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """The end is missing."""
    return data[: int(rng.integers(len(data)))]


def torn(data: bytes, rng: np.random.Generator) -> bytes:
    """A stretch of up to 512 bytes is zero, as where a block was never written."""
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(1, 513)))
    return data[:start] + bytes(stop - start) + data[stop:]


def longer(data: bytes, rng: np.random.Generator) -> bytes:
    """A part of the file stands at its end once more."""
    start = int(rng.integers(len(data)))
    return data + data[start : start + int(rng.integers(1, 513))]


def shifted(data: bytes, rng: np.random.Generator) -> bytes:
    """A stretch of up to 512 bytes holds what stands in another place of the file, as where a block went astray."""
    source, target = int(rng.integers(len(data))), int(rng.integers(len(data)))
    part = data[source : source + int(rng.integers(1, 513))]
    return data[:target] + part[: len(data) - target] + data[target + len(part) :]


DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "bytes flipped": flipped,
    "file cut": cut,
    "block zeroed": torn,
    "end repeated": longer,
    "block astray": shifted,
}
