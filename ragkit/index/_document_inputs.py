"""Documents as users pass them, read and checked before anything changes; metadata become JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol, cast, runtime_checkable

import numpy as np

from ragkit._text import shown
from ragkit.errors import InvalidInputError
from ragkit.records import Document

_TEXT = frozenset({str})
_SCALARS = frozenset({str, int, float, bool, type(None)})
_DEEPEST = 50  # maximum nesting of lists and mappings; JSON parsers have limits above it


@runtime_checkable
class LangChainDocument(Protocol):
    """A LangChain document, recognised by its attributes."""

    page_content: str
    metadata: dict[str, object]


AnyDocument = Document | str | LangChainDocument


class Incoming(NamedTuple):
    """A document to be added to an index."""

    id: str  # a hash of the content if the user gave none
    text: str
    metadata: str  # as JSON
    hash: bytes  # of the text


def read_documents(batch: Sequence[object], first: int) -> list[Incoming]:
    """Return a batch of documents with their ids; ``first`` is the index of the first one in error messages.

    Raises:
        InvalidInputError: If an item has another type, or if a part of it is invalid.
    """
    given = [_checked_parts(each, f"documents[{first + place}]") for place, each in enumerate(batch)]
    metadata = _all_as_json([held for _, _, _, held in given], first)
    return [
        Incoming(_name(held, encoded) if own is None else own, text, held, blake2b(encoded, digest_size=16).digest())
        for (own, text, encoded, _), held in zip(given, metadata, strict=True)
    ]


def checked_texts(name: str, several: object) -> list[str]:
    """Return ids or queries as a list; ``name`` is the argument in error messages.

    Raises:
        InvalidInputError: If the argument is a single text, or contains anything that is not text.
    """
    if isinstance(several, str):
        raise InvalidInputError(f"`{name}` must be a sequence of texts, got one string; put it in a list")
    if not isinstance(several, Iterable):
        raise InvalidInputError(f"`{name}` must be a sequence of texts, got {type(several).__name__}")
    texts = list(several)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInputError(f"`{name}`[{place}] must be a text, got {type(text).__name__}")
    return texts


def _checked_parts(given: object, where: str) -> tuple[str | None, str, bytes, dict[str, object]]:
    try:
        return _parts(given, where)
    except InvalidInputError:
        raise
    except Exception as error:  # from a method of a class of the caller
        raise InvalidInputError(f"{where} cannot be read ({type(error).__name__}); use plain values") from error


def _parts(given: object, where: str) -> tuple[str | None, str, bytes, dict[str, object]]:
    """Return id, text, encoded text, and metadata of a document."""
    if isinstance(given, Document):
        text, own, metadata = given.text, given.id, given.metadata
    elif isinstance(given, str):
        text, own, metadata = given, None, None
    elif isinstance(given, LangChainDocument):
        text, metadata = given.page_content, given.metadata
        own = cast("str | None", getattr(given, "id", None))
    else:
        kind = type(given).__name__
        raise InvalidInputError(f"{where} must be a Document, a string or a LangChain document, got {kind}")
    encoded = _encoded(text, "text", where)
    if own is not None:
        _encoded(own, "id", where)
    return own, text, encoded, _metadata(metadata, where)


def _name(metadata: str, text: bytes) -> str:
    return blake2b(metadata.encode() + b"\n" + text, digest_size=16).hexdigest()


def _encoded(value: object, name: str, where: str) -> bytes:
    if not isinstance(value, str):
        raise InvalidInputError(f"{where}: `{name}` must be text, got {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{where}: `{name}` contains a lone surrogate, which is not valid text") from error


def _metadata(metadata: object, where: str) -> dict[str, object]:
    """Return metadata as a dictionary of which `_all_as_json` makes the remaining checks."""
    if metadata is None:
        return {}
    if not isinstance(metadata, (dict, Mapping)):
        raise InvalidInputError(f"{where}: `metadata` must be a mapping, got {type(metadata).__name__}")
    held = metadata if isinstance(metadata, dict) else dict(metadata)
    if not (_TEXT.issuperset(map(type, held)) and _SCALARS.issuperset(map(type, held.values()))):
        check_values(held, f"{where}: metadata")
    return held


def _all_as_json(several: Sequence[dict[str, object]], first: int) -> list[str]:
    """Encode the metadata of documents; one call is three times as fast as many."""
    try:
        encoded = _JSON.encode(several)
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
    """Check that JSON can represent a value of metadata without changing it; ``place`` names it in error messages.

    Raises:
        InvalidInputError: If JSON cannot represent the value or a part of it; the message names the position.
    """
    if depth > _DEEPEST:
        raise InvalidInputError(f"{place[:80]}... is nested too deeply: at most {_DEEPEST} lists and mappings")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidInputError(
                    f"{place} has the key {shown(key)}; metadata must be what JSON can hold: use text"
                )
            check_values(key, f"{place}: key {shown(key)}", depth)
            check_values(inner, f"{place}[{shown(key)}]", depth + 1)
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
            return shown(value)
    return ""
