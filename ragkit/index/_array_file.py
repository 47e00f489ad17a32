"""Append-only arrays on disk, memory-mapped for reading. Each block of rows is verified before it is first read."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray
from xxhash import xxh3_64

from ragkit._files import sync
from ragkit.errors import CorruptIndexError
from ragkit.index._checksum import checksum
from ragkit.index._database import Database
from ragkit.index._own_files import check_regular, open_own

BLOCK = 1024  # rows that share a checksum
T = TypeVar("T", bound=np.generic)


class ArrayFile:
    """Rows of a fixed shape in a headerless binary file. The database records the number of valid rows."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Set the path of the file, which need not exist yet, and the shape of a row, ``()`` for scalars."""
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.width = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize

    def view(self, rows: int) -> NDArray[np.generic]:
        """Return the first rows as a read-only array, whose pages are read from disk on access.

        Raises:
            CorruptIndexError: If the file is too short.
        """
        if not rows:
            return np.zeros((0, *self.shape), dtype=self.dtype)
        if not check_regular(self.path):
            raise CorruptIndexError(self.path, f"it does not exist, but has {rows} rows")
        with open(open_own(self.path, os.O_RDONLY), "rb") as file:  # noqa: PTH123 - a descriptor
            size = os.fstat(file.fileno()).st_size
            if size < rows * self.width:
                raise CorruptIndexError(self.path, f"it has {size} bytes, but its {rows} rows take {rows * self.width}")
            # A plain array is faster to index than a memmap.
            return np.asarray(np.memmap(file, dtype=self.dtype, mode="r", shape=(rows, *self.shape)))

    def write(self, start: int, values: NDArray[np.generic], *, durable: bool = True) -> None:
        """Write rows at index ``start``, remove all later rows, and wait until they are on disk."""
        content = as_bytes(values.astype(self.dtype, copy=False))
        with open(open_own(self.path, os.O_RDWR | os.O_CREAT), "r+b") as file:  # noqa: PTH123 - a descriptor
            file.truncate(start * self.width)  # remove rows left by a crash
            file.seek(start * self.width)
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if durable and not start:
            sync(self.path.parent)  # otherwise a power cut could lose a new file

    def link(self, other: Path, *, durable: bool = True) -> bool:
        """Create this file as a hard link to another one; return False on file systems without hard links."""
        try:
            os.link(other, self.path)
        except OSError:
            return False
        if durable:
            sync(self.path.parent)
        return True

    def cut(self, rows: int) -> None:
        """Truncate the file to the first rows."""
        if check_regular(self.path) and self.path.stat().st_size > rows * self.width:
            with open(open_own(self.path, os.O_RDWR), "r+b") as file:  # noqa: PTH123 - a descriptor
                file.truncate(rows * self.width)


class Blocks(Generic[T]):
    """The rows of one commit in an array file."""

    def __init__(self, file: ArrayFile, rows: int, database: Database, earlier: Blocks[T] | None = None) -> None:
        """Map the rows and load their checksums, inside a snapshot. No row is read.

        Blocks that were verified for an earlier commit in the same file are not verified again.

        Raises:
            CorruptIndexError: If the file is too short, or a checksum is not a number.
        """
        self.path, self.rows = file.path, rows
        self._values = cast("NDArray[T]", file.view(rows))
        whole = earlier.rows // BLOCK if earlier else 0  # blocks without rows added since
        found = dict(database.blocks(file.path.stem, whole))
        later = range(whole, -(-rows // BLOCK))
        if len(found) < len(later):
            raise CorruptIndexError(
                database.path, f"{len(later) - len(found)} checksums of {file.path.name} are missing"
            )
        try:
            self._sums = np.array([found.get(block, -1) for block in later], dtype=np.int64)
        except (TypeError, ValueError, OverflowError) as error:
            raise CorruptIndexError(database.path, f"a checksum of {file.path.name} is not a number") from error
        self._unread = np.ones(len(later), dtype=np.bool_)
        if earlier:
            self._sums = np.concatenate([earlier._sums[:whole], self._sums])
            self._unread = np.concatenate([earlier._unread[:whole], self._unread])
        self._all_read = not self._unread.any()

    # Each of the following methods raises a CorruptIndexError if a block that it reads does not match its checksum.

    def all(self) -> NDArray[T]:
        """Return all rows."""
        if not self._all_read:
            self._check(np.flatnonzero(self._unread).tolist())
            self._all_read = True
        return self._values

    @contextmanager
    def checked_meanwhile(self) -> Iterator[NDArray[T]]:
        """Yield all rows and verify them in another thread. Discard the results if an error is raised at the end.

        Both threads read the rows at about the same speed and share disk reads and CPU caches, so the check adds
        hardly any time on a machine with two cores.
        """
        if self._all_read:
            yield self._values
            return
        with ThreadPoolExecutor(1) as executor:
            checked = executor.submit(self.all)
            try:
                yield self._values
            finally:
                checked.result()

    def since(self, row: int) -> NDArray[T]:
        """Return the rows from an index to the end."""
        first = row // BLOCK
        self._check((np.flatnonzero(self._unread[first:]) + first).tolist())
        return self._values[row:]

    def take(self, rows: NDArray[np.integer]) -> NDArray[T]:
        """Return rows by index, int[...]; -1 is the last row, as in NumPy."""
        if rows.size and not -self.rows <= rows.min() <= rows.max() < self.rows:
            raise CorruptIndexError(self.path, f"it has {self.rows} rows, but row {rows.max()} is referred to")
        if not self._all_read:
            blocks = np.unique((rows if rows.size and rows.min() >= 0 else rows % max(1, self.rows)) // BLOCK)
            self._check(blocks[self._unread[blocks]].tolist())
        return cast("NDArray[T]", self._values[rows])

    def _check(self, blocks: Iterable[int]) -> None:
        for block in blocks:
            if checksum(as_bytes(self._values[block * BLOCK : (block + 1) * BLOCK])) != self._sums[block]:
                raise CorruptIndexError(self.path, f"block {block} is not what was written")
            self._unread[block] = False

    def problems(self) -> Iterator[str]:
        """Verify all blocks again, and yield a description of each problem."""
        for block in range(len(self._sums)):
            try:
                self._check([block])
            except CorruptIndexError as error:
                yield str(error)

    def sums_with(self, values: NDArray[np.generic]) -> Iterator[tuple[int, int]]:
        """Return number and checksum of the blocks that change when rows are appended."""
        start = self.rows - self.rows % BLOCK
        return block_sums(values, self.rows, self.take(np.arange(start, self.rows)))


def block_sums(
    values: NDArray[np.generic], start: int = 0, before: NDArray[np.generic] | None = None
) -> Iterator[tuple[int, int]]:
    """Yield number and checksum of each block of rows from index ``start``; ``before`` begins the first block."""
    block, offset = divmod(start, BLOCK)
    done = 0
    while done < len(values):
        digest = xxh3_64()
        if before is not None and offset:
            digest.update(as_bytes(before))
        part = values[done : done + BLOCK - offset]
        digest.update(as_bytes(part))
        yield block, digest.intdigest() >> 1
        done, block, offset = done + len(part), block + 1, 0


def forget(view: NDArray[np.generic]) -> None:
    """Release the memory of a mapped array; its pages are read from the file again when needed."""
    if isinstance(view.base, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
        view.base._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def as_bytes(values: NDArray[np.generic]) -> memoryview:
    """Return the bytes of an array, without a copy if it is contiguous."""
    return memoryview(np.ascontiguousarray(values)).cast("B")  # type: ignore[arg-type]
