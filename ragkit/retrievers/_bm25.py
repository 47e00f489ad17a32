"""Lexical retrieval: BM25 over an index, or over documents in memory."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from threading import RLock

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._files import atomic_file, read_arrays
from ragkit._lexical.analysis import Analyzer, WordAnalyzer, load_analyzer
from ragkit._lexical.bm25 import BM25, K1, LANGUAGE, B
from ragkit._lexical.postings import PostingLists
from ragkit.errors import RagkitWarning
from ragkit.index import Index
from ragkit.index._document_inputs import AnyDocument
from ragkit.index._own_files import file_mode
from ragkit.retrievers._base import Hits, RetrieverBase, Where, hit_of
from ragkit.retrievers._memory import MemoryDocuments

_AT_ONCE = 100_000  # texts read from the index at a time; the lists are merged after each block
_FORMAT = 2  # of the cache file
_LOOSE = 1000  # rows of deleted documents that are always tolerated


class BM25Retriever(RetrieverBase):
    """Finds the documents that share rare words with the query, with the same defaults as `ragkit.BM25Selector`.

    Before each search, the retriever loads the changes of the index, so adding a document is cheap. The posting lists
    are cached in a file in the folder of the index. Documents that share no word with the query are not returned.

    Attributes:
        source: The index or documents that are searched.
        analyzer: Converts a text to its terms.
        scorer: Scores the documents.

    Examples:
        >>> retriever = BM25Retriever(["dim the lamp", "play a song"])
        >>> retriever.retrieve("which lamps were dimmed?", k=1)[0].text
        'dim the lamp'
    """

    name = "bm25"

    def __init__(
        self,
        source: Index | Iterable[AnyDocument],
        *,
        k1: float = K1,
        b: float = B,
        analyzer: str | Analyzer | None = LANGUAGE,
    ) -> None:
        """Search an index, or documents that are kept in memory.

        Args:
            source: An index, with or without an embedder, or documents.
            k1: Term-frequency saturation, 0 or more.
            b: Length normalisation, from 0 to 1.
            analyzer: The language of a stemmer, None for whole words, or a function that converts a text to its terms;
                the posting lists of a function are not cached in a file.
        """
        self.analyzer = load_analyzer(analyzer)
        self.scorer = BM25(PostingLists(self.analyzer), k1=k1, b=b)  # checks the parameters before anything is read
        self.source: Index | MemoryDocuments = source if isinstance(source, Index) else MemoryDocuments(source)
        self._keys: NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # the key of each row
        self._lock = RLock()
        self._seen = -1  # the commit of the lists
        self._unsaved = 0
        self._cache: _Cache | None = None
        if isinstance(source, Index) and source._store.durable and isinstance(self.analyzer, WordAnalyzer):
            self._cache = _Cache(source.path, self.analyzer)
            cached = self._cache.load(source.version)
            if cached is not None:
                self.scorer.lists, self._keys = cached

    def add(self, documents: Iterable[AnyDocument]) -> list[str]:
        """Add documents to the index or to the documents in memory, and return their ids; see `Index.add`."""
        return self.source.add(documents)

    def delete(self, ids: Collection[str]) -> int:
        """Delete documents from the index or from memory by id, and return their number."""
        return self.source.delete(ids)

    @override
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        with self._lock:
            self._catch_up()
            excluded = None if where is None else ~np.isin(self._keys, self.source.keys(where))
            rankings = self.scorer.best(queries, k, excluded)
            found = [(self._keys[rows].tolist(), scores.tolist()) for rows, scores in rankings]
        wanted = sorted({key for keys, _ in found for key in keys})
        documents = dict(zip(wanted, self.source.get_by_keys(wanted), strict=True))
        hits: Hits = []
        for keys, scores in found:
            pairs = ((documents[key], score) for key, score in zip(keys, scores, strict=True))
            held = [(document, score) for document, score in pairs if document is not None]
            hits.append(
                [hit_of(each, score, rank, {"bm25": score}) for rank, (each, score) in enumerate(held, start=1)]
            )
        return hits

    def _catch_up(self) -> None:
        """Load the changes of the source."""
        self.source.refresh()
        version, lists = self.source.version, self.scorer.lists  # before the keys: later commits are loaded next time
        if version == self._seen:
            return
        keys = self.source.keys()
        gone = np.flatnonzero(lists.live & ~np.isin(self._keys, keys))
        if len(gone):
            lists.remove(gone)
        if len(lists) > 2 * lists.documents + _LOOSE:
            self._keys = self._keys[lists.live]
            lists.compact()
        new = keys[~np.isin(keys, self._keys)]
        for start in range(0, len(new), _AT_ONCE):
            part = new[start : start + _AT_ONCE]
            read = [(key, each) for key, each in zip(part.tolist(), self.source.get_by_keys(part), strict=True) if each]
            lists.add([each.text for _, each in read])
            self._keys = np.append(self._keys, np.array([key for key, _ in read], dtype=np.int64))
        self._seen = version
        self._unsaved += len(new)
        if self._unsaved * 10 > len(keys):
            try:
                self.save()
            except OSError as error:  # the search succeeds even if the cache cannot be written
                self._unsaved = 0
                message = f"the BM25 cache could not be written ({error}); it is rebuilt when the index is opened again"
                warnings.warn(message, RagkitWarning, stacklevel=5)

    def save(self) -> None:
        """Write the posting lists to the folder of the index, for faster loading. This also happens automatically.

        Raises:
            OSError: If they cannot be written, for example because the disk is full.
        """
        with self._lock:
            if self._cache is not None and isinstance(self.source, Index) and not self.source.read_only:
                self._cache.save(self.scorer.lists, self._keys, self._seen)
            self._unsaved = 0


class _Cache:
    """The cache file of the posting lists of one analyzer in the folder of an index. It can be rebuilt at any time."""

    def __init__(self, folder: Path, analyzer: WordAnalyzer) -> None:
        digest = blake2b(repr(analyzer).encode(), digest_size=6).hexdigest()
        self.path, self.analyzer = folder / f"bm25-{digest}.npz", analyzer

    def save(self, lists: PostingLists, keys: NDArray[np.int64], version: int) -> None:
        """Replace the file atomically with the lists of a commit of the index, and the key of each row, i64[n]."""
        facts = {"format": _FORMAT, "analyzer": repr(self.analyzer), "version": version}
        arrays = {
            "facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
            "keys": keys,
            **{f"lists_{part}": values for part, values in lists.to_arrays().items()},
        }
        with atomic_file(self.path, durable=False) as file:  # `load` checks it
            os.fchmod(file.fileno(), file_mode(self.path.parent))  # whoever reads the index reads its cache
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def load(self, version: int) -> tuple[PostingLists, NDArray[np.int64]] | None:
        """Return the lists and the key of each row.

        None if the file is missing, damaged, of another format, or of a later commit than that of the index.
        """
        try:
            arrays = read_arrays(self.path)
            facts = json.loads(arrays["facts"].tobytes())
            if (facts["format"], facts["analyzer"]) != (_FORMAT, repr(self.analyzer)) or facts["version"] > version:
                return None
            parts = {part.removeprefix("lists_"): values for part, values in arrays.items()}
            lists, keys = PostingLists.from_arrays(self.analyzer, parts), arrays["keys"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):  # of a file that someone else may have made
            return None
        return (lists, keys) if keys.dtype == np.int64 and keys.shape == lists.lengths.shape else None
