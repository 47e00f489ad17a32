"""Built-in actions, which are computed without a model.

An action is built in if it has one of these names and does not read the document. A list is a text with one item per
line, each after a dash, an asterisk, a bullet or a number. The prompts request lists in this format, and the built-in
actions return it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ragkit._text import folded
from ragkit.errors import InvalidInputError
from ragkit_pipelines.pearl.plan.action import Action

Value = str | tuple[str, ...]  # a text, or the items of a list that is written in the plan

_ITEM = re.compile(r"\s{0,12}(?:[-*•–]|\d{1,4}[.)])\s+(?=\S)")
_NOTHING = frozenset({"none", "no", "nothing", "not mentioned", "none mentioned", "n a", "0", ""})
_MOST_CHARACTERS = 1_000_000  # repeated joining of values would otherwise fill the memory
_DIGITS = re.compile(r"(\d+)")


def is_local(action: Action) -> bool:
    """Whether an action is computed without a model."""
    return action.name in BUILTINS and not action.reads_document


def compute(action: Action, values: Sequence[Value]) -> str:
    """Compute a step without a model, or raise an error that states which value the action expects."""
    size = sum(len(text) for value in values for text in ((value,) if isinstance(value, str) else value))
    if size > _MOST_CHARACTERS:
        raise InvalidInputError(f"its values have {size:,} characters; the limit is {_MOST_CHARACTERS:,}")
    return BUILTINS[action.name](values)


def items(value: Value) -> list[str]:
    """Split a list into its items, or raise an error, because prose must not be counted as one item."""
    # Lines before the first item are an introduction; any other line continues the item before it.
    if isinstance(value, tuple):
        return list(value)
    lines: list[list[str]] = []
    for line in value.splitlines():
        start = _ITEM.match(line)
        if start:
            lines.append([line[start.end() :].strip()])
        elif lines and line.strip():
            lines[-1].append(line.strip())
    found = [" ".join(parts) for parts in lines]
    if len(found) == 1 and _is_nothing(found[0]):
        return []
    if not found and not _is_nothing(value):
        raise InvalidInputError(f"expected a list with one item per line, each after '- ', got {value.strip()[:60]!r}")
    return found


def _is_nothing(text: str) -> bool:
    return folded(text).replace(".", "").strip() in _NOTHING or not text.strip()


def written(found: Sequence[str]) -> str:
    """Write items as a list; "None" if there are none."""
    return "\n".join(f"- {item}" for item in found) or "None"


def _concat(values: Sequence[Value]) -> str:
    texts = [value if isinstance(value, str) else written(value) for value in values]
    return "".join(text + "\n" for text in texts)


def _only(values: Sequence[Value], name: str, count: int) -> Sequence[Value]:
    if len(values) != count:
        raise InvalidInputError(f"{name} takes {count} argument{'s' * (count > 1)}, got {len(values)}")
    return values


def _count(values: Sequence[Value]) -> str:
    return str(len(items(_only(values, "COUNT", 1)[0])))


def _sort(values: Sequence[Value]) -> str:
    return written(sorted(items(_only(values, "SORT", 1)[0]), key=_natural))


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key that compares numbers by value and letters without case, which sorts "item 9" before "Item 10"."""
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
        raise InvalidInputError(f'TAKE needs a number such as "3" as its second argument, got {wanted!r}')
    return written(items(found)[: int(text)])


BUILTINS: dict[str, Callable[[Sequence[Value]], str]] = {
    "CONCAT": _concat,
    "COUNT": _count,
    "SORT": _sort,
    "DEDUP": _dedup,
    "TAKE": _take,
}
