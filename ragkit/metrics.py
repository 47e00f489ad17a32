"""What counts as a right answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ragkit.errors import UnknownSpecError
from ragkit.text import folded

Metric: TypeAlias = Callable[[str, str], float]


def exact_match(answer: str, expected: str) -> float:
    r"""1.0 where the answer is the expected text but for white space, else 0.0.

    Examples:
        >>> exact_match(" fade lamp,  zone: hall\n", "fade lamp, zone: hall")
        1.0

    Returns:
        1.0 or 0.0.
    """
    return float(answer.split() == expected.split())


def label_match(answer: str, expected: str) -> float:
    """1.0 where the first line of the answer names the expected label, whatever its case and punctuation.

    Returns:
        1.0 or 0.0.
    """
    first = next(iter(answer.strip().splitlines()), "")
    return float(folded(first) == folded(expected))


METRICS: dict[str, Metric] = {"exact_match": exact_match, "accuracy": label_match}


def load_metric(metric: str | Metric) -> Metric:
    """Return the metric that a name stands for; a function is its own.

    Returns:
        A function of answer and expected text to a score from 0 to 1.

    Raises:
        UnknownSpecError: If no metric has this name.
    """
    if callable(metric):
        return metric
    if metric not in METRICS:
        raise UnknownSpecError("metric", metric, METRICS)
    return METRICS[metric]
