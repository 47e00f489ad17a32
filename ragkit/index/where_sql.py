"""Metadata filters as SQL over a column of JSON, every value bound, by the rules of `ragkit.where`."""

from __future__ import annotations

from collections.abc import Collection

from ragkit.where import All, AnyOf, Condition, Equals, Exists, Not, Ordered, Scalar

_SIGNS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
# The values of one field: the elements of a list, or the value itself.
_HELD = (
    "(SELECT e.type AS kind, e.atom AS value FROM json_each(metadata) f, json_each(f.value) e "
    "WHERE f.key = ? AND f.type = 'array' UNION ALL "
    "SELECT f.type, f.atom FROM json_each(metadata) f WHERE f.key = ? AND f.type <> 'array')"
)


class Compiled:
    """A condition as an SQL expression.

    Attributes:
        text: The expression, with a question mark for every value.
        bound: The values.
    """

    def __init__(self, condition: Condition, indexed: Collection[str] = ()) -> None:
        """Compile a condition.

        Args:
            condition: What `ragkit.where.parse_where` gave.
            indexed: Fields whose values stand in the table ``facts``, which is faster to search.
        """
        self._indexed = indexed
        self.bound: list[str | int | float] = []
        self.text = self._compile(condition)

    def _compile(self, condition: Condition) -> str:
        match condition:
            case Equals(field, values):
                return f"({' OR '.join(self._equals(field, value) for value in values) or '0'})"
            case Ordered(field, order, value):
                return self._any(field, f"kind IN ({_kinds(value)}) AND value {_SIGNS[order]} ?", value)
            case Exists(field):
                self.bound.append(field)
                return "EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ?)"
            case Not(inner):
                return f"NOT ({self._compile(inner)})"
            case All(conditions):
                return f"({' AND '.join(map(self._compile, conditions)) or '1'})"
            case AnyOf(conditions):
                return f"({' OR '.join(map(self._compile, conditions))})"

    def _equals(self, field: str, value: Scalar) -> str:
        if value is None:
            null = self._any(field, "kind = 'null'")
            return f"({null} OR NOT {self._compile(Exists(field))})"
        if isinstance(value, bool):
            return self._any(field, "kind = ?", "true" if value else "false")
        return self._any(field, f"kind IN ({_kinds(value)}) AND value = ?", value)

    def _any(self, field: str, test: str, *values: str | int | float) -> str:
        if field in self._indexed:
            self.bound += [field, *values]
            return f"documents.key IN (SELECT document FROM facts WHERE field = ? AND {test})"  # noqa: S608
        self.bound += [field, field, *values]
        return f"EXISTS (SELECT 1 FROM {_HELD} WHERE {test})"  # noqa: S608 - every value is bound


def _kinds(value: str | int | float) -> str:
    return "'text'" if isinstance(value, str) else "'integer', 'real'"
