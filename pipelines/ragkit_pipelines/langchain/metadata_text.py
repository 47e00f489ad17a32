"""Dates, UUIDs and paths in metadata, which are stored as text if the user asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from pathlib import PurePath
from typing import Any, Literal
from uuid import UUID

from ragkit._text import shown
from ragkit.errors import InvalidInputError

Conversion = Literal["text"] | None
CONVERTED = (date, time, UUID, PurePath)  # a datetime is a date
_DEEPEST = 60  # the index rejects values that are nested more deeply
_STORED = frozenset({str, int, float, bool, type(None)})


def check_conversion(conversion: object) -> None:
    """Raise an error for an unknown conversion."""
    if conversion not in {None, "text"}:
        raise InvalidInputError(f'`metadata_conversion` must be "text" or None, got {shown(conversion)}')


def storable(metadata: Mapping[str, Any], place: str, conversion: Conversion) -> Mapping[str, Any]:
    """Return metadata without dates, times, UUIDs and paths; the index checks all other values.

    Args:
        metadata: The metadata of a document.
        place: Where it is, for error messages.
        conversion: ``"text"`` to convert such values to text; None to reject them.

    Returns:
        The metadata; the same object if nothing is converted.

    Raises:
        InvalidInputError: If such values are rejected; the message names the field, its type and the option.
    """
    if _STORED.issuperset(map(type, metadata.values())):
        return metadata
    for name, value in metadata.items():
        found = _first_converted(value)
        if found is not None and conversion is None:
            raise InvalidInputError(
                f"{place}: metadata[{shown(name)}] is of type {type(found).__name__}, which JSON cannot represent; "
                'convert it, or pass metadata_conversion="text" to store dates, times, UUIDs and paths as text'
            )
        if found is not None:
            return {key: as_text(each) for key, each in metadata.items()}
    return metadata


def as_text(value: Any, depth: int = 0) -> Any:
    """Return a value in which dates and times are ISO 8601 text, and UUIDs and paths are text."""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, UUID | PurePath):
        return str(value)
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {key: as_text(each, depth + 1) for key, each in value.items()}
    if depth < _DEEPEST and isinstance(value, list | tuple):
        return [as_text(each, depth + 1) for each in value]
    return value


def _first_converted(value: object, depth: int = 0) -> object:
    """Return the first value inside a value that would be converted, or None."""
    if isinstance(value, CONVERTED):
        return value
    parts = list(value.values()) if isinstance(value, Mapping) else value
    if depth < _DEEPEST and isinstance(parts, list | tuple):
        return next((found for each in parts if (found := _first_converted(each, depth + 1)) is not None), None)
    return None
