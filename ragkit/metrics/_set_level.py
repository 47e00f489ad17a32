"""Set-level metrics: macro-F1, the Matthews correlation coefficient and corpus BLEU.

Each is a function of sums over the rows, such as the counts of a confusion matrix. Resampled rows only need new sums,
so a bootstrap over thousands of draws does not read any answer again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ragkit._extras import require
from ragkit._text import composed
from ragkit.errors import InvalidInputError
from ragkit.metrics._classes import read_classes
from ragkit.records import Example

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]

MOST_CLASSES = 1000  # more distinct outputs are free text, and would need gigabytes of counts
_MOST_CHARACTERS = 200_000  # as for chrF: sacrebleu takes a kilobyte of memory for each character
_ORDERS = 4  # the longest n-grams of BLEU


class ClassMetric:
    """The part that macro-F1 and MCC share: for each class, its correct answers, its answers and its rows."""

    title: ClassVar[str]

    def score_rows(self, answers: Sequence[str], rows: Sequence[Example]) -> list[float]:
        """Return 1.0 for each answer that names the expected class, and 0.0 for the others."""
        found = read_classes(answers, [row.output for row in rows])
        return [float(right) for right in found.answered == found.expected]

    def row_sums(self, answers: Sequence[str], rows: Sequence[Example]) -> csr_array:
        """Return the counts of each row, f32[rows, 3 c] for c classes: correct, answered and expected.

        Raises:
            InvalidInputError: If there are more than 1,000 classes.
        """
        from scipy.sparse import csr_array

        found = read_classes(answers, [row.output for row in rows])
        count = len(found.classes)
        if count > MOST_CLASSES:
            raise InvalidInputError(
                f"expected at most {MOST_CLASSES:,} classes, but the test rows have {count:,} distinct outputs; "
                "macro_f1 and mcc are metrics of classification tasks, use a metric such as 'exact_match' or 'f1'"
            )
        places = np.arange(len(rows))
        right, named = found.answered == found.expected, found.answered < count
        row = np.concatenate([places[right], places[named], places])
        column = np.concatenate([found.expected[right], count + found.answered[named], 2 * count + found.expected])
        shape = (len(rows), 3 * count)
        return csr_array((np.ones(len(row), dtype=np.float32), (row, column)), shape=shape)


@dataclass(frozen=True, slots=True)
class MacroF1(ClassMetric):
    """Macro-F1: the mean of the F1 of all classes, in which every class has the same weight.

    The classes are the expected outputs of the test rows. An answer that names none of them is an error of the expected
    class. It equals ``f1_score(expected, answers, labels=classes, average="macro", zero_division=0)`` of scikit-learn.
    """

    name: ClassVar[str] = "macro_f1"
    title: ClassVar[str] = "macro-F1"
    lowest: ClassVar[float] = 0.0

    def of_sums(self, sums: Floats) -> Floats:
        """Return macro-F1 for sums of the counts, f64[..., 3 c]; classes without rows are left out."""
        correct, answered, expected = np.split(sums, 3, axis=-1)
        total = answered + expected
        f1 = np.divide(2 * correct, total, out=np.zeros_like(total), where=total > 0)
        present = expected > 0
        return np.asarray((f1 * present).sum(axis=-1) / np.maximum(1, present.sum(axis=-1)), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class MatthewsCorrelation(ClassMetric):
    """Matthews correlation coefficient of any number of classes (Gorodkin, 2004), from -1 to 1; 0 is chance.

    The classes are the expected outputs of the test rows; all other answers together are one more class. It equals
    ``matthews_corrcoef`` of scikit-learn.
    """

    name: ClassVar[str] = "mcc"
    title: ClassVar[str] = "MCC"
    lowest: ClassVar[float] = -1.0

    def of_sums(self, sums: Floats) -> Floats:
        """Return the coefficient for sums of the counts, f64[..., 3 c]; 0 if all answers or rows have one class."""
        correct, answered, expected = np.split(np.asarray(sums, dtype=np.float64), 3, axis=-1)
        rows = expected.sum(axis=-1)
        others = rows - answered.sum(axis=-1)
        covariance = correct.sum(axis=-1) * rows - (answered * expected).sum(axis=-1)
        of_answers = rows**2 - (answered**2).sum(axis=-1) - others**2
        of_rows = rows**2 - (expected**2).sum(axis=-1)
        scale = np.sqrt(of_answers * of_rows)
        found = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
        return np.asarray(np.clip(found, -1.0, 1.0), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class CorpusBleu:
    """Corpus BLEU (Papineni et al., ACL 2002), from 0 to 1, with the tokens and the smoothing of sacrebleu's defaults.

    The score of a single row is its sentence BLEU. Only the first 200,000 characters of a text are compared. Words of
    scripts without spaces are not separated; use chrF for them.
    """

    name: ClassVar[str] = "bleu"
    title: ClassVar[str] = "corpus BLEU"
    lowest: ClassVar[float] = 0.0

    def score_rows(self, answers: Sequence[str], rows: Sequence[Example]) -> list[float]:
        """Return the sentence BLEU of each answer, from 0 to 1, with n-grams up to the length of the answer."""
        scorer, texts = _bleu(effective_order=True), _texts(answers, rows)
        return [min(1.0, float(scorer.sentence_score(found, [wanted]).score) / 100) for found, wanted in texts]

    def row_sums(self, answers: Sequence[str], rows: Sequence[Example]) -> NDArray[np.float32]:
        """Return the counts of each row, f32[rows, 10]: common n-grams, n-grams, and the lengths of both texts."""
        scorer = _bleu(effective_order=False)
        counts = [scorer.corpus_score([found], [[wanted]]) for found, wanted in _texts(answers, rows)]
        sums = [[*each.counts, *each.totals, each.sys_len, each.ref_len] for each in counts]
        return np.array(sums, dtype=np.float32).reshape(len(rows), 2 * _ORDERS + 2)

    def of_sums(self, sums: Floats) -> Floats:
        """Return BLEU for sums of the counts, f64[..., 10]."""
        given = np.asarray(sums, dtype=np.float64)
        common, total = given[..., :_ORDERS], given[..., _ORDERS : 2 * _ORDERS]
        length, wanted = given[..., -2], given[..., -1]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            smoothed = 0.5 ** np.cumsum(common == 0, axis=-1)  # the k-th order without a match counts 1 / 2**k of one
            precision = np.where(common == 0, smoothed, common) / total
            brevity = np.where(length < wanted, np.exp(1 - wanted / length), 1.0)
            score = brevity * np.exp(np.log(precision).mean(axis=-1))
        # No n-gram of some order: the texts are shorter than four words, for which corpus BLEU is 0.
        defined = (total > 0).all(axis=-1) & (common > 0).any(axis=-1)
        return np.where(defined, np.minimum(score, 1.0), 0.0)


def _texts(answers: Sequence[str], rows: Sequence[Example]) -> list[tuple[str, str]]:
    pairs = zip(answers, rows, strict=True)
    return [(composed(answer[:_MOST_CHARACTERS]), composed(row.output[:_MOST_CHARACTERS])) for answer, row in pairs]


@cache
def _bleu(*, effective_order: bool) -> Any:
    require("sacrebleu")
    from sacrebleu.metrics import BLEU

    return BLEU(effective_order=effective_order)
