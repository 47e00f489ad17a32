"""Dense retrieval: nearest vectors in an index."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.retrievers._base import Hits, RetrieverBase, Where


class DenseRetriever(RetrieverBase):
    """Finds the documents of an index, the attribute ``index``, whose vectors are nearest to the query's.

    Examples:
        >>> index = Index.create(None, embedder="hash:256")
        >>> ids = index.add(["dim the lamp", "play a song"])
        >>> DenseRetriever(index).retrieve("lamps", k=1)[0].text
        'dim the lamp'
        >>> index.close()
    """

    name = "dense"

    def __init__(self, index: Index) -> None:
        """Search an index.

        Raises:
            InvalidInputError: If the index has no embedder, which is needed to embed queries.
        """
        if index.embedder is None:
            raise InvalidInputError("the index has no embedder, so it cannot read queries; make one with an embedder")
        self.index = index

    @override
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        return self.index.search(queries, k, where=where)
