"""Labels that are probably wrong, by confident learning (Northcutt, Jiang and Chuang, JAIR 2021)."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A row whose label is probably wrong.

    Attributes:
        place: Position of the row.
        given: Its label.
        likely: The label that a classifier which never saw the row finds likeliest.
        confidence: Probability that this classifier gives to the label of the row.
    """

    place: int
    given: str
    likely: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelNoise:
    """An estimate of how many labels are wrong.

    Attributes:
        rows: Rows that were looked at.
        left_out: Rows of labels that are too rare to be looked at.
        suspects: Rows that are probably wrong, the surest first.
    """

    rows: int
    left_out: int
    suspects: tuple[Suspect, ...]

    @property
    def share(self) -> float:
        """Share of the rows looked at whose label is probably wrong."""
        return len(self.suspects) / self.rows


def label_noise(examples: Sequence[Example], *, folds: int = 5, seed: int = 0) -> LabelNoise:
    """Estimate label noise.

    Each row gets probabilities from a classifier (TF-IDF of words and word pairs, logistic regression) that was
    trained on the other folds; cleanlab then counts, with a threshold for each class, whose labels contradict them. A
    hard row looks like a wrong one: read the suspects before they are removed.

    Args:
        examples: Rows with labels.
        folds: Folds of the cross-validation; labels with fewer rows are left out.
        seed: Seed of the folds.

    Returns:
        The estimate.

    Raises:
        InvalidInputError: If fewer than two labels have enough rows.
        MissingExtraError: If cleanlab is not installed.
    """
    if folds < 2:
        raise InvalidInputError(f"`folds` must be at least 2, got {folds}")
    counts = Counter(row.output for row in examples)
    labels = sorted(label for label, count in counts.items() if count >= folds)
    if len(labels) < 2:
        raise InvalidInputError(f"label noise needs two labels with {folds} rows each at least, found {len(labels)}")
    require("cleanlab")
    from cleanlab.filter import find_label_issues

    kept = [place for place, row in enumerate(examples) if counts[row.output] >= folds]
    numbers = {label: number for number, label in enumerate(labels)}
    given = np.array([numbers[examples[place].output] for place in kept])
    likelihood = _out_of_fold([examples[place].text() for place in kept], given, folds, seed)
    found = find_label_issues(given, likelihood, return_indices_ranked_by="self_confidence", n_jobs=1)
    suspects = tuple(
        Suspect(
            place=kept[row],
            given=labels[given[row]],
            likely=labels[int(likelihood[row].argmax())],
            confidence=float(likelihood[row, given[row]]),
        )
        for row in found
    )
    return LabelNoise(rows=len(kept), left_out=len(examples) - len(kept), suspects=suspects)


def _out_of_fold(texts: Sequence[str], given: NDArray[Any], folds: int, seed: int) -> NDArray[np.float64]:
    """Probability of each class for each text, f64[n, c], from a classifier that never saw the text."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.model_selection import StratifiedKFold

    likelihood = np.zeros((len(texts), int(given.max()) + 1))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(texts)), given)
    for train, held_out in splits:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|\S")
        classifier = fit_logistic(vectorizer.fit_transform([texts[row] for row in train]), given[train])
        likelihood[held_out] = classifier.predict_proba(vectorizer.transform([texts[row] for row in held_out]))
    return likelihood
