"""`ShardedIndex`: several indexes searched as one. Each can be built separately, on a machine of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import IntegrityError, InvalidInputError
from ragkit.index.core import Index
from ragkit.index.document_inputs import checked_texts
from ragkit.index.exact import Found, merged
from ragkit.protocols import Embedder
from ragkit.records import Document, Hit, span_of

_KEYS = 2**40  # keys per shard


class ShardedIndex:
    """A concatenation of indexes, as if their documents had been added to one index in this order.

    If all of them use exact search, the results are those of this one index, including the order of ties.

    Attributes:
        shards: The indexes.

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
        self.shards = tuple(shards)
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
        """Open folders for reading.

        Args:
            paths: Folders of indexes, in the order of their documents.
            embedder: An embedder to use instead of the one named in the indexes; it must produce the same vectors.

        Returns:
            The index.

        Raises:
            InvalidInputError: If a folder contains no index, or if the indexes are not compatible.
        """
        with ExitStack() as opened:
            shards = [opened.enter_context(Index.open(path, embedder=embedder, read_only=True)) for path in paths]
            made = cls(shards)
            opened.pop_all()
        return made

    def close(self) -> None:
        """Close all shards. Safe to call twice."""
        for each in self.shards:
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    @overload
    def search(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, where: Mapping[str, object] | None = None
    ) -> list[Hit]: ...
    @overload
    def search(
        self, queries: Sequence[str], k: int = 10, *, where: Mapping[str, object] | None = None
    ) -> list[list[Hit]]: ...
    def search(
        self, queries: str | Sequence[str], k: int = 10, *, where: Mapping[str, object] | None = None
    ) -> list[Hit] | list[list[Hit]]:
        """Find the documents nearest to one or several texts, as `Index.search` does.

        Args:
            queries: One text or several; each is embedded once for all shards.
            k: Number of documents, 0 or more.
            where: A filter on metadata.

        Returns:
            The hits of a text, best first; a list of hits for each text of a sequence.

        Raises:
            InvalidInputError: If there is no embedder, or if an argument is invalid.
            IntegrityError: If two shards contain documents with the same id.
        """
        if isinstance(queries, str):
            return self.search([queries], k, where=where)[0]
        embedder, metric = self.shards[0].embedder, self.shards[0].stats().metric
        if embedder is None:
            raise InvalidInputError("these indexes have no embedder; use `search_vectors`")
        asked = checked_texts("queries", queries)
        vectors = embedder.embed_queries(asked) if asked else np.zeros((0, embedder.dim), dtype=np.float32)
        scores, keys = self.search_vectors(vectors, k, where=where)
        documents = {key: each for key, each in zip(keys.ravel().tolist(), self.get_by_keys(keys), strict=True) if each}
        found = []
        for row, line in zip(keys.tolist(), scores.tolist(), strict=True):
            given = [(documents[key], score) for key, score in zip(row, line, strict=True) if key in documents]
            names = [document.id for document, _ in given]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise IntegrityError(f"{twice!r} is the id of documents in several shards; remove all of them but one")
            found.append([_hit(document, score, rank, metric) for rank, (document, score) in enumerate(given, 1)])
        return found

    def search_vectors(
        self, queries: NDArray[np.floating], k: int = 10, *, where: Mapping[str, object] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the documents nearest to query vectors, without reading their texts.

        Args:
            queries: float[m, dim].
            k: Number of documents, 0 or more.
            where: A filter on metadata.

        Returns:
            f32[m, k] scores and i64[m, k] keys for `get_by_keys`; padded with -inf and -1 if fewer documents match.
        """
        parts: list[Found] = []
        for number, each in enumerate(self.shards):
            scores, keys = each.search_vectors(queries, k, where=where)
            parts.append((scores, np.where(keys < 0, -1, keys + number * _KEYS)))  # keys increase with each document
        return merged(parts, k)

    def get_by_keys(self, keys: Sequence[int] | NDArray[np.int64]) -> list[Document | None]:
        """Read documents by the keys that `search_vectors` returns.

        Args:
            keys: Any number of keys; -1 means no document.

        Returns:
            The document of each key; None for -1 and for documents removed since.
        """
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
        """Read documents by id.

        Args:
            ids: Their ids; unknown ids are ignored.

        Returns:
            The documents, in the order of the ids.
        """
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


def _hit(document: Document, score: float, rank: int, metric: str) -> Hit:
    return Hit(
        id=document.id or "",
        score=score,
        rank=rank,
        text=document.text,
        metadata=document.metadata,
        span=span_of(document.metadata),
        why={metric: score},
    )
