"""JSON schemas without additional properties, which prevent a weak model from inventing some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ragkit.errors import InvalidInputError

_Schema = Mapping[str, Any]
_MAX_STEPS = 200_000
# Keywords that contain schemas; all others, such as `const`, `enum` and `default`, contain values.
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_ONES = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames")


def closed(schema: Mapping[str, object]) -> dict[str, Any]:
    """Disallow additional properties in objects that define properties, unless the schema specifies otherwise.

    If the properties of an object are defined in several subschemas, as with ``allOf``, each subschema allows the
    properties of the others.

    Args:
        schema: A JSON schema.

    Returns:
        A schema that accepts the same instances, except those with additional properties.

    Raises:
        InvalidInputError: If following its references takes too many steps.
    """
    closing: dict[str, Any] = _Closing(schema).schema(schema, frozenset())
    return closing


class _Closing:
    def __init__(self, root: _Schema) -> None:
        self._root = root
        self._steps = 0

    def _count_step(self) -> None:
        """Limit the steps, because a chain of references that are each used twice takes exponential time."""
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise InvalidInputError("`schema` has too many references in `allOf`, `anyOf` and `oneOf`; simplify it")

    def schema(self, schema: Any, others: frozenset[str]) -> Any:
        """Close a schema, in which ``others`` are the properties that other subschemas define for the same object."""
        if not isinstance(schema, Mapping):
            return schema
        self._count_step()
        schema = self._with_references_as_parts(schema, inline=bool(others))
        own = _properties(schema)
        parts = [part for name in ("allOf", "anyOf", "oneOf") for part in schema.get(name, ())]
        named = others.union(own, schema.get("required", ()))
        every = named.union(*map(self._names, parts))
        fixed = named.union(*map(self._names, schema.get("allOf", ())))
        made = {name: self._part(name, value, every, fixed) for name, value in schema.items()}
        if own and schema.get("type", "object") == "object":
            made["properties"] = {**made["properties"], **dict.fromkeys(sorted(every - own.keys()), True)}
            return {"additionalProperties": False, **made}
        return made

    def _part(self, name: str, value: Any, every: frozenset[str], fixed: frozenset[str]) -> Any:
        if name in _MAPS and isinstance(value, Mapping):
            return {key: self.schema(each, frozenset()) for key, each in value.items()}
        if name in _LISTS and isinstance(value, list):
            others = {"allOf": every, "anyOf": fixed, "oneOf": fixed}.get(name, frozenset())
            return [self.schema(each, others) for each in value]
        if name == "items" and isinstance(value, list):
            return [self.schema(each, frozenset()) for each in value]
        return self.schema(value, frozenset()) if name in _ONES else value

    def _with_references_as_parts(self, schema: _Schema, *, inline: bool) -> _Schema:
        """Replace a reference next to properties by an ``allOf``; other references are kept and may be recursive."""
        inline = inline or "properties" in schema or "allOf" in schema
        target = self._target(schema["$ref"]) if "$ref" in schema and inline else None
        if target is None or not self._names(target):
            return schema
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        return {**rest, "allOf": [*schema.get("allOf", ()), target]} if rest else target

    def _target(self, reference: object) -> Any:
        """Return the definition that a reference within the schema points to; None if it does not exist."""
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return None
        found: Any = self._root
        for step in reference[2:].split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def _names(self, schema: Any, seen: frozenset[str] = frozenset()) -> set[str]:
        """Return the properties that a schema and its subschemas define for one object."""
        if not isinstance(schema, Mapping):
            return set()
        self._count_step()
        found = {*_properties(schema), *schema.get("required", ())}
        for part in (part for name in ("allOf", "anyOf", "oneOf") for part in schema.get(name, ())):
            found |= self._names(part, seen)
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            found |= self._names(self._target(reference), seen | {reference})
        return found


def _properties(schema: _Schema) -> _Schema:
    named = schema.get("properties")
    return named if isinstance(named, Mapping) else {}
