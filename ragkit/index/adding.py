"""Adding documents to an index in batches, each of which is one commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit.index.document_inputs import AnyDocument, read_documents
from ragkit.index.store import Store
from ragkit.index.vectors import storable_vectors
from ragkit.index.writer import put
from ragkit.progress import progress
from ragkit.protocols import Embedder

if TYPE_CHECKING:
    from ragkit.workers.pool import WorkerPool

_BATCH = 1024
_BATCH_OF_VECTORS = 16_384


def add_documents(
    store: Store,
    embedder: Embedder | None,
    documents: Iterable[AnyDocument],
    *,
    vectors: NDArray[np.floating] | None,
    batch_size: int | None,
    pool: WorkerPool | None,
) -> list[str]:
    """Add documents and replace those with the same id; see `Index.add`.

    Returns:
        Their ids, in order.

    Raises:
        InvalidInputError: If a document or a vector is invalid; its batch is not added.
        MissingResultsError: If the pool abandoned texts; all other documents are added.
    """
    store.check_writable()
    if isinstance(documents, str):
        raise InvalidInputError("`documents` must be several documents, got one string; put it in a list")
    if vectors is not None:
        vectors = storable_vectors(np.asarray(vectors), "vectors", store.state.facts)
    elif embedder is None:
        raise InvalidInputError("this index has no embedder; give `vectors`")
    total = len(documents) if isinstance(documents, Sequence) else None
    if vectors is not None and total != len(vectors):
        counted = "documents without a length; pass a list" if total is None else f"{total} documents"
        raise InvalidInputError(f"`vectors` holds {len(vectors)} rows for {counted}")
    size = (_BATCH if vectors is None else _BATCH_OF_VECTORS) if batch_size is None else batch_size
    if type(size) is not int or size < 1:
        raise InvalidInputError(f"`batch_size` must be a whole number of at least 1, got {batch_size!r}")
    if pool is not None and vectors is not None:
        raise InvalidInputError("`pool` is for embedding, but `vectors` are given; leave one of them out")
    ids: list[str] = []
    rest = iter(documents)
    with progress("adding documents", total) as advance:
        if pool is not None and embedder is not None:
            from ragkit.index.parallel_add import add_pooled

            return add_pooled(store, embedder, rest, pool, size, advance)
        while batch := list(islice(rest, size)):
            read = read_documents(batch, len(ids))
            part = None if vectors is None else vectors[len(ids) : len(ids) + len(batch)]
            with store.changing():
                put(store, embedder, read, part)
            ids += [each.id for each in read]
            advance(len(batch))
    return ids
