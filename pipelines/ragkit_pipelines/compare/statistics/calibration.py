"""How far a model's confidence can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare.statistics.bootstrap import item_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def brier(confidence: ArrayLike, right: ArrayLike) -> float:
    """Mean squared distance between confidence and outcome (Brier, 1950); 0 is best, a coin gives 0.25.

    Args:
        confidence: f64[n], the probability given to the answer.
        right: f64[n], 1 where the answer was right, else 0.

    Returns:
        The score, from 0 to 1.

    Raises:
        InvalidInputError: If the two differ in length, are empty or leave 0 … 1.
    """
    given, outcome = _checked(confidence, right)
    return float(np.mean((given - outcome) ** 2))


def calibration_error(confidence: ArrayLike, right: ArrayLike, *, bins: int = 10) -> float:
    """Expected calibration error over bins with equally many answers (Nguyen and O'Connor, 2015).

    Bins of equal width leave most of them empty where a model is sure of itself; equal counts do not. Equal
    confidences may fall on either side of a border, in the order given.

    Args:
        confidence: f64[n], the probability given to the answer.
        right: f64[n], 1 where the answer was right, else 0.
        bins: Number of bins; not more than answers are used.

    Returns:
        The mean distance between confidence and share of right answers, from 0 to 1.

    Raises:
        InvalidInputError: If the two differ in length, are empty or leave 0 … 1, or ``bins`` is below 1.
    """
    given, outcome = _checked(confidence, right)
    if bins < 1:
        raise InvalidInputError(f"`bins` must be 1 or more, got {bins}")
    order = np.argsort(given, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return float(sum(len(part) * abs(given[part].mean() - outcome[part].mean()) for part in parts) / len(order))


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far the confidence of some answers can be believed, each with a 95 % interval over the items.

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
    """Both measures with their intervals.

    Noise in the bins makes the calibration error of a sample too high, the more so the better the model is calibrated,
    so the usual bootstrap would leave the truth below its interval. The lower bound therefore allows for all that the
    gaps of the bins may be noise together: it is the estimate less the 97.5 % quantile of their summed distance from
    themselves drawn again. The upper bound is the plain percentile. Both err on the wide side.

    Args:
        confidence: f64[n], the probability given to the answer.
        right: f64[n], 1 where the answer was right, else 0.
        bins: Number of bins with equally many answers; not more than answers are used.
        draws: Bootstrap draws.
        seed: Seed of the draws.

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
        # Each draw as places in the order of confidence: an item that was drawn twice stands there twice.
        places = np.repeat(np.tile(np.arange(items), len(counts)), counts.ravel()).reshape(len(counts), items)
        drawn = np.add.reduceat(gaps[places], starts, axis=1)
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
            f"`confidence` and `right` must be lists of one length, not empty; got {given.shape} and {outcome.shape}"
        )
    for name, values in (("confidence", given), ("right", outcome)):
        if not ((values >= 0) & (values <= 1)).all():
            raise InvalidInputError(f"`{name}` must lie between 0 and 1")
    return given, outcome
