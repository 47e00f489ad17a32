"""Calibrate a judge on labelled cases: the threshold of its scores, and how well it agrees with people."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError, WeakJudgeWarning

_FOLDS = 5
_LEVEL = 0.05  # of the test against chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The threshold of a judge, and its agreement with labels.

    The threshold is fitted on all cases. The agreement and kappa are measured by cross-validation, on cases that were
    not used to fit the threshold.

    Attributes:
        threshold: Scores of at least this value mean "yes".
        cases: Number of labelled cases with a score.
        majority: Share of the more frequent label, which is the agreement of a judge that always gives this label.
        agreement: Share of the cases in which judge and label agree.
        kappa: Cohen's kappa of judge and label: 1 for perfect agreement, 0 for the agreement that chance alone gives.
        p_value: Probability of scores that separate the labels as well as these, if the scores were unrelated to the
            labels (one-sided Mann-Whitney test).
        unreadable: Number of cases for which the judge gave neither "yes" nor "no".
    """

    threshold: float
    cases: int
    majority: float
    agreement: float
    kappa: float
    p_value: float
    unreadable: int = 0

    @property
    def better_than_chance(self) -> bool:
        """Whether kappa is above 0 and the test rejects chance at the level of 5 %."""
        return self.kappa > 0 and self.p_value < _LEVEL

    def __str__(self) -> str:
        return (
            f"agreement {self.agreement:.2f} (majority baseline {self.majority:.2f}), kappa {self.kappa:.2f}, "
            f"p = {self.p_value:.3f}, cases: {self.cases}, threshold {self.threshold:.3f}"
        )


def calibrate(
    scores: Sequence[float] | NDArray[np.float64], labels: Sequence[bool], *, seed: int = 0, name: str = "the judge"
) -> Calibration:
    """Fit the threshold of a judge on labelled cases, and measure its agreement with the labels.

    The threshold maximises Cohen's kappa. If several thresholds do, the one in the widest gap between two scores is
    used.

    Args:
        scores: The judge's score of each case, higher for "yes"; NaN if it gave no readable judgement.
        labels: The correct judgement of each case.
        seed: Seed of the folds of the cross-validation.
        name: Name of the judge in the warning.

    Returns:
        The threshold, agreement and kappa. A `WeakJudgeWarning` reports a judge that is not shown to be better than
        chance.

    Raises:
        InvalidInputError: If the lengths differ, or if fewer than two cases of a label have a score.

    Examples:
        >>> found = calibrate([0.9, 0.8, 0.7, 0.6, 0.3, 0.2, 0.2, 0.1], [True] * 4 + [False] * 4)
        >>> round(found.threshold, 2), found.agreement, found.kappa
        (0.45, 1.0, 1.0)
    """
    given, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.bool_)
    if given.shape != truth.shape or given.ndim != 1:
        raise InvalidInputError(f"there must be one label for each score, got {given.size} scores, {truth.size} labels")
    readable = ~np.isnan(given)
    values, truth = given[readable], truth[readable]
    fewest = int(min(truth.sum(), (~truth).sum()))
    if fewest < 2:
        raise InvalidInputError(
            f"a calibration needs at least two cases of each label, got {int(truth.sum())} with the label true and "
            f"{int((~truth).sum())} with false that the judge could score; label more cases, 50 or more if possible"
        )
    predicted = np.zeros_like(truth)
    folds = _folds(truth, min(_FOLDS, fewest), seed)
    for fold in range(folds.max() + 1):
        held_out = folds == fold
        predicted[held_out] = values[held_out] >= _best_threshold(values[~held_out], truth[~held_out])
    found = Calibration(
        threshold=_best_threshold(values, truth),
        cases=len(values),
        majority=float(max(truth.mean(), 1 - truth.mean())),
        agreement=float((predicted == truth).mean()),
        kappa=_kappa(predicted, truth),
        p_value=_p_value(values, truth),
        unreadable=int((~readable).sum()),
    )
    if not found.better_than_chance:
        warnings.warn(
            WeakJudgeWarning(
                f"{name} is not shown to be better than chance on {found.cases} labelled cases ({found}); use a "
                "stronger judge or label more cases, and do not rely on its judgements"
            ),
            stacklevel=2,
        )
    return found


def _folds(truth: NDArray[np.bool_], count: int, seed: int) -> NDArray[np.int64]:
    """Assign each case to a fold; every fold gets the same share of each label, as far as possible."""
    rng, folds = np.random.default_rng(seed), np.zeros(len(truth), dtype=np.int64)
    for label in (True, False):
        rows = rng.permutation(np.flatnonzero(truth == label))
        folds[rows] = np.arange(len(rows)) % count
    return folds


def _best_threshold(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the midpoint between two different scores with the highest kappa; the score itself if all are equal."""
    order = np.argsort(values, kind="stable")
    ranked, right = values[order], truth[order]
    gaps = np.diff(ranked)
    cuts = np.flatnonzero(gaps > 0)  # the cases up to a cut are "no"
    if not len(cuts):
        return float(ranked[0])
    n, positives = len(ranked), right.sum()
    missed = np.cumsum(right)[cuts]
    no = cuts + 1
    agreed = (no - missed + positives - missed) / n
    by_chance = (no * (n - positives) + (n - no) * positives) / n**2
    kappas = (agreed - by_chance) / (1 - by_chance)
    best = cuts[kappas >= kappas.max() - 1e-12]
    cut = best[gaps[best].argmax()]
    return float(ranked[cut] + gaps[cut] / 2)


def _kappa(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return Cohen's kappa (1960); 0 if chance alone would agree completely."""
    left, right = one.mean(), other.mean()
    by_chance = left * right + (1 - left) * (1 - right)
    return float(((one == other).mean() - by_chance) / (1 - by_chance)) if by_chance < 1 else 0.0


def _p_value(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    from scipy.stats import mannwhitneyu

    if values.min() == values.max():
        return 1.0
    return float(mannwhitneyu(values[truth], values[~truth], alternative="greater").pvalue)
