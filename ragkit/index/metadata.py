"""Storage of metadata: as JSON, and as facts that SQLite compares like `ragkit.where`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ragkit.errors import InvalidInputError
from ragkit.where import Key, key_of

_TEXT = frozenset({str})
_SCALARS = frozenset({str, int, float, bool, type(None)})
_DEEPEST = 50  # maximum nesting of lists and mappings; JSON parsers have limits above it


def read_metadata(metadata: object, where: str) -> dict[str, object]:
    """Check metadata and return them as a dictionary; `all_as_json` makes the remaining checks.

    Args:
        metadata: The values; None for none.
        where: Name of the document in error messages.

    Returns:
        The values.

    Raises:
        InvalidInputError: If a value has a type that JSON does not support, or if a key is not text.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, (dict, Mapping)):
        raise InvalidInputError(f"{where}: `metadata` must be a mapping, got {type(metadata).__name__}")
    held = metadata if isinstance(metadata, dict) else dict(metadata)
    if not (_TEXT.issuperset(map(type, held)) and _SCALARS.issuperset(map(type, held.values()))):
        check_values(held, f"{where}: metadata")
    return held


def all_as_json(several: Sequence[dict[str, object]], first: int) -> list[str]:
    """Encode the metadata of documents as JSON for the database.

    Args:
        several: Results of `read_metadata`.
        first: Index of the first document, for error messages.

    Returns:
        JSON for each document.

    Raises:
        InvalidInputError: If there is an infinite number, a lone surrogate, or a number that is too long.
    """
    try:
        encoded = _JSON.encode(several)  # one call is three times as fast as many
        encoded.encode()
    except ValueError:
        parts = []
    else:
        parts = encoded[2:-2].split("}, {")
    if len(parts) == len(several):  # the separator does not occur inside the values
        return [f"{{{part}}}" for part in parts]
    return [_as_json(held, f"documents[{first + place}]: metadata") for place, held in enumerate(several)]


def _as_json(held: dict[str, object], where: str) -> str:
    try:
        encoded = _JSON.encode(held)
        encoded.encode()
    except ValueError as error:
        check_values(held, where)
        raise InvalidInputError(f"{where} must be what JSON can hold: {error}") from error
    return encoded


def facts_of(key: int, metadata: str, fields: Iterable[str]) -> Iterator[tuple[int, str, str, object]]:
    """Extract the values of fields of a document, in the form that filters query.

    Args:
        key: The document's key.
        metadata: Its metadata as JSON.
        fields: The fields.

    Yields:
        Key, field, and the result of `fact_of`: one for each element of a list, or one for an empty list.
    """
    held = json.loads(metadata)
    for field in fields:
        if field in held:
            value = held[field]
            for one in (value or [[]]) if isinstance(value, list) else [value]:
                yield key, field, *fact_of(key_of(one))


def fact_of(key: Key | None) -> tuple[str, str | int | float | None]:
    """Return kind and value of a fact, which are equal in SQLite if and only if the keys are equal."""
    if key is None:
        return "other", None
    kind, value = key
    return (kind, repr(value)) if value is None or isinstance(value, bool) else (kind, value)


def _plain(value: object) -> bool | int | float:
    """Convert a NumPy number to a Python number; timedeltas are rejected, although NumPy treats them as numbers."""
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer) and value.dtype.kind in "iu":
        return int(value)
    if isinstance(value, np.floating):
        return float(value)
    raise TypeError(type(value).__name__)


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)


def check_values(value: object, place: str, depth: int = 0) -> None:
    """Check that JSON can represent a value without changing it.

    Args:
        value: A metadata value.
        place: Its name in error messages.
        depth: Number of enclosing lists and mappings.

    Raises:
        InvalidInputError: If JSON cannot represent the value or a part of it; the message names the position.
    """
    if depth > _DEEPEST:
        raise InvalidInputError(f"{place[:80]}... is nested too deeply: at most {_DEEPEST} lists and mappings")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidInputError(f"{place} has the key {key!r}; metadata must be what JSON can hold: use text")
            check_values(key, f"{place}: key {key!r}", depth)
            check_values(inner, f"{place}[{key!r}]", depth + 1)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            check_values(inner, f"{place}[{number}]", depth + 1)
    elif flaw := _flaw(value):
        raise InvalidInputError(
            f"{place} is {flaw}, but metadata must be what JSON can hold: text, finite numbers, True, False, None, "
            "lists and mappings of these"
        )


def _flaw(value: object) -> str:
    """Describe why JSON cannot represent a value; empty if it can."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "text with a lone surrogate"
    elif value is not None and not isinstance(value, int):
        try:
            number = value if isinstance(value, float) else _plain(value)
        except TypeError:
            return f"of type {type(value).__name__}"
        if not math.isfinite(number):
            return repr(value)
    return ""
