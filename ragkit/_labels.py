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


def spellings(outputs: Iterable[str], labels: Iterable[str] = ()) -> dict[str, str]:
    """Return the outputs that differ from a label, or from a more frequent output, only in case or spaces, with it.

    Examples:
        >>> spellings(["Yes", "yes", "Yes", " no", "no", "no"])
        {'yes': 'Yes', ' no': 'no'}

    Returns:
        The usual spelling of each rare spelling; ``labels`` come before the most frequent outputs.
    """
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    for label in (*labels, *(output for output, _ in Counter(outputs).most_common())):
        groups[" ".join(label.split()).casefold()][label] = None
    return {rare: usual for usual, *others in groups.values() for rare in others}
