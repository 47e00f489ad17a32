"""Metadata filters in LangChain's operator style, read once into a small tree and then evaluated.

``{"lang": "en", "year": {"$gte": 2020}}``: all entries must hold. Operators: $eq $ne $gt $gte $lt $lte $in $nin $exists
on a field, $and $or $not on conditions.

What is not there is like None: it equals None and nothing else, and no order holds for it; $exists tells the two apart.
$ne and $nin are exactly what $eq and $in are not. Numbers compare by value, True and False equal only themselves, text
is ordered by code point, and values of different kinds are never in an order. Of a list in the metadata one element is
enough. These are rules that SQL over JSON can follow.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias, cast

from ragkit.errors import InvalidInputError

Scalar: TypeAlias = str | int | float | bool | None
Order = Literal["$gt", "$gte", "$lt", "$lte"]
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_ON_FIELDS = ("$eq", "$ne", "$in", "$nin", "$exists", *_ORDERS)
_ON_CONDITIONS = ("$and", "$or", "$not")


@dataclass(frozen=True, slots=True)
class Equals:
    """One of the field's values is one of these."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Ordered:
    """One of the field's values is of this value's kind and stands in this order to it."""

    field: str
    order: Order
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is there, whatever its value."""

    field: str


@dataclass(frozen=True, slots=True)
class Not:
    """The other does not hold."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class All:
    """Every one holds; nothing asked is always fulfilled."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one holds."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Equals | Ordered | Exists | Not | All | AnyOf


def parse_where(where: Mapping[str, object]) -> Condition:
    """Read a filter.

    Args:
        where: Fields or operators, each with what is asked of it.

    Returns:
        The condition.

    Raises:
        InvalidInputError: If it is not a mapping, an operator is unknown, or an operand is not of its kind.
    """
    if not isinstance(where, Mapping):
        raise InvalidInputError(f'a filter must be a mapping such as {{"lang": "en"}}, got {type(where).__name__}')
    parts: list[Condition] = []
    for name, asked in where.items():
        if not isinstance(name, str):
            raise InvalidInputError(f"a filter's names must be text, got {name!r}")
        if name in {"$and", "$or"}:
            if not isinstance(asked, (list, tuple)) or not asked:
                raise InvalidInputError(f"{name} takes a list of filters, got {asked!r}")
            inner = tuple(parse_where(each) for each in asked)
            parts.append(All(inner) if name == "$and" else AnyOf(inner))
        elif name == "$not":
            parts.append(Not(parse_where(cast("Mapping[str, object]", asked))))
        elif name.startswith("$"):
            raise InvalidInputError(_unknown(name, _ON_CONDITIONS, "a filter"))
        elif isinstance(asked, Mapping):
            if not asked:
                raise InvalidInputError(f'field {name!r} needs an operator, such as {{"$gte": 2020}}')
            parts += [_on_field(name, each, operand) for each, operand in asked.items()]
        else:
            parts.append(_on_field(name, "$eq", asked))
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def matches(condition: Condition, metadata: Mapping[str, object] | None) -> bool:
    """Whether metadata fulfil a condition.

    Args:
        condition: What `parse_where` gave.
        metadata: The values; None for none.

    Returns:
        True or False.
    """
    held = metadata or {}
    match condition:
        case Equals(field, values):
            return any(_same(one, value) for one in _values(held, field) for value in values)
        case Ordered(field, order, value):
            return any(_comparable(one, value) and _ORDERS[order](one, value) for one in _values(held, field))
        case Exists(field):
            return field in held
        case Not(inner):
            return not matches(inner, held)
        case All(conditions):
            return all(matches(each, held) for each in conditions)
        case AnyOf(conditions):
            return any(matches(each, held) for each in conditions)


def fields(condition: Condition) -> frozenset[str]:
    """The fields that a condition names.

    Args:
        condition: What `parse_where` gave.

    Returns:
        Their names.
    """
    match condition:
        case Equals(field) | Ordered(field) | Exists(field):
            return frozenset([field])
        case Not(inner):
            return fields(inner)
        case All(conditions) | AnyOf(conditions):
            return frozenset(name for each in conditions for name in fields(each))


def _on_field(field: str, name: str, operand: object) -> Condition:
    if name in {"$eq", "$ne"}:
        equal = Equals(field, (_scalar(field, name, operand),))
        return equal if name == "$eq" else Not(equal)
    if name in {"$in", "$nin"}:
        if not isinstance(operand, (list, tuple, set, frozenset)):
            raise InvalidInputError(f"field {field!r}: {name} takes a list of values, got {operand!r}")
        among = Equals(field, tuple(_scalar(field, name, each) for each in operand))
        return among if name == "$in" else Not(among)
    if name == "$exists":
        if not isinstance(operand, bool):
            raise InvalidInputError(f"field {field!r}: $exists takes True or False, got {operand!r}")
        return Exists(field) if operand else Not(Exists(field))
    if name in _ORDERS:
        if isinstance(operand, bool) or not isinstance(operand, (str, int, float)) or operand != operand:
            raise InvalidInputError(f"field {field!r}: {name} takes a number or text, got {operand!r}")
        return Ordered(field, cast("Order", name), operand)
    raise InvalidInputError(_unknown(name, _ON_FIELDS, f"field {field!r}"))


def _scalar(field: str, name: str, operand: object) -> Scalar:
    if operand is None or isinstance(operand, (str, bool, int)):
        return operand
    if isinstance(operand, float) and not math.isnan(operand):
        return operand
    raise InvalidInputError(f"field {field!r}: {name} takes text, a number, True, False or None, got {operand!r}")


def _unknown(name: object, known: Sequence[str], where: str) -> str:
    close = get_close_matches(str(name), known, n=1, cutoff=0.5)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    return f"{where}: unknown operator {name!r}.{meant} Known: {', '.join(known)}"


def _values(held: Mapping[str, object], field: str) -> Sequence[object]:
    value = held.get(field)
    return value if isinstance(value, (list, tuple)) else (value,)


def _same(one: object, other: Scalar) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def _comparable(one: object, other: str | int | float) -> bool:
    if isinstance(one, bool):
        return False
    return isinstance(one, str) if isinstance(other, str) else isinstance(one, (int, float))
