"""The methods of a LangChain ``VectorStore`` that add, replace, delete and return documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
from langchain_core.documents import Document
from typing_extensions import override

from ragkit.errors import CallCancelledError, InvalidInputError
from ragkit.index import Index
from ragkit.index._copying import add_all
from ragkit.models._concurrency import run_cancellable, stop_requested
from ragkit_pipelines.langchain.incoming import Ids, Metadatas, checked_documents, documents_of_texts, named
from ragkit_pipelines.langchain.metadata_text import Conversion
from ragkit_pipelines.langchain.searching import of_parts
from ragkit_pipelines.langchain.store_searches import StoreSearches


class StoreWrites(StoreSearches):
    """Changes of a store, each of which is committed when the method returns.

    Attributes:
        index: The index.
        metadata_conversion: How values of metadata that JSON cannot represent are converted.
    """

    index: Index
    metadata_conversion: Conversion

    @override
    def add_texts(  # type: ignore[override]
        self, texts: Iterable[str], metadatas: Metadatas | None = None, ids: Ids | None = None
    ) -> list[str]:
        """Add texts, and replace those with the same id.

        Args:
            texts: The texts.
            metadatas: One per text.
            ids: One per text; None for a new id.

        Returns:
            The ids.

        Raises:
            InvalidInputError: If the number of ids or metadata differs from the number of texts.
        """
        return self.add_documents(documents_of_texts(texts, metadatas), ids)

    @override
    async def aadd_texts(  # type: ignore[override]
        self, texts: Iterable[str], metadatas: Metadatas | None = None, ids: Ids | None = None
    ) -> list[str]:
        return await run_cancellable(partial(self.add_texts, texts, metadatas, ids))

    def add_embeddings(
        self,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        metadatas: Metadatas | None = None,
        ids: Ids | None = None,
    ) -> list[str]:
        """Add texts with vectors that were computed before, and replace those with the same id.

        Args:
            text_embeddings: Pairs of a text and its vector, which must be one of the store's embedder.
            metadatas: One per text.
            ids: One per text; None for a new id.

        Returns:
            The ids.

        Raises:
            InvalidInputError: If an item is not a pair, or a vector does not have the dimension of the store.
        """
        pairs = list(text_embeddings)
        if not all(len(pair) == 2 for pair in pairs):
            raise InvalidInputError("`text_embeddings` must contain pairs of a text and its vector")
        documents = checked_documents(
            documents_of_texts([text for text, _ in pairs], metadatas), self.metadata_conversion
        )
        try:
            vectors = np.array([vector for _, vector in pairs], dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"the vectors of `text_embeddings` must be lists of numbers of the same length: {error}"
            ) from error
        return self.index.add(named(documents, ids), vectors=vectors) if pairs else []

    @override
    def add_documents(  # type: ignore[override]
        self, documents: Iterable[Document], ids: Ids | None = None, *, batch_size: int | None = None
    ) -> list[str]:
        """Add documents, and replace those with the same id; unchanged documents are not embedded again.

        If the task that awaits `aadd_documents` is cancelled, the batch in progress is committed, and no further one.

        Args:
            documents: The documents; they are not modified.
            ids: One per document, which takes precedence over its own id; None for its own id, or a new one.
            batch_size: Number of documents that are embedded and committed together.

        Returns:
            The ids.

        Raises:
            InvalidInputError: If the number of ids differs from the number of documents, or metadata contain a value
                that JSON cannot represent.
        """
        checked = checked_documents(documents, self.metadata_conversion)
        given = _until_cancelled(named(checked, ids), stop_requested())
        return self.index.add(given, batch_size=batch_size)

    @override
    async def aadd_documents(  # type: ignore[override]
        self, documents: Iterable[Document], ids: Ids | None = None, *, batch_size: int | None = None
    ) -> list[str]:
        return await run_cancellable(partial(self.add_documents, documents, ids, batch_size=batch_size))

    @override
    def delete(self, ids: Sequence[str] | None = None) -> bool:  # type: ignore[override]
        """Delete documents.

        Args:
            ids: The ids; unknown ids are ignored. None, which would delete all documents, is rejected.

        Returns:
            True.

        Raises:
            InvalidInputError: If ``ids`` is None.
        """
        if ids is None:
            raise InvalidInputError(
                "`ids` must be the ids to delete, got None; to delete all documents, create a new store"
            )
        self.index.delete(ids)
        return True

    @override
    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return documents by id, in the order of the ids; unknown ids are ignored."""
        return [of_parts(found.text, found.metadata, found.id) for found in self.index.get(ids)]

    def merge_from(self, target: StoreWrites) -> None:
        """Add the documents of another store, which is not changed; their vectors are not computed again.

        Args:
            target: The other store. Its documents replace those with the same id.

        Raises:
            InvalidInputError: If the stores have different embedders, dimensions or metrics.
        """
        if not isinstance(target, StoreWrites):
            raise InvalidInputError(f"`target` must be a RagkitVectorStore, got {type(target).__name__}")
        for name in ("fingerprint", "dim", "metric"):
            own, other = (store.index._store.state.facts[name] for store in (self, target))
            if own != other:
                raise InvalidInputError(
                    f"the stores have different vectors: {name} is {own!r} here and {other!r} in `target`; add the "
                    "documents of one of them with add_documents, which embeds them again"
                )
        add_all(target.index, self.index)


def _until_cancelled(documents: Iterable[Document], stopped: Callable[[], bool]) -> Iterator[Document]:
    for document in documents:
        if stopped():
            raise CallCancelledError("the addition of documents was cancelled", maybe_paid=False)
        yield document
