"""Documents as users have them, read and checked before anything changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol, cast, runtime_checkable

from ragkit.errors import InvalidInputError
from ragkit.index.metadata import all_as_json, read_metadata
from ragkit.records import Document


@runtime_checkable
class LangChainDocument(Protocol):
    """What LangChain calls a document, recognised by its members."""

    page_content: str
    metadata: dict[str, object]


AnyDocument = Document | str | LangChainDocument


class Incoming(NamedTuple):
    """A document on its way into an index.

    Attributes:
        id: Its id; where none was given, one made of its content.
        text: Its text.
        metadata: Its metadata as JSON.
        hash: Hash of the text.
    """

    id: str
    text: str
    metadata: str
    hash: bytes


def read_documents(batch: Sequence[object], first: int) -> list[Incoming]:
    """Read some documents.

    Args:
        batch: Each a `Document`, a string or a LangChain document.
        first: The number of the first, for messages.

    Returns:
        The documents with their ids.

    Raises:
        InvalidInputError: If one is none of these, or a part of it is not what it should be.
    """
    given = [_parts(each, f"documents[{first + place}]") for place, each in enumerate(batch)]
    metadata = all_as_json([held for _, _, _, held in given], first)
    return [
        Incoming(_name(held, encoded) if own is None else own, text, held, blake2b(encoded, digest_size=16).digest())
        for (own, text, encoded, _), held in zip(given, metadata, strict=True)
    ]


def checked_texts(name: str, several: object) -> list[str]:
    """Ids or queries as a list.

    Args:
        name: What the argument is called in messages.
        several: Any number of texts.

    Returns:
        The texts.

    Raises:
        InvalidInputError: If they are one text, no texts, or hold something else.
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
    """Id, text, the same as bytes, and metadata of one document."""
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
        raise InvalidInputError(f"{where}: `{name}` holds half a surrogate pair, which is no text") from error
