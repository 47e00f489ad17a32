"""Calibration of confidences: expected calibration error and Brier score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare.statistics.bootstrap import item_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def brier(confidence: ArrayLike, right: ArrayLike) -> float:
    """Compute the Brier score (Brier, 1950): the mean squared error of the confidence; a coin flip scores 0.25."""
    given, outcome = _checked(confidence, right)
    return float(np.mean((given - outcome) ** 2))


def calibration_error(confidence: ArrayLike, right: ArrayLike, *, bins: int = 10) -> float:
    """Compute the expected calibration error over equally filled bins (Nguyen and O'Connor, 2015).

    Bins of equal width are mostly empty if a model is confident. Equal confidences may fall into two neighbouring bins,
    in the given order.

    Returns:
        The mean absolute difference between confidence and accuracy, from 0 to 1.

    Raises:
        InvalidInputError: If ``bins`` is below 1.
    """
    given, outcome = _checked(confidence, right)
    if bins < 1:
        raise InvalidInputError(f"`bins` must be 1 or more, got {bins}")
    order = np.argsort(given, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return float(sum(len(part) * abs(given[part].mean() - outcome[part].mean()) for part in parts) / len(order))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration measures, each with a 95 % interval over the items.

    Attributes:
        error: Expected calibration error, see `calibration_error`.
        error_low: Lower bound.
        error_high: Upper bound.
        brier: Brier score.
        brier_low: Lower bound.
        brier_high: Upper bound.
    """

    error: float
    error_low: float
    error_high: float
    brier: float
    brier_low: float
    brier_high: float


def calibrated(
    confidence: ArrayLike, right: ArrayLike, *, bins: int = 10, draws: int = 400, seed: int = 0
) -> Calibration:
    """Compute both calibration measures with their intervals.

    Noise in the bins biases the calibration error of a sample upwards, most for well-calibrated models, so the interval
    of an ordinary bootstrap would lie above the true value. The lower bound therefore subtracts the noise of all bins:
    the 97.5 % quantile of the summed absolute differences between the gaps of a resample and those of the sample. The
    upper bound is the bootstrap percentile. Both bounds are conservative.

    Args:
        confidence: f64[n], the probability of each answer.
        right: f64[n], 1 if the answer was correct, otherwise 0.
        bins: Number of equally filled bins, limited to the number of answers.
        draws: Number of bootstrap samples.
        seed: Seed of the samples.

    Returns:
        The measures.

    Raises:
        InvalidInputError: As `calibration_error`.
    """
    given, outcome = _checked(confidence, right)
    error, score = calibration_error(given, outcome, bins=bins), brier(given, outcome)
    order = np.argsort(given, kind="stable")
    gaps, squares = (given - outcome)[order], ((given - outcome) ** 2)[order]
    items = len(given)
    starts = np.cumsum([0, *(len(part) for part in np.array_split(order, min(bins, items))[:-1])])
    sums = np.add.reduceat(gaps, starts)
    errors, noises, scores = [], [], []
    for weights in item_weights(np.random.default_rng(seed), draws, items):
        counts = np.rint(weights * items).astype(np.int64)
        # Each resample as indices in the order of confidence, repeated for items that were drawn repeatedly.
        indices = np.repeat(np.tile(np.arange(items), len(counts)), counts.ravel()).reshape(len(counts), items)
        drawn = np.add.reduceat(gaps[indices], starts, axis=1)
        errors.append(np.abs(drawn).sum(axis=1) / items)
        noises.append(np.abs(drawn - sums).sum(axis=1) / items)
        scores.append(weights @ squares)
    low = max(0.0, error - float(np.quantile(np.concatenate(noises), 0.975)))
    high = max(error, float(np.quantile(np.concatenate(errors), 0.975)))
    score_low, score_high = np.quantile(np.concatenate(scores), [0.025, 0.975]).tolist()
    return Calibration(error, low, high, score, score_low, score_high)


def _checked(confidence: ArrayLike, right: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    given, outcome = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if given.ndim != 1 or given.shape != outcome.shape or not len(given):
        raise InvalidInputError(
            f"`confidence` and `right` must be non-empty lists of the same length, got shapes {given.shape} "
            f"and {outcome.shape}"
        )
    for name, values in (("confidence", given), ("right", outcome)):
        if not ((values >= 0) & (values <= 1)).all():
            raise InvalidInputError(f"`{name}` must be between 0 and 1")
    return given, outcome
