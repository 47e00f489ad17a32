"""Intervals and tests for shares of right answers, and how small a difference a comparison can show."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from statistics import NormalDist

from ragkit.errors import InvalidInputError

Z95 = 1.959963984540054


def wilson(correct: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval for a share (Wilson, 1927): sound near 0 and 1 and for few items.

    Args:
        correct: Number of right answers; a sum of partial scores is taken as it is.
        n: Number of answers.
        z: Quantile of the normal distribution, 95 % two-sided by default.

    Returns:
        Lower and upper bound; 0 and 1 where n is 0.
    """
    if n == 0:
        return 0.0, 1.0
    share = correct / n
    centre, spread = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def mcnemar(a: Sequence[float], b: Sequence[float]) -> tuple[int, int, float]:
    """Exact McNemar test on the same items (McNemar, 1947), two-sided.

    Args:
        a: Scores of one way, item by item; an item is right at 0.5 and above.
        b: Scores of the other.

    Returns:
        Items that only a has right, that only b has right, and the p-value.
    """
    only_a = sum(bool(x >= 0.5 > y) for x, y in zip(a, b, strict=True))
    only_b = sum(bool(y >= 0.5 > x) for x, y in zip(a, b, strict=True))
    return only_a, only_b, mcnemar_counts(only_a, only_b)


def mcnemar_counts(only_a: int, only_b: int) -> float:
    """Exact McNemar test of the items that only one of two ways has right.

    Returns:
        The two-sided p-value.
    """
    if only_a == only_b:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of tests (Holm, 1979).

    Returns:
        Adjusted p-values in the same order.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = highest
    return adjusted


def minimum_detectable(standard_error: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest true difference that a comparison is likely to show.

    Args:
        standard_error: Standard error of the difference.
        level: Level of the interval that must leave out 0.
        power: Share of cases in which it does.

    Returns:
        The difference, on the scale of the standard error, 1.0 at the most.
    """
    return min(1.0, (_quantile((1 + level) / 2) + _quantile(power)) * standard_error)


def items_needed(difference: float, discordant: float, *, level: float = 0.95, power: float = 0.8) -> int:
    """Test items that a McNemar test needs to show a difference (Miettinen, 1968, in its simplest form).

    Args:
        difference: The difference of the two shares of right answers.
        discordant: Share of items that exactly one of the two ways has right; at least the difference.
        level: One minus the two-sided error of the first kind.
        power: Share of cases in which the difference is shown.

    Returns:
        Number of items.

    Raises:
        InvalidInputError: If the difference is not between 0 and the discordant share, 0 left out.
    """
    if not 0 < abs(difference) <= discordant <= 1:
        raise InvalidInputError(
            f"expected 0 < |difference| <= discordant <= 1, got difference {difference} and discordant {discordant}"
        )
    return ceil((_quantile((1 + level) / 2) + _quantile(power)) ** 2 * discordant / difference**2)


def _quantile(share: float) -> float:
    return NormalDist().inv_cdf(share)
