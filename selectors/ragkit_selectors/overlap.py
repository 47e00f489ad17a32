"""Likeness of token sets: how much of the words of query and example is shared."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import accumulate, chain
from math import ceil
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.text import words
from ragkit_selectors.candidates import Candidates, best, best_of_pool
from ragkit_selectors.lexical import LexicalSelector, unpacked
from ragkit_selectors.pool import AnyExample, Pool
from ragkit_selectors.tokens import split

_RULES = {"folded": words, "split": split}


class OverlapSelector(LexicalSelector):
    """Ranks by the number of shared tokens, put in relation to the sizes of the two sets.

    Attributes:
        mode: How a text becomes a set of words.
    """

    def __init__(
        self,
        examples: Sequence[AnyExample] | Pool,
        *,
        key: str = "input",
        output: str = "output",
        mode: Literal["folded", "split"] = "folded",
    ) -> None:
        """Read and index the pool.

        Args:
            examples: Examples, or mappings with ``input`` and ``output``.
            key: ``"input"`` to search whole inputs, or the name of one of their fields.
            output: The entry of a mapping that holds the answer.
            mode: ``"folded"`` for lower-case words without punctuation, ``"split"`` for exactly ``set(s.split(" "))``.

        Raises:
            InvalidInputError: If ``mode`` is neither.
        """
        if mode not in _RULES:
            raise InvalidInputError(f"`mode` must be 'folded' or 'split', got {mode!r}")
        super().__init__(examples, _RULES[mode], key=key, output=output)
        self.mode = mode

    def scores(self, query: str) -> NDArray[np.float64]:
        """Compare a text with the whole pool.

        Args:
            query: A text.

        Returns:
            f64[n], the likeness of each row, removed ones among them.
        """
        lists, asked = self._lists, len(set(self.rule(query)))
        shared = lists.shared(lists.known(self.rule(query)))
        return self._likeness(shared.astype(np.int64), lists.distinct, asked)

    @staticmethod
    @abstractmethod
    def _likeness(shared: NDArray[np.int64], sizes: NDArray[np.int32], asked: int) -> NDArray[np.float64]:
        """The score of rows with ``shared`` tokens in common and ``sizes`` tokens; at most ``shared / asked``."""

    @override
    def _top(self, text: str, n: int, barred: NDArray[np.bool_] | None) -> Candidates:
        lists, tokens = self._lists, self.rule(text)
        asked, sizes = len(set(tokens)), lists.distinct
        shared = lists.shared(lists.known(tokens))
        if barred is not None:
            shared[barred] = 0
        least = int(shared.max())
        while least and np.count_nonzero(shared >= least) < n:
            least -= 1
        if not least:  # rows without a shared token are among the n
            return best_of_pool(self._likeness(shared.astype(np.int64), sizes, asked), n, barred)
        rows = np.flatnonzero(shared >= least)
        scores = self._likeness(shared[rows].astype(np.int64), sizes[rows], asked)
        # A row with fewer shared tokens can still be as good, down to this many.
        enough = max(1, ceil(float(np.partition(scores, len(rows) - n)[len(rows) - n]) * asked - 1e-9))
        if enough < least:
            rows = np.flatnonzero(shared >= enough)
            scores = self._likeness(shared[rows].astype(np.int64), sizes[rows], asked)
        return best(rows, scores, n)

    @override
    def _compiled(
        self, kernels: ModuleType, texts: Sequence[str], n: int, barred: NDArray[np.bool_]
    ) -> list[Candidates | None]:
        lists = self._lists
        get = lists.columns.get
        sets = [set(self.rule(text)) for text in texts]
        known = [
            [c for token in tokens if (c := get(token)) is not None] if len(tokens) < 128 else [] for tokens in sets
        ]
        columns = np.array(list(chain.from_iterable(known)), dtype=np.int64)
        offsets = np.array([0, *accumulate(map(len, known))], dtype=np.int64)
        asked = np.array(list(map(len, sets)), dtype=np.int64)
        starts, rows, _, slots, bitmaps = lists.packed
        filled = (np.empty((len(texts), n), dtype=np.int64), np.empty((len(texts), n)), np.zeros_like(asked))
        jaccard = self.measure == "jaccard"
        kernels.overlap(columns, offsets, asked, starts, rows, slots, bitmaps, lists.distinct, barred, jaccard, *filled)
        return unpacked(*filled)

    @override
    def _config(self) -> dict[str, object]:
        return {"mode": self.mode}


class JaccardSelector(OverlapSelector):
    """Choose the examples whose words are most like the query's: |A ∩ B| / |A ∪ B|, 0 where both are empty.

    Examples:
        >>> pool = [{"input": "dim the lamp", "output": "light"}, {"input": "play a song", "output": "music"}]
        >>> hit = JaccardSelector(pool).select("Dim the lights!", k=1).hits[0]
        >>> hit.id, hit.why
        ('0', {'matched': ['dim', 'the'], 'jaccard': 0.5})
    """

    measure = "jaccard"

    @staticmethod
    @override
    def _likeness(shared: NDArray[np.int64], sizes: NDArray[np.int32], asked: int) -> NDArray[np.float64]:
        union = sizes + (asked - shared)
        return shared / (union if asked else np.maximum(union, 1))


class ContainmentSelector(OverlapSelector):
    """Choose the examples that hold most of the query's words, however long they are: |A ∩ B| / |A|.

    Examples:
        >>> pool = [{"input": "dim", "output": "a"}, {"input": "please dim the old lamp in the hall", "output": "b"}]
        >>> ContainmentSelector(pool).select("dim the lamp", k=1)[0].output
        'b'
    """

    measure = "containment"

    @staticmethod
    @override
    def _likeness(shared: NDArray[np.int64], sizes: NDArray[np.int32], asked: int) -> NDArray[np.float64]:
        return shared / max(asked, 1)
