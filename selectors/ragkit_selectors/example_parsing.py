"""Parsing of the examples and mappings that users pass in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ragkit.errors import InvalidInputError
from ragkit.records import Example, Fields

_OWN = ("id", "metadata")


def read_example(example: object, where: str, output: str = "output") -> Example:
    """Convert an example or a mapping to an `Example`; ``where`` is its name in error messages.

    A mapping with ``input`` provides the input, output, id and metadata; its other entries become metadata. In any
    other mapping, all text entries become fields of the input, and all entries become metadata.

    Returns:
        The example; an `Example` is returned unchanged.

    Raises:
        InvalidInputError: If the object is neither, or an entry has the wrong type.
    """
    if not isinstance(example, (Example, Mapping)):
        kind = type(example).__name__
        raise InvalidInputError(f"{where} must be an Example or a mapping with its fields, got {kind}")
    made = example if isinstance(example, Example) else _from_mapping(example, where, output)
    found: dict[str, object] = {output: made.output, "id": "" if made.id is None else made.id}
    for name, value in found.items():  # data from files does not respect the type annotations
        if not isinstance(value, str):
            raise InvalidInputError(f"{where}: `{name}` must be text, got {type(value).__name__}")
    return made


def _from_mapping(entries: Mapping[str, object], where: str, output: str) -> Example:
    if output not in entries:
        advice = "" if "input" in entries else "; say which of them is the answer: output=… (--output in a shell)"
        raise InvalidInputError(f"{where} has no {output!r}; its entries: {list(entries)}{advice}")
    given = entries.get("metadata") or {}
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"{where}: `metadata` must be a mapping, got {type(given).__name__}")
    rest = {name: value for name, value in entries.items() if name not in {*_OWN, output}}
    if "input" in rest:
        value = cast("str | Fields", rest.pop("input"))  # checked when its text is taken
    else:
        value = {name: entry for name, entry in rest.items() if isinstance(entry, str)}
        if not value:
            raise InvalidInputError(f"{where} has no 'input' and no other text to search; its entries: {list(entries)}")
    return Example(
        value,
        cast("str", entries[output]),
        id=cast("str | None", entries.get("id")),
        metadata={**rest, **given} or None,
    )
