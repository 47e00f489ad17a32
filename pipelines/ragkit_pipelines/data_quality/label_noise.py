"""Find labels that are probably wrong by confident learning (Northcutt, Jiang and Chuang, JAIR 2021)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit.extras import require
from ragkit.finetuning.classifier import fit_logistic
from ragkit.records import Example
from ragkit.text import words

_ASCII_TOKEN = re.compile(r"\w+|\S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A row whose label is probably wrong.

    Attributes:
        index: Index of the row.
        given: The label of the row.
        predicted: The most probable label according to a classifier that was not trained on the row.
        confidence: Probability of the given label according to this classifier.
    """

    index: int
    given: str
    predicted: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelNoise:
    """An estimate of the number of wrong labels.

    Attributes:
        rows: Number of rows that were checked.
        left_out: Number of rows that were skipped because their label is too rare.
        suspects: Rows whose label is probably wrong, the most certain first.
    """

    rows: int
    left_out: int
    suspects: tuple[Suspect, ...]

    @property
    def share(self) -> float:
        """Share of the checked rows whose label is probably wrong."""
        return len(self.suspects) / self.rows


def label_noise(examples: Sequence[Example], *, folds: int = 5, seed: int = 0) -> LabelNoise:
    """Estimate label noise by cross-validation; labels with fewer rows than folds are skipped.

    A classifier (TF-IDF of words and word pairs, logistic regression) that was trained on the other folds predicts the
    class probabilities of each row; cleanlab then finds the labels that contradict them, with a threshold per class.
    Correct labels of difficult rows may also be found: inspect the suspects before you remove them.

    Returns:
        The estimate.

    Raises:
        InvalidInputError: If fewer than two labels have enough rows, or ``folds`` is below 2.
        MissingExtraError: If cleanlab is not installed.
    """
    if folds < 2:
        raise InvalidInputError(f"`folds` must be at least 2, got {folds}")
    counts = Counter(row.output for row in examples)
    labels = sorted(label for label, count in counts.items() if count >= folds)
    if len(labels) < 2:
        raise InvalidInputError(f"label noise needs at least two labels with {folds} rows each, found {len(labels)}")
    require("cleanlab")
    from cleanlab.filter import find_label_issues

    kept = [index for index, row in enumerate(examples) if counts[row.output] >= folds]
    numbers = {label: number for number, label in enumerate(labels)}
    given = np.array([numbers[examples[index].output] for index in kept])
    probabilities = _out_of_fold([examples[index].text() for index in kept], given, folds, seed)
    found = find_label_issues(given, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    suspects = tuple(
        Suspect(
            index=kept[row],
            given=labels[given[row]],
            predicted=labels[int(probabilities[row].argmax())],
            confidence=float(probabilities[row, given[row]]),
        )
        for row in found
    )
    return LabelNoise(rows=len(kept), left_out=len(examples) - len(kept), suspects=suspects)


def _out_of_fold(texts: Sequence[str], given: NDArray[Any], folds: int, seed: int) -> NDArray[np.float64]:
    """Return the class probabilities of each text, f64[n, c], from a classifier that was not trained on the text."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.model_selection import StratifiedKFold

    probabilities = np.zeros((len(texts), int(given.max()) + 1))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(texts)), given)
    for train, held_out in splits:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, tokenizer=_tokens, token_pattern=None)
        classifier = fit_logistic(vectorizer.fit_transform([texts[row] for row in train]), given[train])
        probabilities[held_out] = classifier.predict_proba(vectorizer.transform([texts[row] for row in held_out]))
    return probabilities


def _tokens(text: str) -> list[str]:
    """Return the words and punctuation marks of an ASCII text, or the words of any other text as selectors see them."""
    return _ASCII_TOKEN.findall(text) if text.isascii() else words(text) or text.split()
