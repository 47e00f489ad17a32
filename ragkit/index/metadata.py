"""Metadata as an index keeps them: as JSON, and as facts that SQLite compares as `ragkit.where` does."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ragkit.errors import InvalidInputError
from ragkit.where import Key, key_of

_TEXT = frozenset({str})
_SCALARS = frozenset({str, int, float, bool, type(None)})
_DEEPEST = 50  # lists and mappings inside each other; every reader of JSON has a limit somewhere behind it


def read_metadata(metadata: object, where: str) -> dict[str, object]:
    """Metadata as a user has them, as a dictionary that JSON can hold but for what `all_as_json` refuses.

    Args:
        metadata: The values; None for none.
        where: What the document is called in messages.

    Returns:
        The values.

    Raises:
        InvalidInputError: If a value is of a type that JSON does not have, or a key is no text.
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
    """The metadata of some documents as the database holds them.

    Args:
        several: What `read_metadata` gave.
        first: The number of the first document, for messages.

    Returns:
        JSON for each.

    Raises:
        InvalidInputError: If there is an infinite number, half a surrogate pair, or a number that is too long.
    """
    try:
        encoded = _JSON.encode(several)  # at once, which is three times as fast
        encoded.encode()
    except ValueError:
        parts = []
    else:
        parts = encoded[2:-2].split("}, {")
    if len(parts) == len(several):  # so there is none inside
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
    """The values of some fields of a document, as filters search them.

    Args:
        key: The document's key.
        metadata: Its metadata as JSON.
        fields: The fields.

    Yields:
        Key, field, and what `fact_of` gives: of a list for each element, for an empty one once.
    """
    held = json.loads(metadata)
    for field in fields:
        if field in held:
            value = held[field]
            for one in (value or [[]]) if isinstance(value, list) else [value]:
                yield key, field, *fact_of(key_of(one))


def fact_of(key: Key | None) -> tuple[str, str | int | float | None]:
    """Kind and value of a fact, equal in SQLite exactly where the keys are."""
    if key is None:
        return "other", None
    kind, value = key
    return (kind, repr(value)) if value is None or isinstance(value, bool) else (kind, value)


def _plain(value: object) -> bool | int | float:
    """A number of numpy as one of Python; a span of time is none, though numpy counts it among them."""
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer) and value.dtype.kind in "iu":
        return int(value)
    if isinstance(value, np.floating):
        return float(value)
    raise TypeError(type(value).__name__)


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)


def check_values(value: object, place: str, depth: int = 0) -> None:
    """Refuse what JSON cannot hold, or would hold as something else.

    Args:
        value: What may stand in metadata.
        place: What it is called in messages.
        depth: Lists and mappings around it.

    Raises:
        InvalidInputError: If there is such a value; it says where.
    """
    if depth > _DEEPEST:
        raise InvalidInputError(f"{place[:80]}... is nested too deep: at most {_DEEPEST} lists and mappings")
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
    """What a value is that JSON cannot hold, else an empty string."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "text with half a surrogate pair"
    elif value is not None and not isinstance(value, int):
        try:
            number = value if isinstance(value, float) else _plain(value)
        except TypeError:
            return f"of type {type(value).__name__}"
        if not math.isfinite(number):
            return repr(value)
    return ""
