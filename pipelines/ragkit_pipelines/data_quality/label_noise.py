"""Rank rows whose labels are worth a look, and estimate how many of them are wrong.

A classifier that was not trained on a row predicts its label. If it prefers another label, the row is difficult or its
label is wrong. The rank of the given label among all labels distinguishes the two: the correct label of a difficult row
is usually the second or third choice, whereas a label that was assigned by mistake is like a label drawn at random. The
share of labels in the lowest ranks is therefore a measure of noise, and labels drawn at random show how well it can be
found: what precision to expect if the most suspicious rows are removed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit._progress import progress
from ragkit._text import words
from ragkit.errors import InvalidInputError
from ragkit.finetuning._classifier import fit_logistic
from ragkit.records import Example

MIN_PRECISION = 0.8  # rows are removed only if at least this share of them is expected to have a wrong label
_HIGHEST_PRECISION = 0.9  # no more is promised, because mistakes are not entirely like labels drawn at random
_CAUTION = 0.05  # the promised precision is lower than the estimated one
_FEWEST = 20  # of fewer rows, no share can be promised
_SUSPICIOUS = 0.1  # a row is worth a look if its label is at most this times as probable as the best one
_LOWEST_RANKS = 0.2  # share of the ranks in which correct labels are rare
_ONE_SIDED = 1.645  # 95 % quantile of the normal distribution
_DRAWS = 20  # random labels per row
# More rows times labels are classified by naive Bayes, whose time is proportional to the rows.
_LARGE = 500_000
_SMOOTHING = 0.3  # less makes the probabilities more extreme, and the promised precision too high
_HASHED = 2**16  # features of naive Bayes
_BLOCK = 10_000  # rows that are predicted at once
_FEATURES: dict[str, Any] = {"ngram_range": (1, 2), "sublinear_tf": True, "token_pattern": None}
_ASCII_TOKEN = re.compile(r"\w+|\S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A row whose label is worth a look.

    Attributes:
        index: Index of the row.
        given: The label of the row.
        predicted: The most probable label according to a classifier that was not trained on the row.
        confidence: Probability of the given label according to this classifier.
        predicted_confidence: Probability of the predicted label.
    """

    index: int
    given: str
    predicted: str
    confidence: float
    predicted_confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelNoise:
    """An estimate of the number of wrong labels.

    Attributes:
        rows: Number of rows that were checked.
        left_out: Number of rows that were skipped because their label is too rare.
        accuracy: Share of the rows whose label the classifier predicts.
        suspects: Rows whose label is worth a look, the most suspicious first. Many of them are correct but difficult.
        share: Lower bound of the share of wrong labels, with a confidence of 95 %.
        removable: Number of suspects, from the first, of which at least `MIN_PRECISION` are expected to be wrong.
        precision: The expected share of wrong labels among them; 0 if there are none.
    """

    rows: int
    left_out: int
    accuracy: float
    suspects: tuple[Suspect, ...]
    share: float
    removable: int
    precision: float


def label_noise(examples: Sequence[Example], *, folds: int = 5, seed: int = 0) -> LabelNoise:
    """Rank suspicious labels, and estimate how many labels are wrong.

    The classifier is trained on the other folds, on TF-IDF of words and word pairs: a logistic regression, or naive
    Bayes if the number of rows times the number of labels is above 500,000. Naive Bayes takes seconds where the
    regression takes many minutes; it is less accurate, so it finds fewer of the wrong labels. The estimate assumes that
    wrong labels do not depend on the text. It underestimates noise between similar labels.

    Args:
        examples: Rows with labels.
        folds: Number of folds of the cross-validation; labels with fewer rows are skipped.
        seed: Seed of the folds and of the random labels.

    Returns:
        The estimate.

    Raises:
        InvalidInputError: If fewer than two labels have enough rows, or ``folds`` is below 2.
    """
    if folds < 2:
        raise InvalidInputError(f"`folds` must be at least 2, got {folds}")
    counts = Counter(row.output for row in examples)
    labels = sorted(label for label, count in counts.items() if count >= folds)
    if len(labels) < 2:
        raise InvalidInputError(f"label noise needs at least two labels with {folds} rows each, found {len(labels)}")
    kept = [index for index, row in enumerate(examples) if counts[row.output] >= folds]
    numbers = {label: number for number, label in enumerate(labels)}
    given = np.array([numbers[examples[index].output] for index in kept])
    probabilities = _out_of_fold([examples[index].text() for index in kept], given, folds, seed)
    rows, best = np.arange(len(kept)), probabilities.argmax(axis=1)
    ratios = probabilities[rows, given] / probabilities[rows, best]
    share, removable, precision = _expected(probabilities, given, ratios, seed)
    ranked = np.argsort(ratios, kind="stable")
    suspects = tuple(
        Suspect(
            index=kept[row],
            given=labels[given[row]],
            predicted=labels[best[row]],
            confidence=float(probabilities[row, given[row]]),
            predicted_confidence=float(probabilities[row, best[row]]),
        )
        for row in ranked[: max(removable, int((ratios <= _SUSPICIOUS).sum()))]
    )
    return LabelNoise(
        rows=len(kept), left_out=len(examples) - len(kept), accuracy=float((best == given).mean()), suspects=suspects,
        share=share, removable=removable, precision=precision,
    )  # fmt: skip


def _expected(
    probabilities: NDArray[Any], given: NDArray[Any], ratios: NDArray[Any], seed: int
) -> tuple[float, int, float]:
    """Estimate the share of wrong labels, how many rows to remove, and the share of wrong labels among these."""
    count, classes = probabilities.shape
    rows = np.arange(count)
    lowest = max(1, round(_LOWEST_RANKS * (classes - 1)))
    ranks = (probabilities > probabilities[rows, given][:, None]).sum(axis=1)
    shares = np.bincount(ranks, minlength=classes) / count
    observed = float(shares[-lowest:].sum())
    bound = observed - _difficult(shares, lowest) - _ONE_SIDED * sqrt(observed * (1 - observed) / count)
    share = max(0.0, bound * (classes - 1) / lowest)  # a random other label is as often in each rank
    rng = np.random.default_rng(seed)
    others = (given + rng.integers(1, classes, (_DRAWS, count))) % classes
    random = np.sort((probabilities[rows, others] / probabilities.max(axis=1)).ravel())
    ranked = np.sort(ratios)
    found = np.searchsorted(random, ranked, side="right") / random.size  # share of wrong labels up to each row
    expected = share * count * found / np.arange(1, count + 1) - _CAUTION
    enough = np.flatnonzero(expected >= MIN_PRECISION)
    removable = min(int(enough[-1]) + 1, round(share * count)) if len(enough) else 0
    if removable < _FEWEST:
        return share, 0, 0.0
    return share, removable, min(_HIGHEST_PRECISION, float(expected[removable - 1]))


def _difficult(shares: NDArray[np.float64], lowest: int) -> float:
    """Estimate the share of difficult rows with correct labels in the lowest ranks, by the most likely mixture."""
    # The ranks after the first are geometric for correct labels, with a ratio of at most 0.6, and uniform for wrong
    # ones. With two or three labels there are too few ranks to tell them apart.
    mistaken = shares[1:]
    if len(mistaken) < 3 or not mistaken.any():
        return float(mistaken.sum())
    ratios, weights = np.linspace(0.02, 0.6, 30)[:, None, None], np.linspace(0, 1, 51)[:, None]
    geometric = ratios ** np.arange(len(mistaken))
    geometric /= geometric.sum(axis=2, keepdims=True)
    mixtures = weights * geometric + (1 - weights) / len(mistaken)
    # With hundreds of labels, the last ranks of a geometric distribution are too small for a float.
    likelihoods = np.log(np.maximum(mixtures, np.finfo(np.float64).tiny)) @ mistaken
    ratio, weight = np.unravel_index(int(likelihoods.argmax()), likelihoods.shape)
    return float(mistaken.sum() * weights[weight, 0] * geometric[ratio, 0, -lowest:].sum())


def _out_of_fold(texts: Sequence[str], given: NDArray[Any], folds: int, seed: int) -> NDArray[Any]:
    """Return the class probabilities of each text, f[n, c], from a classifier that was not trained on the text."""
    from sklearn.model_selection import StratifiedKFold

    splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(texts)), given))
    classes = int(given.max()) + 1
    predict = _naive_bayes if len(texts) * classes > _LARGE else _logistic
    probabilities = np.zeros((len(texts), classes), dtype=np.float32 if predict is _naive_bayes else np.float64)
    with progress("estimating label noise", len(texts)) as advance:
        for rows, found in predict(texts, given, splits):
            probabilities[rows] = found
            advance(len(rows))
    return probabilities


def _logistic(texts: Sequence[str], given: NDArray[Any], splits: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    for train, held_out in splits:
        vectorizer = TfidfVectorizer(tokenizer=_tokens, **_FEATURES)
        classifier = fit_logistic(vectorizer.fit_transform([texts[row] for row in train]), given[train])
        yield held_out, classifier.predict_proba(vectorizer.transform([texts[row] for row in held_out]))


def _naive_bayes(texts: Sequence[str], given: NDArray[Any], splits: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Predict by multinomial naive Bayes with equal priors, whose sums per label are products of sparse matrices."""
    from scipy.sparse import csr_matrix
    from scipy.special import softmax
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    settings: dict[str, Any] = {key: value for key, value in _FEATURES.items() if key != "sublinear_tf"}
    hashed = HashingVectorizer(tokenizer=_tokens, n_features=_HASHED, alternate_sign=False, norm=None, **settings)
    counts = hashed.transform(texts)
    for train, held_out in splits:
        weights = TfidfTransformer(sublinear_tf=True).fit(counts[train])
        of_label = csr_matrix((np.ones(len(train)), (given[train], np.arange(len(train)))))
        sums = (of_label @ weights.transform(counts[train])).toarray() + _SMOOTHING
        log_shares = np.log(sums / sums.sum(axis=1, keepdims=True)).T.copy()  # f64[features, labels], by rows
        for start in range(0, len(held_out), _BLOCK):
            rows = held_out[start : start + _BLOCK]
            yield rows, softmax(weights.transform(counts[rows]) @ log_shares, axis=1)


def _tokens(text: str) -> list[str]:
    """Return the words and punctuation marks of an ASCII text, or the words of any other text as selectors see them."""
    return _ASCII_TOKEN.findall(text) if text.isascii() else words(text) or text.split()
