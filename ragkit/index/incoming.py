"""Documents as users have them, read and checked before anything changes."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple, Protocol, cast, runtime_checkable

from ragkit.errors import InvalidInputError
from ragkit.index.metadata import metadata_json
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


def read_document(given: object, where: str) -> Incoming:
    """Read one document.

    Args:
        given: A `Document`, a string or a LangChain document.
        where: What it is called in messages.

    Returns:
        The document with an id.

    Raises:
        InvalidInputError: If it is none of these, or a part of it is not what it should be.
    """
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
    held = metadata_json(metadata, where)
    name = blake2b(held.encode() + b"\n" + encoded, digest_size=16).hexdigest() if own is None else own
    return Incoming(name, text, held, blake2b(encoded, digest_size=16).digest())


def _encoded(value: object, name: str, where: str) -> bytes:
    if not isinstance(value, str):
        raise InvalidInputError(f"{where}: `{name}` must be text, got {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{where}: `{name}` holds half a surrogate pair, which is no text") from error
