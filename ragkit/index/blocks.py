"""The rows of an array file in blocks, each verified against its checksum before it is first read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64

from ragkit.errors import CorruptIndexError
from ragkit.index.array_file import ArrayFile, as_bytes
from ragkit.index.checksum import checksum
from ragkit.index.database import Database

BLOCK = 1024  # rows that share a checksum


class Blocks:
    """The rows of one commit in an array file.

    Attributes:
        path: The file.
        rows: Number of rows.
    """

    def __init__(self, file: ArrayFile, rows: int, database: Database, earlier: Blocks | None = None) -> None:
        """Map the rows and load their checksums, inside a snapshot. No row is read.

        Args:
            file: The file.
            rows: Number of rows.
            database: The database, which stores the checksums.
            earlier: The rows of an earlier commit in the same file; blocks verified for it are not verified again.

        Raises:
            CorruptIndexError: If the file is too short.
        """
        self.path, self.rows = file.path, rows
        self._values = file.view(rows)
        whole = earlier.rows // BLOCK if earlier else 0  # blocks without rows added since
        found = dict(database.blocks(file.path.stem, whole))
        later = range(whole, -(-rows // BLOCK))
        try:
            self._sums = np.array([found.get(block, -1) for block in later], dtype=np.int64)
        except (TypeError, ValueError, OverflowError) as error:
            raise CorruptIndexError(database.path, f"a checksum of {file.path.name} is not a number") from error
        self._unread = np.ones(len(later), dtype=np.bool_)
        if earlier:
            self._sums = np.concatenate([earlier._sums[:whole], self._sums])
            self._unread = np.concatenate([earlier._unread[:whole], self._unread])
        self._all_read = not self._unread.any()

    def all(self) -> NDArray[np.generic]:
        """Return all rows.

        Raises:
            CorruptIndexError: If a block does not match its checksum.
        """
        if not self._all_read:
            self._check(np.flatnonzero(self._unread).tolist())
            self._all_read = True
        return self._values

    @contextmanager
    def checked_meanwhile(self) -> Iterator[NDArray[np.generic]]:
        """Verify all rows in another thread while the ``with`` block computes with them.

        Both threads read the rows at about the same speed and share disk reads and CPU caches, so the check adds
        hardly any time on a machine with two cores.

        Yields:
            All rows. Discard anything computed from them if an error is raised at the end of the block.

        Raises:
            CorruptIndexError: If a block does not match its checksum.
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

    def since(self, row: int) -> NDArray[np.generic]:
        """Return the rows from an index to the end.

        Raises:
            CorruptIndexError: If a block that contains one of them does not match its checksum.
        """
        first = row // BLOCK
        self._check((np.flatnonzero(self._unread[first:]) + first).tolist())
        return self._values[row:]

    def take(self, rows: NDArray[np.integer]) -> NDArray[np.generic]:
        """Return rows by index.

        Args:
            rows: int[...], row indices; -1 is the last row, as in NumPy.

        Raises:
            CorruptIndexError: If a block that contains one of them does not match its checksum.
        """
        if not self._all_read:
            blocks = np.unique((rows if rows.size and rows.min() >= 0 else rows % max(1, self.rows)) // BLOCK)
            self._check(blocks[self._unread[blocks]].tolist())
        return np.asarray(self._values[rows])

    def _check(self, blocks: Iterable[int]) -> None:
        for block in blocks:
            if checksum(as_bytes(self._values[block * BLOCK : (block + 1) * BLOCK])) != self._sums[block]:
                raise CorruptIndexError(self.path, f"block {block} is not what was written")
            self._unread[block] = False

    def problems(self) -> Iterator[str]:
        """Verify all blocks again.

        Yields:
            A description of each problem.
        """
        for block in range(len(self._sums)):
            try:
                self._check([block])
            except CorruptIndexError as error:
                yield str(error)

    def sums_with(self, values: NDArray[np.generic]) -> Iterator[tuple[int, int]]:
        """Compute the checksums of the blocks that change when rows are appended.

        Args:
            values: The new rows as stored.

        Returns:
            Pairs of block number and checksum.

        Raises:
            CorruptIndexError: If the last block, which the new rows extend, does not match its checksum.
        """
        start = self.rows - self.rows % BLOCK
        return block_sums(values, self.rows, self.take(np.arange(start, self.rows)))


def block_sums(
    values: NDArray[np.generic], start: int = 0, before: NDArray[np.generic] | None = None
) -> Iterator[tuple[int, int]]:
    """Compute the checksums of blocks.

    Args:
        values: The rows.
        start: Index of the first row.
        before: The preceding rows of its block; None if the first row begins a block.

    Yields:
        Pairs of block number and checksum.
    """
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
