"""The one index behind all lexical scores: for each token the rows that hold it, and how often.

Rows are appended and marked as removed, never moved; the pool builds the lists anew when it compacts.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Rule = Callable[[str], list[str]]
"""Turns a text into its tokens, in order; equal rules are equal and can be keys of a dictionary."""

# A token in more than one row of _COMMON also gets a byte a row, so that counting it is one addition of arrays.
_COMMON = 64
_MOST_BYTES = 32
# New rows stay apart until they hold this many tokens and a quarter of the rest.
_APART = 4096


class Packed(NamedTuple):
    """The lists as arrays: the rows of column c are ``rows[starts[c] : starts[c + 1]]``, ascending.

    Attributes:
        starts: i64[c + 1].
        rows: i32[total].
        counts: unsigned[total], how often each row holds the token.
        slots: i32[c], the bitmap of a column, -1 where it has none.
        bitmaps: u8[slots, n], 1 where a row holds the column.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.unsignedinteger]
    slots: NDArray[np.int32]
    bitmaps: NDArray[np.uint8]


class PostingLists:
    """Tokens of a pool, compressed by column: int32 rows and small unsigned counts.

    Attributes:
        rule: How a text is cut.
        columns: Number of each token.
        lengths: int32[n], tokens of each row.
        distinct: int32[n], different tokens of each row.
        frequency: For each column the number of rows, removed ones left out, that hold the token.
        documents: Rows that are not removed.
        total: Tokens of these rows.
    """

    def __init__(self, rule: Rule) -> None:
        """Start without rows."""
        self.rule = rule
        self.columns: dict[str, int] = {}
        self.lengths: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self.distinct: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self.frequency: list[int] = []
        self.documents = 0
        self.total = 0
        self._rows: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self._counts: NDArray[np.unsignedinteger] = np.zeros(0, dtype=np.uint8)
        self._starts: NDArray[np.int64] = np.zeros(1, dtype=np.int64)
        self._merged = 0  # rows in the arrays; later ones are in the tail
        self._tail: dict[int, tuple[array[int], array[int]]] = {}
        self._tail_tokens = 0
        self._packed: Packed | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, vocabulary left out."""
        return sum(each.nbytes for each in (self.lengths, self.distinct, *self.packed)) + 8 * self._tail_tokens

    def add(self, texts: Sequence[str]) -> None:
        """Append one row for each text."""
        cut = [self.rule(text) for text in texts]
        columns = self.columns
        numbered = [[columns.setdefault(token, len(columns)) for token in tokens] for tokens in cut]
        first = len(self)
        if sum(map(len, numbered)) > max(_APART, len(self._rows) // 4):
            self._append(numbered, first)
        else:
            self._append_to_tail(numbered, first)
        self.documents += len(texts)
        self.total += sum(map(len, numbered))

    def remove(self, row: int, text: str) -> None:
        """Take a row out of `frequency`, `documents` and `total`; it stays in the lists."""
        for token in set(self.rule(text)):
            self.frequency[self.columns[token]] -= 1
        self.documents -= 1
        self.total -= int(self.lengths[row])

    def frequency_of(self, token: str) -> int:
        """The number of rows, removed ones left out, that hold a token."""
        column = self.columns.get(token)
        return 0 if column is None else self.frequency[column]

    def rows(self, column: int) -> NDArray[np.integer]:
        """The rows that hold a token, ascending, removed ones among them."""
        merged = self._rows[self._starts[column] : self._starts[column + 1]] if column < len(self._starts) - 1 else None
        return _joined(merged, self._tail[column][0] if column in self._tail else None)

    def counts(self, column: int) -> NDArray[np.integer]:
        """How often each of `rows` holds the token."""
        merged = (
            self._counts[self._starts[column] : self._starts[column + 1]] if column < len(self._starts) - 1 else None
        )
        return _joined(merged, self._tail[column][1] if column in self._tail else None)

    def known(self, tokens: Sequence[str]) -> list[int]:
        """The columns of those different tokens that stand in the pool, in the order of their first appearance."""
        columns = (self.columns.get(token) for token in dict.fromkeys(tokens))
        return [column for column in columns if column is not None]

    def entries(self) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Rows, columns and counts of all lists, removed rows among them; rows ascend within a column."""
        columns = np.repeat(np.arange(len(self._starts) - 1, dtype=np.int64), np.diff(self._starts))
        tail = sorted(self._tail.items())
        tail_columns = np.repeat([column for column, _ in tail], [len(rows) for _, (rows, _) in tail]).astype(np.int64)
        tail_rows = [np.array(rows) for _, (rows, _) in tail]
        tail_counts = [np.array(counts) for _, (_, counts) in tail]
        return (
            np.concatenate([self._rows, *tail_rows]),
            np.concatenate([columns, tail_columns]),
            np.concatenate([self._counts.astype(np.int64), *tail_counts]),
        )

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything but the rule, for a file.

        Returns:
            Arrays by name; `from_arrays` reads them.
        """
        rows, columns, counts = self.entries()
        order = np.argsort(columns, kind="stable")
        vocabulary = json.dumps(list(self.columns), ensure_ascii=False).encode()
        return {
            "rows": rows[order],
            "counts": counts[order].astype(np.min_scalar_type(int(counts.max(initial=0)))),
            "starts": np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=len(self.columns)))]),
            "lengths": self.lengths,
            "distinct": self.distinct,
            "vocabulary": np.frombuffer(vocabulary, dtype=np.uint8),
        }

    @classmethod
    def from_arrays(cls, rule: Rule, arrays: Mapping[str, NDArray[Any]]) -> PostingLists:
        """The lists that `to_arrays` wrote, where no row had been removed.

        Args:
            rule: How texts were cut.
            arrays: The arrays.

        Returns:
            The lists.
        """
        lists = cls(rule)
        terms: list[str] = json.loads(arrays["vocabulary"].tobytes())
        lists.columns = {term: column for column, term in enumerate(terms)}
        lists._rows, lists._counts, lists._starts = arrays["rows"], arrays["counts"], arrays["starts"]
        lists.lengths, lists.distinct = arrays["lengths"], arrays["distinct"]
        lists.frequency = np.diff(lists._starts).tolist()
        lists.documents = lists._merged = len(lists.lengths)
        lists.total = int(lists.lengths.sum(dtype=np.int64))
        return lists

    def shared(self, columns: Sequence[int]) -> NDArray[np.integer]:
        """Count for every row how many of some tokens it holds.

        Args:
            columns: Different columns.

        Returns:
            u8[n], or u32[n] where there are more than 255 columns.
        """
        held: NDArray[np.integer] = np.zeros(len(self), dtype=np.uint8 if len(columns) < 256 else np.uint32)
        packed, tail = self.packed, self._tail
        merged = held[: self._merged]
        for column in columns:
            if column < len(packed.slots):
                slot = packed.slots[column]
                if slot >= 0:
                    np.add(merged, packed.bitmaps[slot], out=merged)
                else:
                    held[packed.rows[packed.starts[column] : packed.starts[column + 1]]] += 1
            if column in tail:
                held[np.array(tail[column][0])] += 1
        return held

    @property
    def whole(self) -> bool:
        """Whether all rows are in `packed`."""
        return self._merged == len(self)

    @property
    def packed(self) -> Packed:
        """The arrays, without the rows that were added of late."""
        if self._packed is None:
            sizes = np.diff(self._starts)
            common = np.flatnonzero(sizes * _COMMON > self._merged)
            common = np.sort(common[np.argsort(-sizes[common], kind="stable")[:_MOST_BYTES]])
            slots = np.full(len(sizes), -1, dtype=np.int32)
            slots[common] = np.arange(len(common))
            bitmaps = np.zeros((len(common), self._merged), dtype=np.uint8)
            for slot, column in enumerate(common.tolist()):
                bitmaps[slot, self._rows[self._starts[column] : self._starts[column + 1]]] = 1
            self._packed = Packed(self._starts, self._rows, self._counts, slots, bitmaps)
        return self._packed

    def _append_to_tail(self, numbered: Sequence[Sequence[int]], first: int) -> None:
        self.frequency.extend([0] * (len(self.columns) - len(self.frequency)))
        distinct: list[int] = []
        for row, held in enumerate(numbered, first):
            counted = Counter(held)
            distinct.append(len(counted))
            self._tail_tokens += len(counted)
            for column, count in counted.items():
                rows, counts = self._tail.setdefault(column, (array("i"), array("i")))
                rows.append(row)
                counts.append(count)
                self.frequency[column] += 1
        self.lengths = np.append(self.lengths, np.array([len(held) for held in numbered], dtype=np.int32))
        self.distinct = np.append(self.distinct, np.array(distinct, dtype=np.int32))
        if self._tail_tokens > max(_APART, len(self._rows) // 4):
            self._append([], len(self))

    def _append(self, numbered: Sequence[Sequence[int]], first: int) -> None:
        """Put the tail and new rows into the arrays."""
        rows, columns, counts = self.entries()
        lengths = np.array([len(held) for held in numbered], dtype=np.int32)
        n = first + len(numbered)
        flat = np.fromiter((column for held in numbered for column in held), dtype=np.int64, count=int(lengths.sum()))
        # Sorted by column, then by row: the order of the compressed form.
        keys, times = np.unique(
            flat * n + np.repeat(np.arange(first, n, dtype=np.int64), lengths), return_counts=True
        )  # fmt: skip
        new_columns, new_rows = np.divmod(keys, max(n, 1))
        columns = np.concatenate([columns, new_columns])
        order = np.argsort(columns, kind="stable")  # the new rows are all later ones
        self._rows = np.concatenate([rows, new_rows.astype(np.int32)])[order]
        counts = np.concatenate([counts, times])[order]
        self._counts = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
        per_column = np.bincount(columns, minlength=len(self.columns))
        self._starts = np.concatenate([[0], np.cumsum(per_column)]).astype(np.int64)
        self.frequency.extend([0] * (len(self.columns) - len(self.frequency)))
        added = np.bincount(new_columns, minlength=len(self.columns))
        for column in np.flatnonzero(added).tolist():
            self.frequency[column] += int(added[column])
        if len(numbered):
            self.lengths = np.append(self.lengths, lengths)
            distinct = np.bincount(new_rows - first, minlength=len(numbered))
            self.distinct = np.append(self.distinct, distinct.astype(np.int32))
        self._merged, self._tail, self._tail_tokens, self._packed = n, {}, 0, None


def _joined(merged: NDArray[np.integer] | None, tail: array[int] | None) -> NDArray[np.integer]:
    if tail is None:
        return np.zeros(0, dtype=np.int32) if merged is None else merged
    later = np.array(tail)  # a copy: an array whose memory is lent out cannot grow
    return later if merged is None else np.concatenate([merged, later])
