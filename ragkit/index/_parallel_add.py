"""Adding documents with a worker pool: workers embed, and this process reads and writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ragkit._progress import progress
from ragkit.errors import InvalidInputError, MissingResultsError
from ragkit.index._document_inputs import AnyDocument, Incoming, read_documents
from ragkit.index._store import Store
from ragkit.index._vectors import storable_vectors
from ragkit.index._writer import checked_batch_size, put, to_embed
from ragkit.protocols import Embedder
from ragkit.workers._batches import Batch, Done, Missing
from ragkit.workers._embedding import EmbedTexts
from ragkit.workers._pool import WorkerPool


def add_pooled(
    store: Store,
    embedder: Embedder | None,
    documents: Iterable[AnyDocument],
    pool: WorkerPool,
    batch_size: int | None,
) -> list[str]:
    """Return the ids of documents, added in batches, while workers embed the next ones; see `Index.add`.

    Raises:
        InvalidInputError: If a document is invalid; the documents of earlier batches are added.
        MissingResultsError: If texts could not be embedded; the error lists them, and all other documents are added.
    """
    size = checked_batch_size(store, embedder, documents, None, batch_size)
    assert embedder is not None  # noqa: S101 - as has just been checked
    work = EmbedTexts(embedder.name, expected=embedder.fingerprint)
    reading = _Reading(store, documents, size)
    failed: dict[bytes, Missing] = {}
    ids: list[str] = []
    missing: list[Missing] = []
    total = len(documents) if isinstance(documents, Sequence) else None
    with progress("adding documents", total) as advance, closing(pool.stream(work, reading.batches())) as ended:
        for each in ended:
            read, hashes = reading.ahead.popleft()
            if isinstance(each, Missing):
                failed |= dict.fromkeys(hashes, each)
            lost = [one for one in read if one.hash in failed]
            if lost:
                why = failed[lost[0].hash]
                missing.append(Missing([one.id for one in lost], why.reason, why.attempts))
            with store.changing():
                kept = [one for one in read if one.hash not in failed]
                put(store, embedder, kept, None, _vectors(store, hashes, each))
            ids += [one.id for one in read]
            advance(len(read))
    if missing:
        raise MissingResultsError([], missing)
    if reading.problem is not None:
        raise reading.problem
    return ids


class _Reading:
    """Documents that were read but not yet added, with the hashes of their texts that are being embedded."""

    def __init__(self, store: Store, documents: Iterable[object], size: int) -> None:
        self._store, self._rest, self._size = store, iter(documents), size
        self.ahead: deque[tuple[list[Incoming], list[bytes]]] = deque()
        self.problem: InvalidInputError | None = None

    def batches(self) -> Iterator[Batch]:
        """Yield batches of new texts, which are neither in the index nor being embedded."""
        count = 0
        while True:
            try:  # iterating may read a file
                batch = list(islice(self._rest, self._size))
                read = read_documents(batch, count)
            except InvalidInputError as error:
                self.problem = error  # raised after the documents before it are added
                return
            if not batch:
                return
            count += len(batch)
            under_way = {name for _, hashes in self.ahead for name in hashes}
            with self._store.changing():
                texts = {name: text for name, text in to_embed(self._store, read).items() if name not in under_way}
            self.ahead.append((read, list(texts)))
            yield Batch([name.hex() for name in texts], list(texts.values()))


def _vectors(store: Store, hashes: list[bytes], each: Done | Missing) -> Mapping[bytes, NDArray[np.float32]]:
    if isinstance(each, Missing) or not hashes:
        return {}
    vectors = storable_vectors(np.asarray(each.results), "embeddings", store.state.facts)
    return dict(zip(hashes, vectors, strict=True))
