"""The rows of an array file, each block of which is checked against its checksum before it is first read."""

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
            earlier: The rows of an earlier commit in the same file; what was checked then is not checked again.

        Raises:
            CorruptIndexError: If the file is too short.
        """
        self.path, self.rows = file.path, rows
        self._values = file.view(rows)
        whole = earlier.rows // BLOCK if earlier else 0  # blocks that the rows added since are not part of
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
            CorruptIndexError: If a block is not what was written.
        """
        if not self._all_read:
            self._check(np.flatnonzero(self._unread).tolist())
            self._all_read = True
        return self._values

    @contextmanager
    def checked_meanwhile(self) -> Iterator[NDArray[np.generic]]:
        """Check all rows in another thread while the ``with`` block computes with them.

        Both read the rows at about the same speed, so that they share what comes from the disk and the caches of the
        processor, and the check takes hardly any time on a machine with two cores.

        Yields:
            All rows. What was computed with them must not be used if an error is raised at the end.

        Raises:
            CorruptIndexError: If a block is not what was written.
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
        """Return the rows from a number on.

        Raises:
            CorruptIndexError: If a block that holds one of them is not what was written.
        """
        first = row // BLOCK
        self._check((np.flatnonzero(self._unread[first:]) + first).tolist())
        return self._values[row:]

    def take(self, rows: NDArray[np.integer]) -> NDArray[np.generic]:
        """Return some rows.

        Args:
            rows: int[...], numbers of rows; -1 stands for the last one, as in numpy.

        Raises:
            CorruptIndexError: If a block that holds one of them is not what was written.
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
        """Check all blocks again.

        Yields:
            What is wrong with them, in words.
        """
        for block in range(len(self._sums)):
            try:
                self._check([block])
            except CorruptIndexError as error:
                yield str(error)

    def sums_with(self, values: NDArray[np.generic]) -> Iterator[tuple[int, int]]:
        """Compute the checksums of the blocks that change when rows are appended.

        Args:
            values: The new rows, as they are stored.

        Returns:
            Numbers of blocks and their checksums.

        Raises:
            CorruptIndexError: If the last block, which the new rows become part of, is not what was written.
        """
        start = self.rows - self.rows % BLOCK
        return block_sums(values, self.rows, self.take(np.arange(start, self.rows)))


def block_sums(
    values: NDArray[np.generic], start: int = 0, before: NDArray[np.generic] | None = None
) -> Iterator[tuple[int, int]]:
    """Compute the checksums of blocks.

    Args:
        values: Rows.
        start: Number of the first of them.
        before: The rows before it in its block; None if it is the first of a block.

    Yields:
        Numbers of blocks and their checksums.
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
