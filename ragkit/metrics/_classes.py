"""The classes that answers name, for metrics and tables of classification tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit._text import folded
from ragkit.answers._plain import FirstLine

_FIRST_LINE = FirstLine()


@dataclass(frozen=True, slots=True)
class ReadClasses:
    """Expected and answered classes of rows.

    Attributes:
        classes: The c classes, which are the distinct expected outputs, the most frequent first.
        expected: int[rows]: index of the expected class.
        answered: int[rows]: index of the class that the answer names, or c if it names none of them.
    """

    classes: Sequence[str]
    expected: NDArray[np.int64]
    answered: NDArray[np.int64]


def read_classes(answers: Sequence[str], expected: Sequence[str]) -> ReadClasses:
    """Read the classes of answers, from the whole answer or else from its first line.

    Case and punctuation are ignored unless classes differ only in them.

    Returns:
        The classes of all rows.
    """
    classes = [name for name, _ in Counter(expected).most_common()]
    read = folded if len({folded(name) for name in classes}) == len(classes) else str.strip
    indices = {read(name): index for index, name in enumerate(classes)}
    exact = {name: index for index, name in enumerate(classes)}

    def index_of(answer: str) -> int:
        found = indices.get(read(answer))
        return indices.get(read(_FIRST_LINE.read(answer).text), len(classes)) if found is None else found

    seen: dict[str, int] = {}
    for answer in answers:
        if answer not in seen:
            seen[answer] = index_of(answer)
    return ReadClasses(
        classes=classes,
        expected=np.array([exact[name] for name in expected], dtype=np.int64),
        answered=np.array([seen[answer] for answer in answers], dtype=np.int64),
    )
