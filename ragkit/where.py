"""Metadata filters in LangChain's operator style, parsed once into a small tree and then evaluated.

In ``{"lang": "en", "year": {"$gte": 2020}}``, all entries must hold; ``{}`` always holds. The operators of a field are
$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin and $exists; $and, $or and $not are at the level of fields. A field is a key
of the metadata, never a path.

- As in MongoDB, a missing field equals None and nothing else; only $exists distinguishes the two.
- $ne, $nin and $not exactly negate $eq, $in and the condition, so $ne with a value holds if the field is missing.
- Integers and floats compare by value; integers beyond 64 bits count as floats. True and False equal only themselves.
- Text is ordered by code point. Comparing values of different kinds is false and not an error.
- A list matches if one of its elements does; different operators may match different elements. An empty list equals
  nothing, not even None. Nested values, nan, and values that JSON does not have equal nothing.

An index applies the same rules in SQL. SQLite cannot store lone surrogates, so filters must not contain them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf
from numbers import Integral, Real
from operator import ge, gt, le, lt
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from ragkit._text import shown
from ragkit.errors import InvalidInputError

__all__ = ["matches", "parse_where"]

Where = Mapping[str, object]
Kind = Literal["text", "number", "constant"]
Key: TypeAlias = tuple[Kind, str | int | float | bool | None]
Order = Literal["$gt", "$gte", "$lt", "$lte"]
MISSING: Key = ("constant", None)  # the key of a missing field
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}
_ON_FIELDS = ("$eq", "$ne", "$in", "$nin", "$exists", *_ORDERS)
_ON_CONDITIONS = ("$and", "$or", "$not")
_DEEPEST = 50  # nested operators, each of which takes a few nested calls
_HALF_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Equals:
    """A condition that a value of the field is one of several, which are represented by the keys of `key_of`."""

    field: str
    keys: frozenset[Key]

    def holds(self, held: Mapping[str, object]) -> bool:
        """Return whether the condition holds for metadata."""
        value = held.get(self.field)
        if isinstance(value, (list, tuple)):
            return any(key_of(one) in self.keys for one in value)
        return key_of(value) in self.keys


@dataclass(frozen=True, slots=True)
class Ordered:
    """A condition that a value of the field is of the same kind as the key and compares to it as required."""

    field: str
    order: Order
    key: Key

    def holds(self, held: Mapping[str, object]) -> bool:
        """Return whether the condition holds for metadata."""
        value, in_order, (kind, asked) = held.get(self.field), _ORDERS[self.order], self.key
        keys = map(key_of, value if isinstance(value, (list, tuple)) else (value,))
        return any(key is not None and key[0] == kind and in_order(key[1], asked) for key in keys)


@dataclass(frozen=True, slots=True)
class Exists:
    """A condition that the field exists, whatever its value."""

    field: str

    def holds(self, held: Mapping[str, object]) -> bool:
        """Return whether the condition holds for metadata."""
        return self.field in held


@dataclass(frozen=True, slots=True)
class Not:
    """A condition that another one does not hold."""

    condition: Condition

    def holds(self, held: Mapping[str, object]) -> bool:
        """Return whether the condition holds for metadata."""
        return not self.condition.holds(held)


@dataclass(frozen=True, slots=True)
class All:
    """A condition that all of several hold; it always holds if there are none."""

    conditions: tuple[Condition, ...]

    def holds(self, held: Mapping[str, object]) -> bool:
        """Return whether the condition holds for metadata."""
        return all(each.holds(held) for each in self.conditions)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A condition that at least one of several holds."""

    conditions: tuple[Condition, ...]

    def holds(self, held: Mapping[str, object]) -> bool:
        """Return whether the condition holds for metadata."""
        return any(each.holds(held) for each in self.conditions)


Condition: TypeAlias = Equals | Ordered | Exists | Not | All | AnyOf


def parse_where(where: Mapping[str, object]) -> Condition:
    """Return the condition of a filter: fields with values or operators, and $and, $or and $not with filters.

    Raises:
        InvalidInputError: If the filter is not a mapping, an operator is unknown, or an operand has the wrong type.
    """
    try:
        return _parsed(where, 0)
    except InvalidInputError:
        raise
    except Exception as error:  # from a method of an operand, such as a number of a class of the caller
        raise InvalidInputError(
            f"a filter must consist of plain values, but reading one failed ({type(error).__name__}); use text, "
            "numbers, True, False and None"
        ) from error


def matches(condition: Condition, metadata: Mapping[str, object] | None) -> bool:
    """Return whether metadata fulfils a condition of `parse_where`; None counts as empty metadata."""
    return condition.holds(metadata or {})


def key_of(value: object) -> Key | None:
    """Return a key that two values of metadata or of filters share exactly if they are equal.

    It holds the kind of the value and the value itself as a plain Python value; None for a value that equals nothing.
    """
    if isinstance(value, str):
        return "text", value if type(value) is str else str.__str__(value)  # without methods of a class of the caller
    if value is None or isinstance(value, bool):
        return "constant", value
    if isinstance(value, (int, Integral)):
        if -(2**63) <= (whole := int(value)) < 2**63:
            return "number", whole
    elif isinstance(value, np.bool_):
        return "constant", bool(value)
    elif not isinstance(value, (float, Real)) or value != value:
        return None
    try:
        return "number", float(value)
    except OverflowError:
        return "number", inf if value > cast("Any", 0) else -inf


def fields(condition: Condition) -> frozenset[str]:
    """Return the names of the fields that a condition depends on."""
    match condition:
        case Equals(field) | Ordered(field) | Exists(field):
            return frozenset([field])
        case Not(inner):
            return fields(inner)
        case All(conditions) | AnyOf(conditions):
            return frozenset(name for each in conditions for name in fields(each))


def _parsed(where: object, depth: int) -> Condition:
    if not isinstance(where, Mapping):
        raise InvalidInputError(f'a filter must be a mapping such as {{"lang": "en"}}, got {type(where).__name__}')
    if depth > _DEEPEST:
        raise InvalidInputError(f"a filter has at most {_DEEPEST} operators inside each other; write it flatter")
    parts = tuple(part for name, asked in where.items() for part in _entry(name, asked, depth + 1))
    return parts[0] if len(parts) == 1 else All(parts)


def _entry(name: object, asked: object, depth: int) -> Iterator[Condition]:
    if not isinstance(name, str) or _HALF_PAIR.search(name):
        raise InvalidInputError(f"a filter's names must be text without lone surrogates, got {shown(name)}")
    if name in {"$and", "$or"}:
        if not isinstance(asked, (list, tuple)) or not asked:
            raise InvalidInputError(f"{name} takes a list of filters, at least one, got {shown(asked)}")
        inner = tuple(_parsed(each, depth) for each in asked)
        yield All(inner) if name == "$and" else _any_of(inner)
    elif name == "$not":
        yield Not(_parsed(asked, depth))
    elif name.startswith("$"):
        raise InvalidInputError(_unknown(name, _ON_CONDITIONS, "a filter", f'{{"year": {{"{name[:20]}": ...}}}}'))
    elif isinstance(asked, Mapping):
        if not asked:
            raise InvalidInputError(f'field {shown(name)} needs an operator, such as {{"$gte": 2020}}')
        yield from (_on_field(name, each, operand) for each, operand in asked.items())
    else:
        yield _on_field(name, "$eq", asked)


def _any_of(conditions: Iterable[Condition]) -> Condition:
    """Combine conditions with $or; equality conditions on one field are merged, which makes them as fast as $in."""
    keys: dict[str, set[Key]] = {}
    others: list[Condition] = []
    for each in conditions:
        if isinstance(each, Equals):
            keys.setdefault(each.field, set()).update(each.keys)
        else:
            others.append(each)
    parts = (*(Equals(field, frozenset(held)) for field, held in keys.items()), *others)
    return parts[0] if len(parts) == 1 else AnyOf(parts)


def _on_field(field: str, name: str, operand: object) -> Condition:
    if name in {"$eq", "$ne", "$in", "$nin"}:
        several = name in {"$in", "$nin"}
        if several and not isinstance(operand, (list, tuple, set, frozenset)):
            raise InvalidInputError(f"field {shown(field)}: {name} takes a list of values, got {shown(operand)}")
        operands = cast("Iterable[object]", operand) if several else (operand,)
        among = Equals(field, frozenset(_operand(field, name, each) for each in operands))
        return Not(among) if name in {"$ne", "$nin"} else among
    if name == "$exists":
        if not isinstance(operand, bool):
            raise InvalidInputError(f"field {shown(field)}: $exists takes True or False, got {shown(operand)}")
        return Exists(field) if operand else Not(Exists(field))
    if name in _ORDERS:
        key = _operand(field, name, operand)
        if key[0] != "constant":
            return Ordered(field, cast("Order", name), key)
        raise InvalidInputError(f"field {shown(field)}: {name} takes a number or text, got {shown(operand)}")
    inner = '{"year": ...}' if name == "$not" else '[{"year": ...}, ...]'
    raise InvalidInputError(_unknown(name, _ON_FIELDS, f"field {shown(field)}", f'{{"{name}": {inner}}}'))


def _operand(field: str, name: str, operand: object) -> Key:
    key = key_of(operand)
    if key is not None and not (isinstance(key[1], str) and _HALF_PAIR.search(key[1])):
        return key
    kinds = "a number or text" if name in _ORDERS else "text, a number, True, False or None"
    hint = ' (for one of several write {"$in": [...]})' if isinstance(operand, (list, tuple, set, frozenset)) else ""
    hint = " (text with lone surrogates is never stored)" if isinstance(operand, str) else hint
    raise InvalidInputError(f"field {shown(field)}: {name} takes {kinds}, got {shown(operand)}{hint}")


def _unknown(name: object, known: Sequence[str], place: str, right: str) -> str:
    if name in (*_ON_FIELDS, *_ON_CONDITIONS):
        return f"{place}: {shown(name)} has no place here; write {right}"
    close = get_close_matches(str(name)[:20].lower(), known, n=1, cutoff=0.7)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    return f"{place}: unknown operator {shown(name)}.{meant} Known: {', '.join(known)}"
