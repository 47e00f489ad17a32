"""Compiled loops for long lists, with results that are bit-identical to those of the numpy code; they release the GIL.

They need numba, which the extra ``fast`` installs. Notation for shapes: m queries, n rows, c columns. Both loops take:

- columns: i64[sum], the known columns of all queries, one query after the other
- offsets: i64[m + 1], the start of the columns of each query
- starts, rows: i64[c + 1] and i32[total], the start of the rows of each column, and the rows of all columns
- excluded: bool[n], rows that must not be returned; bool[0] for none
- best_rows, best_scores, counts: i64[m, k], f64[m, k] and i64[m], filled in with the best rows of each query that share
  a term, their scores and their number
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from ragkit._lexical.tie_breaking import tie_break

_EACH = np.uint64(0x0101010101010101)
_HIGHEST = np.uint64(0x8080808080808080)

F = TypeVar("F", bound=Callable[..., object])
compiled: Callable[[F], F] = numba.njit(nogil=True, cache=True)
_tie_break = compiled(tie_break)


@compiled
def _is_better(score: float, row: int, than_score: float, than_row: int) -> bool:
    """Return whether a row ranks before another one."""
    return score > than_score or (score == than_score and _tie_break(row) < _tie_break(than_row))


@compiled
def _insert(rows: NDArray[np.int64], scores: NDArray[np.float64], found: int, row: int, score: float) -> int:
    """Insert a row into the k best ones so far if it is one of them; return the new number of rows."""
    k: int = rows.shape[0]
    if found == k and not _is_better(score, row, scores[k - 1], rows[k - 1]):
        return k
    at = found if found < k else k - 1
    while at > 0 and _is_better(score, row, scores[at - 1], rows[at - 1]):
        rows[at] = rows[at - 1]
        scores[at] = scores[at - 1]
        at -= 1
    rows[at] = row
    scores[at] = score
    return found + 1 if found < k else k


@compiled
def overlap(
    columns: NDArray[np.int64],
    offsets: NDArray[np.int64],
    asked: NDArray[np.int64],
    starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    slots: NDArray[np.int32],
    bits: NDArray[np.uint8],
    sizes: NDArray[np.int32],
    excluded: NDArray[np.bool_],
    jaccard: bool,  # noqa: FBT001 - numba takes positional arguments
    best_rows: NDArray[np.int64],
    best_scores: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None:
    """Find the best rows of each query by shared terms; a query may have at most 127 columns.

    - asked: i64[m], the number of different terms of each query
    - slots: i32[c], the index of the bitmap of each column; -1 for a column without one
    - bits: u8[slots, n], 1 for a row that contains the term of the column
    - sizes: i32[n], the number of different terms of each row
    - jaccard: whether to divide by the size of the union; otherwise by that of the query
    """
    n, k = sizes.shape[0], best_rows.shape[1]
    held = np.zeros((n + 7) // 8 * 8, dtype=np.uint8)
    eights = held.view(np.uint64)
    for query in range(asked.shape[0]):
        held[:] = 0
        for at in range(offsets[query], offsets[query + 1]):
            column = columns[at]
            slot = slots[column]
            if slot >= 0:
                bitmap = bits[slot]
                for row in range(n):
                    held[row] += bitmap[row]
            else:
                for place in range(starts[column], starts[column + 1]):
                    held[rows[place]] += 1
        for row in range(excluded.shape[0]):
            if excluded[row]:
                held[row] = 0
        found, least, size = 0, 1, asked[query]
        for eight in range(eights.shape[0]):
            # Eight rows at once: adding 128 - least sets the highest bit of every byte that is at least `least`.
            if not (eights[eight] + np.uint64(128 - least) * _EACH) & _HIGHEST:
                continue
            for row in range(8 * eight, min(8 * eight + 8, n)):
                shared = np.int64(held[row])
                if shared < least:
                    continue
                score = shared / (sizes[row] + (size - shared)) if jaccard else shared / size
                if found < k or _is_better(score, row, best_scores[query, k - 1], best_rows[query, k - 1]):
                    found = _insert(best_rows[query], best_scores[query], found, row, score)
                    if found == k:
                        # A row with fewer shared terms cannot reach the k-th best score, however short it is.
                        least = max(1, int(np.ceil(best_scores[query, k - 1] * size - 1e-9)))
        counts[query] = found


@compiled
def _weight(value: float, norm: float, idf: float, saturated: bool) -> float:  # noqa: FBT001
    """Compute the weight of a term in a row, with operations in the same order as in the numpy code."""
    return idf * (value / (value + norm)) if saturated else value * idf / norm


@compiled
def _find(rows: NDArray[np.int32], start: int, end: int, row: int) -> int:
    """Return the index of a row in a part of an ascending array; -1 if it is not there."""
    low, high = start, end
    while low < high:
        middle = (low + high) >> 1
        if rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low if low < end and rows[low] == row else -1


@compiled
def weighted(
    columns: NDArray[np.int64],
    offsets: NDArray[np.int64],
    factors: NDArray[np.float64],
    idfs: NDArray[np.float64],
    highest: NDArray[np.float64],
    starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    term_counts: NDArray[np.unsignedinteger],
    values: NDArray[np.float64],
    norms: NDArray[np.float64],
    excluded: NDArray[np.bool_],
    total: NDArray[np.float64],
    touched: NDArray[np.int32],
    saturated: bool,  # noqa: FBT001 - numba takes positional arguments
    best_rows: NDArray[np.int64],
    best_scores: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None:
    """Find the best rows of each query by the sum of weights, rounded to 9 decimals.

    Terms are added in order, the rarest first, until the remaining terms alone cannot lift a row into the best k. The
    remaining terms are then looked up only for rows that can still be among the best (MaxScore; Turtle and Flood,
    1995).

    The columns of a query are ordered from the rarest to the most frequent one.

    - factors, idfs, highest: f64[sum], the weight factor and the IDF of each column, and the most it can add to a row
    - term_counts: unsigned[total], the number of times that each of ``rows`` contains the term
    - values: f64[highest count + 1], the value of each count
    - norms: f64[n], the length normalisation of each row
    - total, touched: f64[n], all 0 before and after the call, and i32[n], overwritten: working memory
    - saturated: whether a weight is idf * (value / (value + norm)); otherwise it is value * idf / norm
    """
    n, k = norms.shape[0], best_rows.shape[1]
    ahead = np.empty(k)
    nowhere = np.empty(k, dtype=np.int64)
    for query in range(offsets.shape[0] - 1):
        first, last = offsets[query], offsets[query + 1]
        reached, left, least = 0, 0.0, 0.0
        for at in range(first, last):
            left += highest[at]
        at = first
        while at < last:
            column = columns[at]
            start, end = starts[column], starts[column + 1]
            if (end - start) * 64 > n:
                found = 0
                for place in range(reached):
                    row = touched[place]
                    if excluded.shape[0] and excluded[row]:
                        continue
                    if found < k or total[row] > ahead[k - 1]:
                        found = _insert(nowhere, ahead, found, row, total[row])
                if found == k and left + 1e-8 < ahead[k - 1]:
                    least = ahead[k - 1] - 1e-8
                    break
            for place in range(start, end):
                row = rows[place]
                if total[row] == 0.0:
                    touched[reached] = row
                    reached += 1
                total[row] += factors[at] * _weight(values[term_counts[place]], norms[row], idfs[at], saturated)
            left -= highest[at]
            at += 1
        found = 0
        # Process the rows that are ahead first: most others can then be skipped by the upper bound of their score.
        for place in range(-k if at < last else 0, reached):
            row = nowhere[place + k] if place < 0 else touched[place]
            score = total[row]
            total[row] = -1.0 if place < 0 else 0.0
            if score < 0.0 or (excluded.shape[0] and excluded[row]):
                continue
            if found == k:
                least = best_scores[query, k - 1] - 1e-8
            open_ = left
            for rest in range(at, last):
                if score + open_ < least:
                    break
                column = columns[rest]
                open_ -= highest[rest]
                spot = _find(rows, starts[column], starts[column + 1], row)
                if spot >= 0:
                    score += factors[rest] * _weight(values[term_counts[spot]], norms[row], idfs[rest], saturated)
            if score + 1e-8 < least:
                continue
            found = _insert(best_rows[query], best_scores[query], found, row, np.rint(score * 1e9) / 1e9)
        counts[query] = found
