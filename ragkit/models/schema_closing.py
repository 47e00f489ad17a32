"""JSON schemas whose objects hold only the properties that they name, so that a weak model cannot invent others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_Schema = Mapping[str, Any]
# Where a schema holds others; everything else, such as `const`, `enum` and `default`, holds values.
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_ONES = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames")


def closed(schema: Mapping[str, object]) -> dict[str, Any]:
    """Close the objects of a schema that name their properties, unless it says otherwise.

    An object whose properties are named in several places, as by ``allOf``, is closed as a whole: each place allows
    the properties of the others.

    Args:
        schema: A JSON schema.

    Returns:
        A schema for instances of the given one without additional properties.
    """
    closing: dict[str, Any] = _Closing(schema).schema(schema, frozenset())
    return closing


class _Closing:
    def __init__(self, root: _Schema) -> None:
        self._root = root

    def schema(self, schema: Any, others: frozenset[str]) -> Any:
        """Close a schema, in which ``others`` are the properties that other parts of the same object name.

        Returns:
            The schema.
        """
        if not isinstance(schema, Mapping):
            return schema
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
        """Make a reference beside properties a part of the same object; others stay, and may be recursive."""
        inline = inline or "properties" in schema or "allOf" in schema
        target = self._target(schema["$ref"]) if "$ref" in schema and inline else None
        if target is None or not self._names(target):
            return schema
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        return {**rest, "allOf": [*schema.get("allOf", ()), target]} if rest else target

    def _target(self, reference: object) -> Any:
        """The definition that a reference within the schema points at; None if it is not there."""
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return None
        found: Any = self._root
        for step in reference[2:].split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def _names(self, schema: Any, seen: frozenset[str] = frozenset()) -> set[str]:
        """The properties that a schema and its parts name for one object."""
        if not isinstance(schema, Mapping):
            return set()
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
