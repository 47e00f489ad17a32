"""The checksum of all stored data: 63 bits of XXH3, which is as fast as reading memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

BITS = 2**63  # SQLite integers are signed and have 64 bits


def checksum(data: bytes | memoryview) -> int:
    """Return the checksum of bytes, from 0 to 2**63 - 1."""
    return xxh3_64_intdigest(data) >> 1


def name_hashes(names: Iterable[str]) -> NDArray[np.int64]:
    """Return the hashes of n ids of documents, i64[n]."""
    return np.fromiter((checksum(name.encode()) for name in names), dtype=np.int64)
