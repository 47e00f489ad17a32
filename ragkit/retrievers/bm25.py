"""Retrieval by words: BM25, in step with an index."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from threading import RLock

import numpy as np
from typing_extensions import override

from ragkit.errors import IntegrityError, InvalidInputError, RagkitWarning
from ragkit.index import Index
from ragkit.index.incoming import AnyDocument
from ragkit.postings import Rule
from ragkit.retrievers.analysis import Analyzer
from ragkit.retrievers.base import Hits, RetrieverBase, Where, hit_of
from ragkit.retrievers.bm25_lists import Bm25Lists

_AT_ONCE = 100_000  # texts that are read from the index at once; the lists are merged after each turn
_LOOSE = 1000  # rows of removed documents that are no reason to make the lists anew


class BM25Retriever(RetrieverBase):
    """Find the documents that share rare words with the query (Robertson and Zaragoza, 2009; the form of Lucene).

    Before each search it looks whether the index has changed and takes over what has, so an added document costs what
    it adds. The lists are kept in a file beside the index, which is a cache. Documents that share no word with the
    query are no hits.

    Attributes:
        index: Where the documents are.
        k1: How soon more of the same word stops to matter.
        b: How much long documents are held back, 0 to 1.
        rule: How a text is cut into terms.

    Examples:
        >>> retriever = BM25Retriever(["dim the lamp", "play a song"])
        >>> retriever.retrieve("which lamps were dimmed?", k=1)[0].text
        'dim the lamp'
        >>> retriever.index.close()
    """

    name = "bm25"

    def __init__(
        self,
        source: Index | Iterable[AnyDocument],
        *,
        k1: float = 1.2,
        b: float = 0.75,
        analyzer: str | Rule | None = "english",
    ) -> None:
        """Search an index, or documents that are put into one in memory.

        Args:
            source: An index, with or without an embedder, or documents.
            k1: How soon more of the same word stops to matter, 0 or more.
            b: How much long documents are held back, 0 to 1.
            analyzer: A language whose words are reduced to stems, None for words as they are, or a function from a text
                to its terms; a function's lists are not kept in a file.

        Raises:
            InvalidInputError: If an argument is out of its range.
        """
        if not 0 <= k1 < float("inf") or not 0 <= b <= 1:
            raise InvalidInputError(f"`k1` must be 0 or more and `b` between 0 and 1, got {k1!r} and {b!r}")
        self.rule: Rule = analyzer if callable(analyzer) else Analyzer(analyzer)
        self.k1, self.b = k1, b
        if isinstance(source, Index):
            self.index = source
        else:
            self.index = Index.create(None, embedder=None, dim=1, metric="ip", device="cpu")
            self.add(source)
        self._lock = RLock()
        self._seen = -1  # commit that the lists are of
        name = repr(self.rule)
        self._name = name
        digest = blake2b(name.encode(), digest_size=6).hexdigest()
        self._path = (
            None if callable(analyzer) or not self.index._store.durable else self.index.path / f"bm25-{digest}.npz"
        )
        self._lists, self._unsaved = self._loaded(), 0
        self._norms = self._lists.norms(k1, b)

    def add(self, documents: Iterable[AnyDocument]) -> list[str]:
        """Add documents to an index without an embedder; one that has an embedder is added to by itself.

        Args:
            documents: Documents, strings or LangChain documents.

        Returns:
            Their ids, in order.
        """
        if self.index.embedder is not None:
            return self.index.add(documents)
        held = list(documents) if not isinstance(documents, str) else documents
        return self.index.add(held, vectors=np.zeros((len(held), self.index.stats().dim), dtype=np.float32))

    def delete(self, ids: Collection[str]) -> int:
        """Remove documents from the index.

        Args:
            ids: Their ids.

        Returns:
            How many were removed.
        """
        return self.index.delete(ids)

    @override
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        with self._lock:
            self._catch_up()
            allowed = self._lists.live if where is None else self._lists.rows_of(self.index.keys(where))
            found = [self._lists.best(query, k, self._norms, allowed) for query in queries]
        wanted = sorted({key for keys, _ in found for key in keys.tolist()})
        documents = dict(zip(wanted, self.index.get_by_keys(wanted), strict=True))
        return [
            [
                hit_of(document, score, rank, {"bm25": score})
                for rank, (document, score) in enumerate(
                    (
                        (documents[key], score)
                        for key, score in zip(keys.tolist(), scores.tolist(), strict=True)
                        if documents[key] is not None
                    ),
                    start=1,
                )
                if document is not None
            ]
            for keys, scores in found
        ]

    def _catch_up(self) -> None:
        """Take over what has changed in the index."""
        self.index.refresh()
        version = self.index.version  # before the keys: a commit in between is then seen the next time
        if version == self._seen:
            return
        keys = self.index.keys()
        self._lists.keep(keys)
        kept = int(np.count_nonzero(self._lists.live))
        if len(self._lists.keys) > 2 * kept + _LOOSE:
            self._lists, kept = Bm25Lists(self.rule), 0
        new = keys[~np.isin(keys, self._lists.keys)]
        for start in range(0, len(new), _AT_ONCE):
            part = new[start : start + _AT_ONCE]
            read = [(key, each) for key, each in zip(part.tolist(), self.index.get_by_keys(part), strict=True) if each]
            self._lists.add(np.array([key for key, _ in read], dtype=np.int64), [each.text for _, each in read])
        self._seen = version
        self._norms = self._lists.norms(self.k1, self.b)
        self._unsaved += len(new)
        if self._unsaved * 10 > len(keys):
            try:
                self.save()
            except OSError as error:  # of a cache, which is no reason not to answer
                self._unsaved = 0
                message = f"the lists of BM25 are not kept ({error}); they are made again when the index is opened"
                warnings.warn(message, RagkitWarning, stacklevel=5)

    def save(self) -> None:
        """Write the lists beside the index, so that opening it again reads them; it is done by itself now and then.

        Raises:
            OSError: If they cannot be written, such as on a full disk.
        """
        with self._lock:
            if self._path is not None and not self.index.read_only:
                self._lists.save(self._path, name=self._name, version=self._seen)
                self._unsaved = 0

    def _loaded(self) -> Bm25Lists:
        if self._path is not None and self._path.is_file():
            try:
                return Bm25Lists.load(self._path, self.rule, name=self._name, version=self.index.version)
            except IntegrityError:
                pass  # a cache; it is made again from the documents
        return Bm25Lists(self.rule)
