"""`ShardedIndex`: several indexes searched as one. Each can be built separately, on a machine of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.errors import IntegrityError, InvalidInputError
from ragkit.index._core import Index
from ragkit.index._document_inputs import checked_texts
from ragkit.index._exact import Found, merged
from ragkit.index._text_search import Ranked, TextSearch
from ragkit.protocols import Embedder
from ragkit.records import Document
from ragkit.where import Where

_KEYS = 2**40  # keys per shard


class ShardedIndex(TextSearch):
    """A concatenation of indexes, as if their documents had been added to one index in this order.

    If all of them use exact search, the results are those of this one index, including the order of ties.

    Attributes:
        shards: The indexes.
        embedder: The embedder of texts; None if the indexes only accept vectors.

    Examples:
        >>> first, second = (Index.create(None, embedder="hash:64") for _ in range(2))
        >>> _ = first.add([Document("dim the lamp", id="a")]), second.add([Document("play a song", id="b")])
        >>> with ShardedIndex([first, second]) as index:
        ...     [hit.id for hit in index.search("songs", k=1)]
        ['b']
    """

    def __init__(self, shards: Sequence[Index]) -> None:
        """Join open indexes; `close` closes them.

        Raises:
            InvalidInputError: If there are no indexes, or if two differ in metric, vector length or embedder.
        """
        if not shards:
            raise InvalidInputError("`shards` is empty; give at least one index")
        self.shards, self.embedder, self._metric = tuple(shards), shards[0].embedder, shards[0]._metric
        for name in ("metric", "dim", "fingerprint"):
            values = [each._store.state.facts[name] for each in self.shards]
            for each, value in zip(self.shards, values, strict=True):
                if value != values[0]:
                    raise InvalidInputError(
                        f"{self.shards[0].path} has {name} {values[0]!r}, but {each.path} has {value!r}; shards "
                        "must be made alike"
                    )

    @classmethod
    def open(cls, paths: Iterable[str | Path], *, embedder: str | Embedder | None = None) -> Self:
        """Return an index of several folders, in the order of their documents, opened for reading.

        An embedder is used instead of the one named in the indexes; it must produce the same vectors.

        Raises:
            InvalidInputError: If a folder contains no index, or if the indexes are not compatible.
        """
        with ExitStack() as opened:
            shards = [opened.enter_context(Index.open(path, embedder=embedder, read_only=True)) for path in paths]
            made = cls(shards)
            opened.pop_all()
        return made

    @override
    def close(self) -> None:
        """Close all shards. Safe to call twice."""
        for each in self.shards:
            each.close()

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    @override
    def _nearest(self, vectors: NDArray[np.float32], k: int, where: Where | None) -> Iterator[list[Ranked]]:
        scores, keys = self.search_vectors(vectors, k, where=where)
        documents = dict(zip(keys.ravel().tolist(), self.get_by_keys(keys), strict=True))
        for row, line in zip(keys.tolist(), scores.tolist(), strict=True):
            given = [(documents[key], score) for key, score in zip(row, line, strict=True)]
            found = [Ranked(each.id or "", each.text, each.metadata, score) for each, score in given if each]
            twice = [name for name, times in Counter(each.id for each in found).items() if times > 1]
            if twice:
                raise IntegrityError(f"{twice[0]!r} is the id of documents in several shards; remove all but one")
            yield found

    def search_vectors(
        self, queries: NDArray[np.floating], k: int = 10, *, where: Where | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the documents nearest to query vectors, as `Index.search_vectors` does; keys belong to this index."""
        parts: list[Found] = []
        for number, each in enumerate(self.shards):
            scores, keys = each.search_vectors(queries, k, where=where)
            parts.append((scores, np.where(keys < 0, -1, keys + number * _KEYS)))  # keys increase with each document
        return merged(parts, k)

    def get_by_keys(self, keys: Sequence[int] | NDArray[np.int64]) -> list[Document | None]:
        """Read documents by the keys that `search_vectors` returns, as `Index.get_by_keys` does."""
        flat = np.asarray(keys, dtype=np.int64).ravel()
        found: list[Document | None] = [None] * len(flat)
        for number, each in enumerate(self.shards):
            places = np.flatnonzero((flat >= 0) & (flat // _KEYS == number))
            if len(places):
                own = flat[places] - number * _KEYS
                for place, document in zip(places.tolist(), each.get_by_keys(own), strict=True):
                    found[place] = document
        return found

    def get(self, ids: Collection[str]) -> list[Document]:
        """Read documents by id, as `Index.get` does."""
        names = checked_texts("ids", ids)
        found = {document.id: document for each in reversed(self.shards) for document in each.get(names)}
        return [found[name] for name in names if name in found]

    def verify(self) -> None:
        """Verify every shard, and check that ids are unique across shards.

        Raises:
            IntegrityError: If there is damage, or if an id occurs in two shards.
        """
        home: dict[str, Path] = {}
        for each in self.shards:
            each.verify()
            with each._store.reading():
                for (name,) in each._store.database.connection.execute("SELECT id FROM documents"):
                    if home.setdefault(name, each.path) != each.path:
                        raise IntegrityError(f"{name!r} is the id of a document in {home[name]} and in {each.path}")
