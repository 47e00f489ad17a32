"""Records that serializers restore: they turn tuples into lists, which are turned back here."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any


def restore_tuples(record: Any) -> None:
    """Convert lists to tuples, also inside lists, in the fields of a frozen dataclass that are declared as tuples."""
    kind: Any = type(record)
    for name in _tuple_fields(kind):
        value = getattr(record, name)
        if type(value) is list:
            object.__setattr__(record, name, _as_tuple(value))


def _as_tuple(values: list[Any]) -> tuple[Any, ...]:
    return tuple(_as_tuple(each) if type(each) is list else each for each in values)


@cache
def _tuple_fields(kind: Any) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind) if str(each.type).startswith(("tuple[", "Sequence[")))
