"""Runs of shared words: the sentence BLEU of the query against each example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import exp, fsum, log

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit_selectors.candidates import Candidates, best_of_pool
from ragkit_selectors.lexical import LexicalSelector
from ragkit_selectors.pool import AnyExample, Pool
from ragkit_selectors.tokens import runs

_LONGEST = 4
_SMALL = 0.1  # stands for no match at all, as in the smoothing "method 1" of Chen and Cherry (2014)


class NgramSelector(LexicalSelector):
    """Choose the examples that share the most runs of one to four words with the query, words cut at white space.

    The score is sentence BLEU (Papineni et al., 2002) with the query as hypothesis and the example as reference,
    smoothed, 0 where no word is shared; up to three words the weights are spread over as many lengths. It was used
    to choose examples in arXiv 2212.02437 and by LangChain's n-gram selector, which gives all examples instead of k.

    Examples:
        >>> pool = [{"input": "the lamp dims", "output": "a"}, {"input": "dim the lamp now", "output": "b"}]
        >>> NgramSelector(pool).select("please dim the lamp", k=1)[0].output
        'b'
    """

    measure = "ngram"

    def __init__(self, examples: Sequence[AnyExample] | Pool, *, key: str = "input", output: str = "output") -> None:
        """Read and index the pool.

        Args:
            examples: Examples, or mappings with ``input`` and ``output``.
            key: ``"input"`` to search whole inputs, or the name of one of their fields.
            output: The entry of a mapping that holds the answer.
        """
        super().__init__(examples, runs, key=key, output=output)

    def scores(self, query: str) -> NDArray[np.float64]:
        """Compare a text with the whole pool.

        Args:
            query: A text.

        Returns:
            f64[n], the sentence BLEU of each row, removed ones among them.
        """
        lists, length = self._lists, len(query.split())
        matches = np.zeros((_LONGEST, len(lists)), dtype=np.int32)
        by_size: list[list[int]] = [[] for _ in range(_LONGEST)]
        for run, times in Counter(self.rule(query)).items():
            column = lists.columns.get(run)
            if column is None:
                continue
            size = run.count(" ")  # words within hold no space
            if times == 1:
                by_size[size].append(column)
            else:  # as often as it stands in both
                matches[size][lists.rows(column)] += np.minimum(lists.counts(column), times).astype(np.int32)
        for size, columns in enumerate(by_size):
            if columns:
                matches[size] += lists.shared(columns).astype(np.int32)
        found = np.flatnonzero(matches[0])
        scores = np.zeros(len(lists))
        if len(found):
            scores[found] = _bleu(matches[:, found], length) * _brevity(length, _words_of(lists.lengths[found]))
        return scores

    @override
    def _top(self, text: str, n: int, barred: NDArray[np.bool_] | None) -> Candidates:
        return best_of_pool(self.scores(text), n, barred)

    @override
    def _config(self) -> dict[str, object]:
        return {}


def _bleu(matches: NDArray[np.int32], length: int) -> NDArray[np.float64]:
    """The geometric mean of the shares of matched runs, once for each different combination of matches.

    Args:
        matches: i32[4, m], matched runs of each length.
        length: Words of the query.

    Returns:
        f64[m].
    """
    totals = [max(1, length - size) for size in range(_LONGEST)]
    weights = [1 / length if size < length else 0.0 for size in range(_LONGEST)] if length < _LONGEST else [0.25] * 4
    base = length + 1
    codes = matches[0].astype(np.int64)
    for row in matches[1:]:
        codes = codes * base + row
    different, first, places = np.unique(codes, return_index=True, return_inverse=True)
    means = np.empty(len(different))
    for place, counts in enumerate(matches[:, first].T.tolist()):
        shares = ((count or _SMALL) / total for count, total in zip(counts, totals, strict=True))
        means[place] = exp(fsum(weight * log(share) for weight, share in zip(weights, shares, strict=True)))
    return means[places]


def _brevity(length: int, references: NDArray[np.int64]) -> NDArray[np.float64]:
    """What a query shorter than the example is held back by."""
    penalty = np.ones(references.max() + 1)
    for size in np.unique(references).tolist():
        if size > length:
            penalty[size] = exp(1 - size / length)
    return penalty[references]


def _words_of(runs_: NDArray[np.int32]) -> NDArray[np.int64]:
    """Words of texts with this many runs of one to four of them: 4w - 6 from three words on."""
    counts = runs_.astype(np.int64)
    return np.where(counts >= 6, (counts + 6) // 4, np.where(counts == 3, 2, np.minimum(counts, 1)))
