"""Checks of a pool of examples: duplicates, contradictions, and leaked test rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ragkit._text import folded
from ragkit.errors import EmptyPoolError, InvalidInputError
from ragkit_selectors.example_parsing import read_example
from ragkit_selectors.near_duplicates import Pair, near_duplicates
from ragkit_selectors.pool import AnyExample

MOST_CANDIDATES = 1000  # mean number of pairs per row that are compared by default


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCheck:
    """The result of a pool check, with rows as indices.

    Attributes:
        rows: Number of rows of the pool.
        duplicates: Pairs with the same input, ignoring case and punctuation; each later row is paired with the first.
        near_duplicates: Pairs with nearly the same words.
        conflicts: Duplicates and near-duplicates with different outputs.
        test_rows: Number of test rows.
        leaks: Pool and test rows with the same input, ignoring case and punctuation; one pair for each leaked test row.
        near_leaks: Pool and test rows with nearly the same words; one pair for each test row that is not in `leaks`.
        labels: Number of rows of each output, the most frequent first.
        near_searched: Whether the search for near-duplicates was completed; if not, none are reported.
    """

    rows: int
    duplicates: tuple[Pair, ...]
    near_duplicates: tuple[Pair, ...]
    conflicts: tuple[Pair, ...]
    test_rows: int
    leaks: tuple[Pair, ...]
    near_leaks: tuple[Pair, ...]
    labels: tuple[tuple[str, int], ...]
    near_searched: bool = True

    @property
    def clean(self) -> bool:
        """Whether there are no duplicates, conflicts or leaks, exact or near."""
        return not (self.duplicates or self.near_duplicates or self.leaks or self.near_leaks)


def check_pool(
    examples: Sequence[AnyExample],
    test: Sequence[AnyExample] = (),
    *,
    near: float = 0.9,
    key: str = "input",
    output: str = "output",
    most_candidates: int | None = MOST_CANDIDATES,
) -> PoolCheck:
    """Find duplicates, contradictions and leaked test rows.

    Args:
        examples: The pool.
        test: Test rows, which should not appear in the pool.
        near: Minimum Jaccard similarity of the words of near-duplicates, above 0 and at most 1.
        key: The part of an input that is compared.
        output: The entry of a mapping that contains the answer.
        most_candidates: Maximum mean number of pairs per row that are compared in the search for near-duplicates; the
            search is abandoned if there are more, or if it finds a million pairs. None for no limit.

    Returns:
        The findings.

    Raises:
        EmptyPoolError: If there are no examples.
        InvalidInputError: If ``near`` is out of range.
    """
    if not 0 < near <= 1:
        raise InvalidInputError(f"`near` must be above 0 and at most 1, got {near!r}")
    pool = [read_example(row, f"examples[{place}]", output) for place, row in enumerate(examples)]
    held_out = [read_example(row, f"test[{place}]", output) for place, row in enumerate(test)]
    if not pool:
        raise EmptyPoolError("check_pool")
    texts = [row.text(key) for row in (*pool, *held_out)]
    wholes = [folded(text) for text in texts]
    same, near_pairs = _same(wholes), near_duplicates(texts, wholes, near, most_candidates)
    alike = near_pairs or []
    size = len(pool)
    inside = [[pair for pair in pairs if pair.second < size] for pairs in (same, alike)]
    across = [
        [Pair(pair.first, pair.second - size, pair.similarity) for pair in pairs if pair.first < size <= pair.second]
        for pairs in (same, alike)
    ]
    leaked = {pair.second for pair in across[0]}
    near_leaks: dict[int, Pair] = {}
    for pair in across[1]:
        if pair.second not in leaked and pair.similarity > near_leaks.get(pair.second, Pair(0, 0, 0.0)).similarity:
            near_leaks[pair.second] = pair
    return PoolCheck(
        rows=size,
        duplicates=tuple(inside[0]),
        near_duplicates=tuple(inside[1]),
        conflicts=tuple(
            pair for pairs in inside for pair in pairs if pool[pair.first].output != pool[pair.second].output
        ),
        test_rows=len(held_out),
        leaks=tuple(across[0]),
        near_leaks=tuple(near_leaks[row] for row in sorted(near_leaks)),
        labels=tuple(Counter(row.output for row in pool).most_common()),
        near_searched=near_pairs is not None,
    )


def _same(wholes: Sequence[str]) -> list[Pair]:
    first: dict[str, int] = {}
    pairs = (Pair(first.setdefault(whole, place), place, 1.0) for place, whole in enumerate(wholes))
    return [pair for pair in pairs if pair.first != pair.second]
