"""Sentence BLEU as a lexical score."""

from __future__ import annotations

from collections import Counter
from math import exp, fsum, log

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._lexical.scorer import LexicalScorer

_LONGEST = 4
_NO_MATCH = 0.1  # replaces 0 matches: the smoothing "method 1" of Chen and Cherry (2014)


class Bleu(LexicalScorer):
    """Sentence BLEU (Papineni et al., 2002) over `bleu_ngrams`, with the query as hypothesis and the row as reference.

    The score is smoothed, and 0 if no word is shared. For a query of fewer than four words, the n-grams go up to its
    length.
    """

    name = "ngram"

    @override
    def scores(self, query: str) -> NDArray[np.float64]:
        lists, length = self.lists, len(query.split())
        matches = np.zeros((_LONGEST, len(lists)), dtype=np.int32)
        by_size: list[list[int]] = [[] for _ in range(_LONGEST)]
        for gram, times in Counter(lists.analyzer(query)).items():
            column = lists.columns.get(gram)
            if column is None:
                continue
            size = gram.count(" ")  # words contain no space
            if times == 1:
                by_size[size].append(column)
            else:  # the smaller of both counts
                matches[size][lists.rows(column)] += np.minimum(lists.counts(column), times).astype(np.int32)
        for size, columns in enumerate(by_size):
            if columns:
                matches[size] += lists.shared(columns).astype(np.int32)
        found = np.flatnonzero(matches[0])
        scores = np.zeros(len(lists))
        if len(found):
            scores[found] = _precision(matches[:, found], length) * _brevity(length, _words_of(lists.lengths[found]))
        return scores


def _precision(matches: NDArray[np.int32], length: int) -> NDArray[np.float64]:
    """Return the geometric means of the n-gram precisions, f64[m], of the matches i32[4, m] of m rows."""
    totals = [max(1, length - size) for size in range(_LONGEST)]
    weights = [1 / length if size < length else 0.0 for size in range(_LONGEST)] if length < _LONGEST else [0.25] * 4
    codes = matches[0].astype(np.int64)
    for row in matches[1:]:
        codes = codes * (length + 1) + row
    _, first, places = np.unique(codes, return_index=True, return_inverse=True)
    means = np.empty(len(first))
    for place, counts in enumerate(matches[:, first].T.tolist()):
        shares = ((count or _NO_MATCH) / total for count, total in zip(counts, totals, strict=True))
        means[place] = exp(fsum(weight * log(share) for weight, share in zip(weights, shares, strict=True)))
    return means[places]


def _brevity(length: int, references: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the brevity penalty for queries that are shorter than the row."""
    penalty = np.ones(references.max() + 1)
    for size in np.unique(references).tolist():
        if size > length:
            penalty[size] = exp(1 - size / length)
    return penalty[references]


def _words_of(ngrams: NDArray[np.int32]) -> NDArray[np.int64]:
    """Infer the number of words of texts from their number of n-grams, which is 4 w - 6 from three words on."""
    counts = ngrams.astype(np.int64)
    return np.where(counts >= 6, (counts + 6) // 4, np.where(counts == 3, 2, np.minimum(counts, 1)))
