"""How far a model's confidence can be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ragkit.errors import InvalidInputError

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
