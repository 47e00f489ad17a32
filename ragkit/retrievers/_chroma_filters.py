"""Translation of ragkit's filters to Chroma's, so that its server excludes documents before they are sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import ceil, floor, isfinite

from ragkit.where import All, AnyOf, Condition, Equals, Ordered, parse_where

_Filter = dict[str, object]


def chroma_filter(where: Mapping[str, object], *, lists: Collection[str] | None = None) -> _Filter | None:
    """Translate a filter as far as Chroma supports it; the result matches all matching documents, and may match others.

    Use it as `LangChainRetriever(store, native=chroma_filter)`, which applies the rest of the filter itself. ``$eq``,
    ``$in``, ``$and`` and ``$or`` are translated, as are ``$gt`` to ``$lte`` of numbers if ``lists`` names the fields
    that hold lists. ``$ne``, ``$nin``, ``$not``, ``$exists``, None and the order of texts are not translated, as Chroma
    lacks them, or treats missing fields differently.

    Args:
        where: A filter, see `ragkit.where`.
        lists: The fields that hold lists; None if any field may.

    Returns:
        The ``filter`` argument for Chroma; None if Chroma cannot exclude any document.

    Raises:
        InvalidInputError: If the filter is invalid.

    Examples:
        >>> chroma_filter({"lang": "en", "year": {"$gte": 2020}}, lists=["tags"])
        {'$and': [{'lang': {'$eq': 'en'}}, {'$or': [{'year': {'$gte': 2020}}, {'year': {'$gte': 2020.0}}]}]}
    """
    return _translated(parse_where(where), lists)


def _translated(condition: Condition, lists: Collection[str] | None) -> _Filter | None:
    match condition:
        case All(conditions):
            known = [each for each in (_translated(one, lists) for one in conditions) if each is not None]
            return _joined("$and", known) if known else None
        case AnyOf(conditions):
            parts = [_translated(one, lists) for one in conditions]
            known = [each for each in parts if each is not None]
            return _joined("$or", known) if known and len(known) == len(parts) else None
        case Equals(field, keys):
            return _equal(field, [value for _, value in keys], may_be_list=lists is None or field in lists)
        case Ordered(field, order, ("number", value)) if lists is not None and field not in lists:
            return _ordered(field, order, value)
        case _:
            return None


def _joined(operator: str, parts: list[_Filter]) -> _Filter:
    return parts[0] if len(parts) == 1 else {operator: parts}


def _equal(field: str, values: list[object], *, may_be_list: bool) -> _Filter | None:
    parts: list[_Filter] = []
    for value in values:
        if value is None:  # None also matches a missing field
            return None
        for alike in _both_kinds(value):
            parts.append({field: {"$eq": alike}})
            if may_be_list:
                parts.append({field: {"$contains": alike}})
    return _joined("$or", parts) if parts else None


def _ordered(field: str, order: str, value: object) -> _Filter | None:
    """Translate an order condition for integers and floats, as Chroma compares numbers only within each type."""
    if not isinstance(value, (int, float)) or not isfinite(value) or abs(value) > 2**53:
        return None
    whole = ceil(value) if order in {"$gte", "$lt"} else floor(value)
    return {"$or": [{field: {order: whole}}, {field: {order: float(value)}}]}


def _both_kinds(value: object) -> list[object]:
    """Return a number as float and, if possible, as integer; other values unchanged."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return [value]
    if isinstance(value, float):
        return [value, int(value)] if value.is_integer() and abs(value) < 2**53 else [value]
    return [value, float(value)]
