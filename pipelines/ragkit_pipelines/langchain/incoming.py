"""Texts and documents that users add to a vector store, checked before anything is embedded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from uuid import uuid4

from langchain_core.documents import Document

from ragkit._text import refuse_bare_string
from ragkit.errors import InvalidInputError
from ragkit.records import Document as Stored
from ragkit_pipelines.langchain.metadata_text import Conversion, storable
from ragkit_pipelines.langchain.searching import of_parts

Metadatas = Iterable[Mapping[str, Any] | None]
Ids = Iterable[str | None]


def documents_of_texts(texts: Iterable[str], metadatas: Metadatas | None) -> list[Document]:
    """Return documents with the texts and their metadata."""
    listed = cast("Sequence[str]", texts) if isinstance(texts, str) else list(texts)
    refuse_bare_string("texts", listed)
    given = [None] * len(listed) if metadatas is None else list(metadatas)
    if len(given) != len(listed):
        raise InvalidInputError(f"`metadatas` must have {len(listed)} items, one per text; got {len(given)}")
    for place, (text, metadata) in enumerate(zip(listed, given, strict=True)):
        if not isinstance(text, str):
            raise InvalidInputError(f"`texts`[{place}] must be a text, got {type(text).__name__}")
        if not isinstance(metadata, Mapping | None):
            raise InvalidInputError(f"`metadatas`[{place}] must be a mapping, got {type(metadata).__name__}")
    return [of_parts(text, metadata, None) for text, metadata in zip(listed, given, strict=True)]


def checked_documents(documents: Iterable[Document | Stored], conversion: Conversion) -> list[Document]:
    """Return documents whose metadata can be stored; the given ones are not modified."""
    if isinstance(documents, str | Document | Stored | Mapping) or not isinstance(documents, Iterable):
        raise InvalidInputError(f"`documents` must be a sequence of documents, got one {type(documents).__name__}")
    checked = []
    for place, given in enumerate(documents):
        document = of_parts(given.text, given.metadata, given.id) if isinstance(given, Stored) else given
        if not isinstance(document, Document):
            raise InvalidInputError(
                f"documents[{place}] must be a LangChain Document with text, got {type(document).__name__}; for an "
                "image or another file, add a document with its text or a description, and its path in the metadata"
            )
        metadata = storable(document.metadata, f"documents[{place}]", conversion)
        same = metadata is document.metadata
        checked.append(document if same else document.model_copy(update={"metadata": metadata}))
    return checked


def named(documents: Sequence[Document], ids: Ids | None) -> list[Document]:
    """Return copies of documents with the given ids, their own ids, or new ones."""
    if ids is not None:
        refuse_bare_string("ids", cast("Sequence[str]", ids))
    own = [None] * len(documents) if ids is None else list(ids)
    if len(own) != len(documents):
        raise InvalidInputError(f"`ids` must have {len(documents)} items, one per document; got {len(own)}")
    return [
        document.model_copy(update={"id": document.id or str(uuid4()) if given is None else given})
        for document, given in zip(documents, own, strict=True)
    ]
