"""An append-only array on disk: rows of one shape, memory-mapped for reading."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ragkit.errors import CorruptIndexError
from ragkit.files import private_opener


class ArrayFile:
    """Rows of a fixed width in a headerless binary file. The caller keeps track of the number of valid rows.

    Attributes:
        path: The file.
        shape: Shape of a row; ``()`` for scalars.
        dtype: Data type of the values.
        width: Bytes per row.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Set the path of the file, which need not exist yet."""
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.width = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize

    def view(self, rows: int) -> NDArray[np.generic]:
        """Map the first rows as a read-only array.

        Args:
            rows: Number of rows.

        Returns:
            An array of shape [rows, *shape]; its pages are read from disk on access.

        Raises:
            CorruptIndexError: If the file is too short.
        """
        if not rows:
            return np.zeros((0, *self.shape), dtype=self.dtype)
        size = self.path.stat().st_size if self.path.is_file() else 0
        if size < rows * self.width:
            raise CorruptIndexError(self.path, f"it has {size} bytes, but its {rows} rows take {rows * self.width}")
        # A plain array is faster to index than a memmap.
        return np.asarray(np.memmap(self.path, dtype=self.dtype, mode="r", shape=(rows, *self.shape)))

    def write(self, start: int, values: NDArray[np.generic], *, durable: bool = True) -> None:
        """Write rows at index ``start``, overwriting any that are there, and wait until they are on disk."""
        content = as_bytes(values.astype(self.dtype, copy=False))
        with open(self.path, "r+b" if self.path.exists() else "w+b", opener=private_opener) as file:
            file.truncate(start * self.width)  # remove rows left by a crash
            file.seek(start * self.width)
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if durable and not start:
            sync_folder(self.path.parent)  # otherwise a power cut could lose a new file

    def link(self, other: Path, *, durable: bool = True) -> bool:
        """Create this file as a hard link to another file, without copying. This file must not exist yet.

        Returns:
            Whether the link was created; False on file systems without hard links.
        """
        try:
            os.link(other, self.path)
        except OSError:
            return False
        if durable:
            sync_folder(self.path.parent)
        return True

    def cut(self, rows: int) -> None:
        """Truncate the file to the first rows."""
        if self.path.is_file() and self.path.stat().st_size > rows * self.width:
            os.truncate(self.path, rows * self.width)


def forget(view: NDArray[np.generic]) -> None:
    """Release the memory of a mapped array; its pages are read from the file again when needed.

    Args:
        view: The result of `ArrayFile.view`; other arrays are ignored.
    """
    if isinstance(view.base, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
        view.base._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def as_bytes(values: NDArray[np.generic]) -> memoryview:
    """Return the bytes of an array, without a copy if it is contiguous."""
    return memoryview(np.ascontiguousarray(values)).cast("B")  # type: ignore[arg-type]


def sync_folder(folder: Path) -> None:
    """Wait until the directory entries of a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
