"""Intervals and tests for accuracies, and minimum detectable differences."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from statistics import NormalDist

from ragkit.errors import InvalidInputError

Z95 = 1.959963984540054


def wilson(correct: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Compute the Wilson interval of a proportion (Wilson, 1927), which is accurate near 0 and 1 and for few items.

    Returns:
        The bounds, by default of the two-sided 95 % interval; 0 and 1 if n is 0. ``correct`` may sum partial scores.
    """
    if n == 0:
        return 0.0, 1.0
    share = correct / n
    centre, spread = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def mcnemar(a: Sequence[float], b: Sequence[float]) -> tuple[int, int, float]:
    """Run the exact, two-sided McNemar test on the same items (McNemar, 1947).

    Args:
        a: Scores of one strategy, item by item; an item is correct if its score is 0.5 or more.
        b: Scores of the other strategy.

    Returns:
        The number of items that only ``a`` has right, the number that only ``b`` has right, and the p-value.
    """
    only_a = sum(bool(x >= 0.5 > y) for x, y in zip(a, b, strict=True))
    only_b = sum(bool(y >= 0.5 > x) for x, y in zip(a, b, strict=True))
    return only_a, only_b, mcnemar_counts(only_a, only_b)


def mcnemar_counts(only_a: int, only_b: int) -> float:
    """Run the exact McNemar test on counts of items that only one of two strategies has right; return the p-value."""
    if only_a == only_b:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of tests (Holm, 1979), and return them in the same order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted


def minimum_detectable(standard_error: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """Compute the smallest difference that an interval of this level excludes from 0 with this power, at most 1.0."""
    return min(1.0, (_quantile((1 + level) / 2) + _quantile(power)) * standard_error)


def items_needed(difference: float, discordant: float, *, level: float = 0.95, power: float = 0.8) -> int:
    """Compute the number of test items that a McNemar test needs to detect a difference (Miettinen, 1968; simple form).

    Args:
        difference: Difference of the two accuracies.
        discordant: Share of items that exactly one of the two strategies has right; at least the difference.
        level: One minus the two-sided type I error.
        power: Probability of detecting the difference.

    Returns:
        Number of items.

    Raises:
        InvalidInputError: If the difference is 0 or exceeds the discordant share.
    """
    if not 0 < abs(difference) <= discordant <= 1:
        raise InvalidInputError(
            f"expected 0 < |difference| <= discordant <= 1, got difference {difference} and discordant {discordant}"
        )
    return ceil((_quantile((1 + level) / 2) + _quantile(power)) ** 2 * discordant / difference**2)


def _quantile(share: float) -> float:
    return NormalDist().inv_cdf(share)
