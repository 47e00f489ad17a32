"""Adding documents that a pool embeds: workers embed, this process reads and writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError, MissingResultsError
from ragkit.index.incoming import Incoming, read_documents
from ragkit.index.writing import put, to_embed
from ragkit.workers.batches import Batch, Done, Missing
from ragkit.workers.embedding import EmbedTexts
from ragkit.workers.pool import WorkerPool

if TYPE_CHECKING:
    from ragkit.index.core import Index


def add_pooled(
    index: Index, documents: Iterable[object], pool: WorkerPool, size: int, advance: Callable[[int], None]
) -> list[str]:
    """Add documents as `Index.add` does, batch after batch, while workers embed the next ones.

    Args:
        index: The index, open for writing, with an embedder that its spec can load.
        documents: Documents.
        pool: The workers.
        size: Documents of a batch.
        advance: Called with the number of documents just added.

    Returns:
        Their ids, in order.

    Raises:
        InvalidInputError: If a document is not what it should be; those of the batches before it are added.
        MissingResultsError: If texts could not be embedded; all other documents are added, and it names these.
    """
    assert index.embedder is not None  # noqa: S101 - `Index.add` has checked it
    work = EmbedTexts(index.embedder.name, expected=index.embedder.fingerprint)
    reading = _Reading(index, documents, size)
    failed: dict[bytes, Missing] = {}
    ids: list[str] = []
    missing: list[Missing] = []
    with closing(pool.stream(work, reading.batches())) as ended:
        for each in ended:
            read, hashes = reading.ahead.popleft()
            if isinstance(each, Missing):
                failed |= dict.fromkeys(hashes, each)
            lost = [one for one in read if one.hash in failed]
            if lost:
                why = failed[lost[0].hash]
                missing.append(Missing([one.id for one in lost], why.reason, why.attempts))
            with index._changing():
                put(index, [one for one in read if one.hash not in failed], None, _vectors(index, hashes, each))
            ids += [one.id for one in read]
            advance(len(read))
    if missing:
        raise MissingResultsError([], missing)
    if reading.problem is not None:
        raise reading.problem
    return ids


class _Reading:
    """Documents that were read and are not yet added, with the hashes of those of their texts that are embedded."""

    def __init__(self, index: Index, documents: Iterable[object], size: int) -> None:
        self._index, self._rest, self._size = index, iter(documents), size
        self.ahead: deque[tuple[list[Incoming], list[bytes]]] = deque()
        self.problem: InvalidInputError | None = None

    def batches(self) -> Iterator[Batch]:
        """The texts that are new, neither in the index nor on their way into it."""
        count = 0
        while True:
            try:  # a file is read while it is iterated over
                batch = list(islice(self._rest, self._size))
                read = read_documents(batch, count)
            except InvalidInputError as error:
                self.problem = error  # told when what was read before it is added
                return
            if not batch:
                return
            count += len(batch)
            under_way = {name for _, hashes in self.ahead for name in hashes}
            with self._index._changing():
                texts = {name: text for name, text in to_embed(self._index, read).items() if name not in under_way}
            self.ahead.append((read, list(texts)))
            yield Batch([name.hex() for name in texts], list(texts.values()))


def _vectors(index: Index, hashes: list[bytes], each: Done | Missing) -> Mapping[bytes, NDArray[np.float32]]:
    if isinstance(each, Missing) or not hashes:
        return {}
    return dict(zip(hashes, index._checked(np.asarray(each.results), "embeddings"), strict=True))
