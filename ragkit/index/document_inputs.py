"""Documents as users pass them, read and checked before anything changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol, cast, runtime_checkable

from ragkit.errors import InvalidInputError
from ragkit.index.metadata import all_as_json, read_metadata
from ragkit.records import Document


@runtime_checkable
class LangChainDocument(Protocol):
    """A LangChain document, recognised by its attributes."""

    page_content: str
    metadata: dict[str, object]


AnyDocument = Document | str | LangChainDocument


class Incoming(NamedTuple):
    """A document to be added to an index.

    Attributes:
        id: Its id; a hash of its content if the user gave none.
        text: Its text.
        metadata: Its metadata as JSON.
        hash: Hash of the text.
    """

    id: str
    text: str
    metadata: str
    hash: bytes


def read_documents(batch: Sequence[object], first: int) -> list[Incoming]:
    """Read a batch of documents.

    Args:
        batch: Documents, strings or LangChain documents.
        first: Index of the first document, for error messages.

    Returns:
        The documents with their ids.

    Raises:
        InvalidInputError: If an item has another type, or if a part of it is invalid.
    """
    given = [_parts(each, f"documents[{first + place}]") for place, each in enumerate(batch)]
    metadata = all_as_json([held for _, _, _, held in given], first)
    return [
        Incoming(_name(held, encoded) if own is None else own, text, held, blake2b(encoded, digest_size=16).digest())
        for (own, text, encoded, _), held in zip(given, metadata, strict=True)
    ]


def checked_texts(name: str, several: object) -> list[str]:
    """Check ids or queries and return them as a list.

    Args:
        name: Name of the argument in error messages.
        several: Any number of texts.

    Returns:
        The texts.

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
    return own, text, encoded, read_metadata(metadata, where)


def _name(metadata: str, text: bytes) -> str:
    return blake2b(metadata.encode() + b"\n" + text, digest_size=16).hexdigest()


def _encoded(value: object, name: str, where: str) -> bytes:
    if not isinstance(value, str):
        raise InvalidInputError(f"{where}: `{name}` must be text, got {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{where}: `{name}` contains a lone surrogate, which is not valid text") from error
