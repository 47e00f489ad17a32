"""The inverted index of all lexical scores: the rows that contain each term, with the number of occurrences."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit._lexical.analysis import Analyzer

# A term in more than 1 of _COMMON rows also gets a bitmap with one byte per row; counting it is one array addition.
_COMMON = 64
_MAX_BITMAPS = 32
# New rows are kept in a small tail until it has more entries than this and than a quarter of the arrays.
_TAIL = 4096


class Arrays(NamedTuple):
    """The posting lists as arrays: the rows of column c are ``rows[starts[c] : starts[c + 1]]``, in ascending order.

    Attributes:
        starts: i64[c + 1], the start of each column in the other arrays.
        rows: i32[total], the rows of all columns.
        counts: unsigned[total], the number of times that each row contains the term.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.unsignedinteger]


class Bitmaps(NamedTuple):
    """Bitmaps of the most frequent terms of `Arrays`, with one byte per row.

    Attributes:
        slots: i32[c], the index of the bitmap of each column; -1 for a column without one.
        bits: u8[slots, n], 1 for a row that contains the term of the column.
    """

    slots: NDArray[np.int32]
    bits: NDArray[np.uint8]


class PostingLists:
    """An inverted index of a list of texts. Rows are appended or marked as removed; only `compact` moves them.

    Attributes:
        analyzer: Turns a text into its terms.
        columns: The column of each term.
        lengths: i32[n], the number of terms in each row.
        distinct: i32[n], the number of different terms in each row.
        live: bool[n], False for removed rows.
        documents: The number of rows that are not removed.
        total: The number of terms in these rows.
        version: A number that grows with every change.
        arrays: The entries, without those of the rows that were added last; see `merged`.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        """Create an index without rows."""
        self.analyzer = analyzer
        self.columns: dict[str, int] = {}
        self.lengths: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self.distinct: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self.live: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self.documents = self.total = self.version = 0
        self.arrays = Arrays(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.uint8))
        self._merged = 0  # the number of rows in the arrays; later rows are in the tail
        self._tail: dict[int, tuple[array[int], array[int]]] = {}
        self._tail_entries = 0
        self._bitmaps: Bitmaps | None = None
        self._frequencies: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """The size of the arrays in bytes, without the vocabulary."""
        arrays = (self.lengths, self.distinct, self.live, *self.arrays, *self.bitmaps)
        return sum(each.nbytes for each in arrays) + 8 * self._tail_entries

    @property
    def removed(self) -> bool:
        """Whether some rows are removed."""
        return self.documents < len(self)

    def add(self, texts: Sequence[str]) -> None:
        """Append one row for each text."""
        vocabulary, first, n = self.columns, len(self), len(self) + len(texts)
        numbered = [[vocabulary.setdefault(term, len(vocabulary)) for term in self.analyzer(text)] for text in texts]
        lengths = np.array(list(map(len, numbered)), dtype=np.int32)
        flat = np.fromiter(chain.from_iterable(numbered), dtype=np.int64, count=int(lengths.sum(dtype=np.int64)))
        # Sorted by column and then by row, as the arrays are.
        keys, counts = np.unique(flat * n + np.repeat(np.arange(first, n), lengths), return_counts=True)
        columns, rows = np.divmod(keys, max(n, 1))
        self.lengths = np.append(self.lengths, lengths)
        self.distinct = np.append(self.distinct, np.bincount(rows - first, minlength=len(texts)).astype(np.int32))
        self.live = np.append(self.live, np.ones(len(texts), dtype=np.bool_))
        if self._tail_entries + len(keys) > max(_TAIL, len(self.arrays.rows) // 4):
            held = self.entries()
            new = rows.astype(np.int32), columns, counts
            self._store(*(np.concatenate([old, later]) for old, later in zip(held, new, strict=True)))
        else:
            self._tail_entries += len(keys)
            for row, column, count in zip(rows.tolist(), columns.tolist(), counts.tolist(), strict=True):
                tail = self._tail.setdefault(column, (array("i"), array("i")))
                tail[0].append(row)
                tail[1].append(count)
        self._changed()

    def remove(self, rows: Sequence[int] | NDArray[np.integer]) -> None:
        """Mark rows as removed; they remain in the lists until `compact` is called."""
        self.live[rows] = False
        self._changed()

    def compact(self) -> None:
        """Drop the removed rows, and the terms that only they contain; later rows move up."""
        rows, columns, counts = self.entries()
        kept = self.live[rows]
        used, columns = np.unique(columns[kept], return_inverse=True)
        terms = list(self.columns)
        self.columns = {terms[column]: place for place, column in enumerate(used.tolist())}
        self.lengths, self.distinct = self.lengths[self.live], self.distinct[self.live]
        self._store((np.cumsum(self.live) - 1)[rows[kept]], columns, counts[kept])
        self.live = self.live[self.live]
        self._changed()

    def merge(self) -> None:
        """Move the entries of the tail into the arrays."""
        self._store(*self.entries())
        self._changed()

    def frequency(self, column: int) -> int:
        """Return the number of rows that contain a term, without removed rows."""
        found = self._frequencies.get(column)
        if found is None:
            rows = self.rows(column)
            found = self._frequencies[column] = int(np.count_nonzero(self.live[rows])) if self.removed else len(rows)
        return found

    def frequencies(self) -> NDArray[np.int64]:
        """Return the number of rows that contain each term, without removed rows, i64[c]."""
        rows, columns, _ = self.entries()
        return np.bincount(columns[self.live[rows]], minlength=len(self.columns))

    def rows(self, column: int) -> NDArray[np.integer]:
        """Return the rows that contain a term, in ascending order, including removed rows."""
        return self._joined(self.arrays.rows, column, 0)

    def counts(self, column: int) -> NDArray[np.integer]:
        """Return the number of times that each of `rows` contains a term."""
        return self._joined(self.arrays.counts, column, 1)

    def known(self, terms: Iterable[str]) -> list[int]:
        """Return the columns of the different terms that are in the index, in the order of their first appearance."""
        column_of = self.columns.get
        return [column for term in dict.fromkeys(terms) if (column := column_of(term)) is not None]

    def entries(self) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows, columns and counts of all entries, including removed rows; rows ascend within a column."""
        starts, rows, counts = self.arrays
        columns = np.repeat(np.arange(len(starts) - 1, dtype=np.int64), np.diff(starts))
        tail = sorted(self._tail.items())
        tail_columns = np.repeat([column for column, _ in tail], [len(rows) for _, (rows, _) in tail]).astype(np.int64)
        return (
            np.concatenate([rows, *(np.array(rows) for _, (rows, _) in tail)]),
            np.concatenate([columns, tail_columns]),
            np.concatenate([counts.astype(np.int64), *(np.array(counts) for _, (_, counts) in tail)]),
        )

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return everything except the analyzer as arrays by name, which `from_arrays` reads."""
        self.merge()
        vocabulary = json.dumps(list(self.columns), ensure_ascii=False).encode()
        held = {"lengths": self.lengths, "distinct": self.distinct, "live": self.live}
        return {**self.arrays._asdict(), **held, "vocabulary": np.frombuffer(vocabulary, dtype=np.uint8)}

    @classmethod
    def from_arrays(cls, analyzer: Analyzer, arrays: Mapping[str, NDArray[Any]]) -> PostingLists:
        """Restore the lists of `to_arrays`, which were created with this analyzer."""
        lists = cls(analyzer)
        terms: list[str] = json.loads(arrays["vocabulary"].tobytes())
        _check(terms, arrays)
        lists.columns = {term: column for column, term in enumerate(terms)}
        lists.arrays = Arrays(arrays["starts"], arrays["rows"], arrays["counts"])
        lists.lengths, lists.distinct, lists.live = arrays["lengths"], arrays["distinct"], arrays["live"]
        lists._merged = len(lists.lengths)
        lists._changed()
        return lists

    def shared(self, columns: Sequence[int]) -> NDArray[np.integer]:
        """Count how many of some different columns each row contains: u8[n], or u32[n] for more than 255 columns."""
        found: NDArray[np.integer] = np.zeros(len(self), dtype=np.uint8 if len(columns) < 256 else np.uint32)
        (starts, rows, _), (slots, bits), merged = self.arrays, self.bitmaps, found[: self._merged]
        for column in columns:
            if column < len(slots):
                if slots[column] >= 0:
                    np.add(merged, bits[slots[column]], out=merged)
                else:
                    found[rows[starts[column] : starts[column + 1]]] += 1
            if column in self._tail:
                found[np.array(self._tail[column][0])] += 1
        return found

    @property
    def merged(self) -> bool:
        """Whether all rows are in `arrays`."""
        return self._merged == len(self)

    @property
    def bitmaps(self) -> Bitmaps:
        """The bitmaps of `arrays`."""
        if self._bitmaps is None:
            starts, rows, _ = self.arrays
            sizes = np.diff(starts)
            common = np.flatnonzero(sizes * _COMMON > self._merged)
            common = np.sort(common[np.argsort(-sizes[common], kind="stable")[:_MAX_BITMAPS]])
            slots = np.full(len(sizes), -1, dtype=np.int32)
            slots[common] = np.arange(len(common))
            bits = np.zeros((len(common), self._merged), dtype=np.uint8)
            for slot, column in enumerate(common.tolist()):
                bits[slot, rows[starts[column] : starts[column + 1]]] = 1
            self._bitmaps = Bitmaps(slots, bits)
        return self._bitmaps

    def _store(self, rows: NDArray[Any], columns: NDArray[Any], counts: NDArray[Any]) -> None:
        """Replace the arrays by these entries, whose rows ascend within a column, and empty the tail."""
        order = np.argsort(columns, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=len(self.columns)))])
        smallest = np.min_scalar_type(int(counts.max(initial=0)))
        self.arrays = Arrays(starts.astype(np.int64), rows[order].astype(np.int32), counts[order].astype(smallest))
        self._merged, self._tail, self._tail_entries, self._bitmaps = len(self.lengths), {}, 0, None

    def _joined(self, entries: NDArray[np.integer], column: int, part: int) -> NDArray[np.integer]:
        """Return the entries of a column in an array, followed by those in the tail."""
        starts = self.arrays.starts
        found = entries[starts[column] : starts[column + 1]] if column < len(starts) - 1 else entries[:0]
        if column not in self._tail:
            return found
        later = np.array(self._tail[column][part])  # a copy, as an array cannot grow while its buffer is in use
        return np.concatenate([found, later]) if len(found) else later

    def _changed(self) -> None:
        self.documents = int(np.count_nonzero(self.live))
        self.total = int(np.sum(self.lengths, where=self.live, dtype=np.int64))
        self.version += 1
        self._frequencies = {}


def _check(terms: list[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Check arrays from a file: the compiled search reads them without checking any index.

    Raises:
        ValueError: If they are not those of posting lists.
    """
    starts, rows, counts = arrays["starts"], arrays["rows"], arrays["counts"]
    lengths, distinct, live = arrays["lengths"], arrays["distinct"], arrays["live"]
    types = [each.dtype.str for each in (starts, rows, lengths, distinct, live)]
    if (
        types != ["<i8", "<i4", "<i4", "<i4", "|b1"]
        or counts.dtype.kind != "u"
        or any(each.ndim != 1 for each in arrays.values())
    ):
        raise ValueError("arrays of other types")
    if not len(terms) == len(set(terms)) == len(starts) - 1 or not all(isinstance(term, str) for term in terms):
        raise ValueError("another vocabulary")
    if starts[0] != 0 or np.any(np.diff(starts) < 0) or not starts[-1] == len(rows) == len(counts):
        raise ValueError("entries that do not fit the terms")
    columns = np.repeat(np.arange(len(terms)), np.diff(starts))
    if not len(lengths) == len(distinct) == len(live) or np.any((rows < 0) | (rows >= len(lengths))):
        raise ValueError("rows that do not exist")
    ascending = (np.diff(rows) > 0) | (np.diff(columns) > 0)
    if np.any(lengths < 0) or np.any(counts < 1) or not (ascending.all() and np.all(distinct >= 0)):
        raise ValueError("counts that are wrong")
