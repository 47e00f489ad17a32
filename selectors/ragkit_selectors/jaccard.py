"""Likeness of word sets: shared words divided by all words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.records import Example
from ragkit.text import words
from ragkit_selectors.pool import PoolSelector
from ragkit_selectors.ranking import Ranked, best_of_pool


class JaccardSelector(PoolSelector):
    """Choose the examples whose words are most like the query's: |A ∩ B| / |A ∪ B|, 0 where both are empty.

    Attributes:
        mode: How a text becomes a set of words.

    Examples:
        >>> pool = [{"input": "dim the lamp", "output": "light"}, {"input": "play a song", "output": "music"}]
        >>> hit = JaccardSelector(pool).select("Dim the lights!", k=1).hits[0]
        >>> hit.id, hit.why
        ('0', {'matched': ['dim', 'the'], 'jaccard': 0.5})
    """

    def __init__(
        self,
        examples: Sequence[Example | Mapping[str, object]],
        *,
        key: str = "input",
        mode: Literal["folded", "split"] = "folded",
    ) -> None:
        """Read and index the pool.

        Args:
            examples: Examples, or mappings with ``input`` and ``output``.
            key: ``"input"`` to search whole inputs, or the name of one of their fields.
            mode: ``"folded"`` for lower-case words without punctuation, ``"split"`` for exactly ``set(s.split(" "))``.

        Raises:
            InvalidInputError: If ``mode`` is neither.
        """
        if mode not in {"folded", "split"}:
            raise InvalidInputError(f"`mode` must be 'folded' or 'split', got {mode!r}")
        super().__init__(examples, key=key)
        self.mode = mode
        sets = [self._words(text) for text in self._texts]
        self._columns: dict[str, int] = {}
        columns = [self._columns.setdefault(word, len(self._columns)) for found in sets for word in found]
        column = np.array(columns, dtype=np.int32)
        self._sizes = np.array([len(found) for found in sets], dtype=np.int32)
        row = np.repeat(np.arange(len(sets), dtype=np.int32), self._sizes)
        # CSC without values: the rows that hold word c are _postings[_starts[c] : _starts[c + 1]].
        self._postings = row[np.argsort(column, kind="stable")]
        self._starts = np.concatenate(([0], np.cumsum(np.bincount(column, minlength=len(self._columns)))))

    def scores(self, query: str) -> NDArray[np.float64]:
        """Compare a text with the whole pool.

        Args:
            query: A text.

        Returns:
            f64[n], the Jaccard likeness of each example.
        """
        asked = self._words(query)
        known = [self._columns[word] for word in asked if word in self._columns]
        if not known:
            return np.zeros(len(self))
        postings = np.concatenate([self._postings[self._starts[c] : self._starts[c + 1]] for c in known])
        shared = np.bincount(postings, minlength=len(self))
        # A known word is asked for, so no union is empty; unknown words count in len(asked).
        return np.asarray(shared / (self._sizes + len(asked) - shared), dtype=np.float64)

    def _words(self, text: str) -> set[str]:
        return set(words(text)) if self.mode == "folded" else set(text.split(" "))

    @override
    def _ranked(self, texts: Sequence[str], k: int, skipped: NDArray[np.intp]) -> list[Ranked]:
        return [best_of_pool(self.scores(text), k, skipped) for text in texts]

    @override
    def _why(self, text: str, row: int, score: float) -> Mapping[str, object]:
        return {"matched": sorted(self._words(text) & self._words(self._texts[row])), "jaccard": score}
