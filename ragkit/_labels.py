"""Labels: numbers and booleans become text, and the spellings of one label become the most frequent one."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable


def label_text(value: object) -> object:
    """Convert a boolean or a number to text, and return other values unchanged.

    Examples:
        >>> [label_text(value) for value in (1, 1.0, 0.5, True, "1", None)]
        ['1', '1', '0.5', 'true', '1', None]

    Returns:
        The text; infinity and NaN are returned unchanged, because they are not labels.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else str(float(value))  # float(): the type may be numpy's
    return value


def spellings(labels: Iterable[str]) -> dict[str, str]:
    """Return the labels that differ from a more frequent label only in case or spaces, with that label."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label, _ in Counter(labels).most_common():
        groups[" ".join(label.split()).casefold()].append(label)
    return {rare: usual for usual, *others in groups.values() for rare in others}
