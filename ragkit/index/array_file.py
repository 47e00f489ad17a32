"""An append-only array on disk: rows of one shape, mapped into memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ragkit.errors import CorruptIndexError


class ArrayFile:
    """Rows of a fixed width in a bare binary file; how many of them count is for the caller to say.

    Attributes:
        path: The file.
        shape: Shape of a row, ``()`` for single numbers.
        dtype: Their type.
        width: Bytes of a row.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Name a file; it need not exist yet."""
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.width = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize

    def view(self, rows: int) -> NDArray[np.generic]:
        """Map the first rows, read only.

        Args:
            rows: How many count.

        Returns:
            The array, of shape [rows, *shape]; its pages come from disk when they are read.

        Raises:
            CorruptIndexError: If the file is shorter.
        """
        if not rows:
            return np.zeros((0, *self.shape), dtype=self.dtype)
        size = self.path.stat().st_size if self.path.is_file() else 0
        if size < rows * self.width:
            raise CorruptIndexError(self.path, f"it has {size} bytes, but its {rows} rows take {rows * self.width}")
        # As a plain array, which costs less to index.
        return np.asarray(np.memmap(self.path, dtype=self.dtype, mode="r", shape=(rows, *self.shape)))

    def write(self, start: int, values: NDArray[np.generic], *, durable: bool = True) -> None:
        """Write rows from ``start`` on and wait until they are on disk; what stood there is overwritten."""
        content = as_bytes(values.astype(self.dtype, copy=False))
        with self.path.open("r+b" if self.path.exists() else "w+b") as file:
            file.truncate(start * self.width)  # what a crash left behind
            file.seek(start * self.width)
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if durable and not start:
            sync_folder(self.path.parent)  # or a new file could be gone after a power cut

    def link(self, other: Path, *, durable: bool = True) -> bool:
        """Take over the content of another file without copying it; this one must not be there yet.

        Returns:
            Whether that was possible; not on a file system without links.
        """
        try:
            os.link(other, self.path)
        except OSError:
            return False
        if durable:
            sync_folder(self.path.parent)
        return True

    def cut(self, rows: int) -> None:
        """Cut off what lies past the first rows."""
        if self.path.is_file() and self.path.stat().st_size > rows * self.width:
            os.truncate(self.path, rows * self.width)


def forget(view: NDArray[np.generic]) -> None:
    """Let go of the memory of a mapped array that was read; its pages come from the file again when they are needed.

    Args:
        view: What `ArrayFile.view` gave; nothing is done for other arrays.
    """
    if isinstance(view.base, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
        view.base._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def as_bytes(values: NDArray[np.generic]) -> memoryview:
    """The bytes of an array, not copied where they lie in one piece."""
    return memoryview(np.ascontiguousarray(values)).cast("B")  # type: ignore[arg-type]


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
