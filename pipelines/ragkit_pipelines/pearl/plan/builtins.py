"""Actions that are computed here, without a model.

An action is computed here when it has one of these names and does not read the document. A list is a text with an item
a line, each behind a dash, a star, a bullet or a number: so models are told to write lists, and so it is done here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ragkit.errors import InvalidInputError
from ragkit.text import folded
from ragkit_pipelines.pearl.plan.action import Action

Value = str | tuple[str, ...]  # a text, or the items of a list that stands in the plan

_ITEM = re.compile(r"\s{0,12}(?:[-*•–]|\d{1,4}[.)])\s+(?=\S)")
_NOTHING = frozenset({"none", "no", "nothing", "not mentioned", "none mentioned", "n a", "0", ""})
_DIGITS = re.compile(r"(\d+)")


def is_local(action: Action) -> bool:
    """Whether an action is computed here."""
    return action.name in BUILTINS and not action.reads_document


def compute(action: Action, values: Sequence[Value]) -> str:
    """Compute a step without a model.

    Args:
        action: One for which `is_local` holds.
        values: A value for each parameter.

    Returns:
        The step's value.

    Raises:
        InvalidInputError: If a value is not what the action works on; the message says what was expected.
    """
    return BUILTINS[action.name](values)


def items(value: Value) -> list[str]:
    """The items of a list.

    Args:
        value: A list in the plan, or a text with items behind dashes, stars, bullets or numbers. Lines before the first
            item are an introduction, and other lines belong to the item before them.

    Returns:
        The items; none for a text that says "None".

    Raises:
        InvalidInputError: If the text is no list: prose must not be counted as one item.
    """
    if isinstance(value, tuple):
        return list(value)
    found: list[str] = []
    for line in value.splitlines():
        start = _ITEM.match(line)
        if start:
            found.append(line[start.end() :].strip())
        elif found and line.strip():
            found[-1] += " " + line.strip()
    if len(found) == 1 and _is_nothing(found[0]):
        return []
    if not found and not _is_nothing(value):
        raise InvalidInputError(f"expected a list, one item a line behind '- ', got {value.strip()[:60]!r}")
    return found


def _is_nothing(text: str) -> bool:
    return folded(text).replace(".", "").strip() in _NOTHING or not text.strip()


def written(found: Sequence[str]) -> str:
    """Items as a text.

    Returns:
        A line for each; "None" where there is none.
    """
    return "\n".join(f"- {item}" for item in found) or "None"


def _concat(values: Sequence[Value]) -> str:
    texts = [value if isinstance(value, str) else written(value) for value in values]
    return "".join(text + "\n" for text in texts)


def _only(values: Sequence[Value], name: str, count: int) -> Sequence[Value]:
    if len(values) != count:
        raise InvalidInputError(f"{name} takes {count} value{'s' * (count > 1)}, got {len(values)}")
    return values


def _count(values: Sequence[Value]) -> str:
    return str(len(items(_only(values, "COUNT", 1)[0])))


def _sort(values: Sequence[Value]) -> str:
    return written(sorted(items(_only(values, "SORT", 1)[0]), key=_natural))


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Numbers by their size, all else by the alphabet without case: "item 9" stands before "Item 10"."""
    parts = _DIGITS.split(text.casefold())
    return [(0, int(part[:300]), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _dedup(values: Sequence[Value]) -> str:
    first: dict[str, str] = {}
    for item in items(_only(values, "DEDUP", 1)[0]):
        first.setdefault(folded(item), item)
    return written(list(first.values()))


def _take(values: Sequence[Value]) -> str:
    found, wanted = _only(values, "TAKE", 2)
    text = wanted.strip() if isinstance(wanted, str) else ""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInputError(f'TAKE needs a number such as "3" as its second value, got {wanted!r}')
    return written(items(found)[: int(text)])


BUILTINS: dict[str, Callable[[Sequence[Value]], str]] = {
    "CONCAT": _concat,
    "COUNT": _count,
    "SORT": _sort,
    "DEDUP": _dedup,
    "TAKE": _take,
}
