"""Intervals and tests for shares of right answers."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

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
    only_a = sum(x >= 0.5 > y for x, y in zip(a, b, strict=True))
    only_b = sum(y >= 0.5 > x for x, y in zip(a, b, strict=True))
    if only_a == only_b:
        return only_a, only_b, 1.0
    from scipy.stats import binomtest

    return only_a, only_b, float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


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
