"""The values of metadata fields in the form that SQLite compares like `ragkit.where`; they are the table ``facts``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ragkit.errors import IntegrityError
from ragkit.index._checksum import BITS, checksum
from ragkit.where import Key, key_of


def values_of(key: int, metadata: str, fields: Iterable[str]) -> Iterator[tuple[int, str, str, object]]:
    """Yield key, field and `comparable` of the values of a document: each element of a list, or one if it is empty."""
    held = metadata_of(metadata, key)
    for field in fields:
        if field in held:
            value = held[field]
            for one in (value or [[]]) if isinstance(value, list) else [value]:
                yield key, field, *comparable(key_of(one))


def metadata_of(metadata: str, key: int) -> dict[str, Any]:
    """Return the metadata of the document with a key.

    Raises:
        IntegrityError: If they are not a JSON object, which an index never writes.
    """
    try:
        found = json.loads(metadata)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise IntegrityError(f"the metadata of the document with key {key} are not a JSON object; add it again")
    return found


def comparable(key: Key | None) -> tuple[str, str | int | float | None]:
    """Return kind and value, which are equal in SQLite if and only if the keys are equal."""
    if key is None:
        return "other", None
    kind, value = key
    return (kind, repr(value)) if value is None or isinstance(value, bool) else (kind, value)


def value_sums(values: Iterable[Sequence[object]]) -> dict[str, int]:
    """Return an order-independent checksum for each field; those of several documents are added modulo `BITS`."""
    sums: dict[str, int] = {}
    for key, field, kind, value in values:
        sums[str(field)] = (sums.get(str(field), 0) + checksum(f"{key} {kind} {value!r}".encode())) % BITS
    return sums
