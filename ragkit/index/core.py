"""`Index`: one object in which vectors, ids, texts and metadata commit together.

The truth is an append-only array file of vectors and a SQLite database. A write appends the vectors, waits for the
disk, and then commits one transaction that records the new length; what lies past that length does not exist. FAISS is
used to compute, and its own files are a cache.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import warnings
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from shutil import rmtree
from threading import Lock, RLock
from typing import TYPE_CHECKING, Literal, Self, cast, overload

import numpy as np
from numpy.typing import NDArray

from ragkit.embedders import load_embedder
from ragkit.errors import IntegrityError, InvalidInputError, RagkitWarning
from ragkit.extras import require
from ragkit.index.database import NAME, Database, Stored
from ragkit.index.filters import Filters
from ragkit.index.gpu import Device, Gpus, card_numbers
from ragkit.index.incoming import AnyDocument, read_documents
from ragkit.index.lock import WriterLock
from ragkit.index.recent import Found, RecentDocuments
from ragkit.index.searching import find
from ragkit.index.segment import Segment
from ragkit.index.state import Facts, State, files, load_state, sealed
from ragkit.index.writing import Changes, commit, put, set_facts
from ragkit.progress import progress
from ragkit.protocols import Embedder
from ragkit.records import Document, Hit, span_of
from ragkit.text import refuse_bare_string

if TYPE_CHECKING:
    from ragkit.ingest.chunking import Chunker
    from ragkit.ingest.syncing import SyncReport
    from ragkit.workers.pool import WorkerPool

Metric = Literal["cosine", "ip", "l2"]
Where = Mapping[str, object]
_TAIL = 50_000  # new rows that are searched on the CPU before they are put on a card
_METRICS = ("cosine", "ip", "l2")
_DTYPES = ("float32", "float16")
_BATCH = 1024
_BATCH_OF_VECTORS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStats:
    """The size of an index and how it is searched.

    Attributes:
        documents: Documents that can be found.
        rows: Vectors stored, those of removed documents among them.
        dim: Length of a vector.
        dtype: Precision in which they are stored.
        metric: ``"cosine"``, ``"ip"`` or ``"l2"``.
        embedder: What embeds texts; None where vectors are given.
        bytes: Bytes on disk.
        factory: What the approximate part was built by; ``"flat"`` where search is exact.
        built: Rows in the approximate part; the rest is searched exactly.
        tuned: Measured recall with its settings, None where `Index.tune` was not called.
    """

    documents: int
    rows: int
    dim: int
    dtype: str
    metric: str
    embedder: str | None
    bytes: int
    factory: str
    built: int
    tuned: Mapping[str, float] | None


class Index:
    """Documents found by vectors; made by `create` or `open`, closed by `close` or the end of a ``with`` block.

    One process writes at a time, any number read. Any thread may search at any time and sees one commit.

    Attributes:
        path: The folder; a temporary one for an index in memory.
        embedder: What turns texts into vectors; None where vectors are given.

    Examples:
        >>> index = Index.create(None, embedder="hash:256")
        >>> ids = index.add([Document("dim the lamp", id="a", metadata={"lang": "en"}), "play a song"])
        >>> [hit.id for hit in index.search("lamps", k=1, where={"lang": "en"})]
        ['a']
        >>> index.close()
    """

    def __init__(
        self, path: Path, embedder: Embedder | None, *, read_only: bool, durable: bool, cards: Sequence[int]
    ) -> None:
        """Use `create` or `open`."""
        require("faiss")
        self.path, self.embedder = path, embedder
        self.read_only = read_only
        self._durable = durable
        self._lock = None if read_only else WriterLock(path / "writer.lock")
        self._database = Database(path, read_only=read_only, durable=durable)
        self._writing = RLock()
        self._publishing = Lock()  # held while a commit and the state that goes with it change
        self._filters = Filters(self._database)
        self._recent = RecentDocuments(self._database)
        self._gpus = Gpus(cards) if cards else None
        self._state: State
        self._closed = False

    # -- opening and closing -------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | Path | None,
        *,
        embedder: str | Embedder | None = "minilm",
        dim: int | None = None,
        metric: Metric = "cosine",
        dtype: Literal["float32", "float16"] = "float32",
        factory: str = "auto",
        device: Device = "auto",
        exist_ok: bool = False,
    ) -> Self:
        """Make an empty index.

        Args:
            path: A new or empty folder; None for an index in memory.
            embedder: An embedder or its spec; None where all vectors will be given, with ``dim``.
            dim: Length of a vector, where there is no embedder to say.
            metric: ``"cosine"`` (vectors are brought to length 1), ``"ip"`` or ``"l2"``.
            dtype: Precision in which vectors are stored.
            factory: ``"flat"`` for exact search, ``"auto"`` to choose by size, a FAISS factory string, or ``"cagra"``
                for a graph on a GPU, where FAISS was built with cuVS.
            device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, several of these, or ``"auto"`` for a GPU where FAISS sees one.
            exist_ok: Whether to open an index that is there already, if it was made with the same arguments.

        Returns:
            The index, open for writing.

        Raises:
            InvalidInputError: If an argument is out of its range, or the folder holds something else.
        """
        if metric not in _METRICS or dtype not in _DTYPES:
            raise InvalidInputError(
                f"`metric` must be one of {_METRICS} and `dtype` of {_DTYPES}, got {metric!r} and {dtype!r}"
            )
        if path is not None and (Path(path) / NAME).is_file():
            if not exist_ok:
                raise InvalidInputError(f"{path} holds an index already; open it, or give exist_ok=True")
            index = cls.open(path, embedder=embedder, device=device)
            _check_made_alike(index, {"metric": metric, "dtype": dtype, "factory": factory, "dim": dim})
            return index
        loaded = None if embedder is None else load_embedder(embedder)
        if loaded is None and (type(dim) is not int or dim < 1):
            raise InvalidInputError(f"without an embedder `dim` must be a whole number of at least 1, got {dim!r}")
        size = loaded.dim if loaded else cast("int", dim)
        if dim not in {None, size}:
            raise InvalidInputError(f"`dim` is {dim}, but embedder {loaded and loaded.name!r} gives {size}")
        folder = Path(tempfile.mkdtemp(prefix="ragkit-")) if path is None else Path(path)
        if folder.exists() and (not folder.is_dir() or any(each.name != "writer.lock" for each in folder.iterdir())):
            raise InvalidInputError(f"{folder} is not empty and holds no index; give another folder")
        folder = folder.absolute()  # the program may go to another folder while the index is open
        folder.mkdir(parents=True, exist_ok=True)
        cards = card_numbers(device)
        index = cls(folder, loaded, read_only=False, durable=path is not None, cards=cards)
        facts: Facts = {
            "dim": size,
            "dtype": dtype,
            "metric": metric,
            "factory": factory,
            "embedder": loaded.name if loaded else None,
            "fingerprint": loaded.fingerprint if loaded else None,
            "version": 0,
            "generation": 0,
            "rows": 0,
            "next_key": 0,
            "indexed": [],
            "segment": None,
            "tuned": None,
        }
        index._database.create(sealed(facts))
        index._state = load_state(folder, index._database)
        if path is None:
            weakref.finalize(index, rmtree, folder, ignore_errors=True)
        return index

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        embedder: str | Embedder | None = None,
        device: Device = "auto",
        read_only: bool = False,
        verify: bool = False,
    ) -> Self:
        """Open an index at its last commit.

        Args:
            path: The folder.
            embedder: Takes the place of the embedder that the index names; it must give the same vectors.
            device: Where to search, as in `create`.
            read_only: Whether to leave writing to others.
            verify: Whether to check every checksum first.

        Returns:
            The index.

        Raises:
            InvalidInputError: If there is no index, or the embedder is another one.
        """
        folder = Path(path)
        if not (folder / NAME).is_file():
            how = "make one with Index.create (`ragkit index build`)"
            raise InvalidInputError(f"{folder} holds no index: there is no {NAME}; {how}")
        folder = folder.absolute()
        index = cls(folder, None, read_only=read_only, durable=True, cards=card_numbers(device))
        try:
            with index._database.snapshot():
                state = load_state(folder, index._database)
            index.embedder = _same_embedder(state.facts, embedder)
            index._state = index._with_segment(state)
            if not read_only:
                for file in files(folder, state.facts):
                    file.cut(state.facts["rows"])
            if verify:
                index.verify()
        except BaseException:
            index.close()
            raise
        return index

    def close(self) -> None:
        """Let go of files and of the lock; closing twice does no harm."""
        if not self._closed:
            self._closed = True
            self._database.close()
            if self._gpus is not None:
                self._gpus.close()
            if self._lock:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writing -------------------------------------------------------------------------------------------------------

    def add(
        self,
        documents: Iterable[AnyDocument],
        *,
        vectors: NDArray[np.floating] | None = None,
        batch_size: int | None = None,
        pool: WorkerPool | None = None,
    ) -> list[str]:
        """Add documents, or put them in the place of those with the same id.

        Every batch is committed for itself, so an interrupted call has kept what it had done, and the same call again
        goes on from there: what is stored already is neither embedded nor written again. A text that stands in the
        index under another id is not embedded either.

        Args:
            documents: Documents, strings or LangChain documents, any number of them; one without an id is called by a
                hash of its content.
            vectors: float[n, dim], where the documents were embedded before.
            batch_size: Documents that are embedded and committed together; 1,024, or 16,384 with ``vectors``, if None.
            pool: Workers that embed; each loads the embedder by its spec. This process alone writes.

        Returns:
            Their ids, in order.

        Raises:
            InvalidInputError: If a document or a vector is not what it should be; its batch is not added.
            MissingResultsError: If the pool gave texts up; all other documents are added.
        """
        self._check_writable()
        if isinstance(documents, str):
            raise InvalidInputError("`documents` must be several documents, got one string; put it in a list")
        if vectors is not None:
            vectors = self._checked(np.asarray(vectors), "vectors")
        elif self.embedder is None:
            raise InvalidInputError("this index has no embedder; give `vectors`")
        total = len(documents) if isinstance(documents, Sequence) else None
        if vectors is not None and total != len(vectors):
            counted = "documents that are no sequence; give a list" if total is None else f"{total} documents"
            raise InvalidInputError(f"`vectors` holds {len(vectors)} rows for {counted}")
        size = (_BATCH if vectors is None else _BATCH_OF_VECTORS) if batch_size is None else batch_size
        if type(size) is not int or size < 1:
            raise InvalidInputError(f"`batch_size` must be a whole number of at least 1, got {batch_size!r}")
        if pool is not None and vectors is not None:
            raise InvalidInputError("`pool` is for embedding, but `vectors` are given; leave one of them out")
        ids: list[str] = []
        rest = iter(documents)
        with progress("adding documents", total) as advance:
            if pool is not None:
                from ragkit.index.pooled import add_pooled

                return add_pooled(self, rest, pool, size, advance)
            while batch := list(islice(rest, size)):
                read = read_documents(batch, len(ids))
                part = None if vectors is None else vectors[len(ids) : len(ids) + len(batch)]
                with self._changing():
                    put(self, read, part)
                ids += [each.id for each in read]
                advance(len(batch))
        return ids

    def sync(self, documents: str | Path | Iterable[AnyDocument], *, chunker: str | Chunker = "tokens") -> SyncReport:
        """Make the index hold a folder's files, or these documents and no others.

        A file that has not changed is neither read again nor embedded, the pieces of files that vanished are removed,
        and those of a file that cannot be read any more stay. Documents that do not come from this folder stay as well.

        Args:
            documents: A folder, for all of its files; or documents, strings or LangChain documents.
            chunker: How files are cut, see `ragkit.ingest.load_chunker`; tokens are those of the embedder.

        Returns:
            What was done.
        """
        from ragkit.ingest.syncing import SyncReport, sync_folder

        self._check_writable()
        if isinstance(documents, (str, Path)):
            return sync_folder(self, Path(documents), chunker)
        version = self._state.facts["next_key"]
        kept = set(self.add(documents))
        gone = [name for (name,) in self._database.connection.execute("SELECT id FROM documents") if name not in kept]
        return SyncReport(new=self._state.facts["next_key"] - version, removed=self.delete(gone))

    def delete(self, ids: Collection[str]) -> int:
        """Remove documents.

        Args:
            ids: Their ids; those that are not in the index are passed over.

        Returns:
            How many were removed.
        """
        self._check_writable()
        refuse_bare_string("ids", cast("Sequence[str]", ids))
        with self._changing():
            found = list(self._database.by_ids(dict.fromkeys(ids)).values())
            if found:
                commit(self, Changes([], np.zeros((0, self._state.facts["dim"]), dtype=np.float32), found))
        return len(found)

    def index_field(self, field: str) -> None:
        """Keep a table of a metadata field's values, so that filters on it are compiled faster.

        Args:
            field: The name of the field.

        Raises:
            InvalidInputError: If it is not text.
        """
        self._check_writable()
        if not isinstance(field, str):
            raise InvalidInputError(f"`field` must be the name of one field, got {field!r}")
        with self._changing(), self._database.transaction() as connection:
            facts = self._state.facts
            if field not in facts["indexed"]:
                rows = connection.execute("SELECT key, metadata FROM documents")
                self._database.insert_facts(rows, [field])
                set_facts(self, indexed=sorted([*facts["indexed"], field]))
        self._publish()

    # -- reading -------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._state.live

    def get(self, ids: Collection[str]) -> list[Document]:
        """Read documents by id.

        Args:
            ids: Their ids; those that are not in the index are passed over.

        Returns:
            The documents, in the order of their ids.
        """
        refuse_bare_string("ids", cast("Sequence[str]", ids))
        with self._reading():
            found = self._database.by_ids(dict.fromkeys(ids))
        return [_document(found[name]) for name in ids if name in found]

    def get_by_keys(self, keys: Sequence[int] | NDArray[np.int64]) -> list[Document | None]:
        """Read documents by the keys that `search_vectors` gives.

        Args:
            keys: Any number; -1 stands for none.

        Returns:
            For each key its document, None where there is none (any more).
        """
        flat = np.asarray(keys, dtype=np.int64).ravel().tolist()
        with self._reading() as state:
            found = self._recent.by_keys(state.facts["version"], set(flat))
        return [found[key].fresh() if key in found else None for key in flat]

    def keys(self, where: Where | None = None) -> NDArray[np.int64]:
        """The keys of all documents, or of those that a filter lets through, for `get_by_keys`.

        A key is given once and never again: a document whose text is replaced has a new one.

        Args:
            where: A filter on metadata.

        Returns:
            i64[n], ascending.
        """
        with self._reading() as state:
            if where is not None:
                return state.keys[self._filters.rows(state, where)]
            return state.keys.copy() if state.dead is None else state.keys[~state.dead]

    def get_vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Read the vectors of documents.

        Args:
            ids: Their ids.

        Returns:
            f32[n, dim], a row of zeros for an id that is not in the index.
        """
        refuse_bare_string("ids", ids)
        with self._reading() as state:
            found = self._database.by_ids(dict.fromkeys(ids))
            vectors = np.zeros((len(ids), state.facts["dim"]), dtype=np.float32)
            for place, name in enumerate(ids):
                if name in found:
                    vectors[place] = state.vectors[found[name].row]
        return vectors

    @property
    def version(self) -> int:
        """Number of the last commit that was seen; it grows with every change."""
        return self._state.facts["version"]

    @overload
    def search(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, where: Where | None = None
    ) -> list[Hit]: ...
    @overload
    def search(self, queries: Sequence[str], k: int = 10, *, where: Where | None = None) -> list[list[Hit]]: ...
    def search(
        self, queries: str | Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[Hit] | list[list[Hit]]:
        """Find the documents nearest to a text, or to each of several.

        Args:
            queries: One text or several.
            k: How many documents, 0 or more.
            where: A filter on metadata, as `ragkit.where` reads it; it is applied before the search.

        Returns:
            For a text its hits, the best first; for a sequence a list for each. Exact search gives k of them, or all
            that match where fewer do.

        Raises:
            InvalidInputError: If the index has no embedder, or an argument is out of its range.
        """
        if isinstance(queries, str):
            return self.search([queries], k, where=where)[0]
        if self.embedder is None:
            raise InvalidInputError("this index has no embedder; use `search_vectors`")
        found = self._nearest(self.embedder.embed_queries(queries), k, where) if len(queries) else []
        metric = self._state.facts["metric"]
        return [[_hit(each, score, rank, metric) for rank, (_, score, each) in enumerate(row, 1)] for row in found]

    def search_documents(
        self, queries: NDArray[np.floating], k: int = 10, *, where: Where | None = None
    ) -> list[list[tuple[int, float, Document]]]:
        """Find the documents nearest to some vectors, all of one commit.

        Args:
            queries: float[m, dim].
            k: How many documents, 0 or more.
            where: A filter on metadata.

        Returns:
            For each query keys, scores and documents, the best first. Other callers may get the same documents: do not
            change their metadata.
        """
        found = self._nearest(np.asarray(queries), k, where)
        return [[(key, score, each.plain or each.fresh()) for key, score, each in row] for row in found]

    def search_vectors(
        self, queries: NDArray[np.floating], k: int = 10, *, where: Where | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the documents nearest to some vectors, without reading their texts.

        Args:
            queries: float[m, dim].
            k: How many, 0 or more.
            where: A filter on metadata.

        Returns:
            f32[m, k] scores, higher for nearer (negative squared distances under ``"l2"``), and i64[m, k] keys for
            `get_by_keys`; -inf and -1 where fewer match.
        """
        self._check_open()
        vectors = self._checked(np.asarray(queries), "queries")
        if where is None:
            return self._found(self._state, vectors, k, None)
        with self._reading() as state:
            return self._found(state, vectors, k, where)

    def get_vectors_by_keys(self, keys: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Read vectors by the keys that `search_vectors` gives.

        Args:
            keys: n keys.

        Returns:
            f32[n, dim] as they are stored; zeros for -1 and for what was removed and compacted away.
        """
        asked = np.asarray(keys, dtype=np.int64).ravel()
        with self._reading() as state:
            found = np.zeros((len(asked), state.facts["dim"]), dtype=np.float32)
            if len(state.keys):
                rows = np.minimum(np.searchsorted(state.keys, asked), len(state.keys) - 1)  # keys grow with rows
                known = state.keys[rows] == asked
                found[known] = state.vectors[rows[known]]
        return found

    def refresh(self) -> None:
        """See what another process has committed since; `search` does so by itself."""
        with self._reading():
            pass

    def stats(self) -> IndexStats:
        """Sizes and settings.

        Returns:
            What is committed.
        """
        state = self._state
        facts, segment = state.facts, state.segment
        return IndexStats(
            documents=state.live,
            rows=facts["rows"],
            dim=facts["dim"],
            dtype=facts["dtype"],
            metric=facts["metric"],
            embedder=facts["embedder"],
            bytes=sum(each.stat().st_size for each in self.path.iterdir() if each.is_file()),
            factory=segment.factory if segment else "flat",
            built=segment.rows if segment else 0,
            tuned=facts["tuned"],
        )

    def verify(self) -> None:
        """Check every checksum and that all parts say the same.

        Raises:
            IntegrityError: If they do not; it names everything that was found.
        """
        from ragkit.index.checking import problems

        with self._reading() as state:
            found = problems(self.path, self._database, state)
        if found:
            raise IntegrityError(f"{self.path} is damaged: {'; '.join(found[:20])}; restore it from a copy")

    def compact(self) -> None:
        """Give back the room of removed documents, and build what approximate search needs anew."""
        from ragkit.index.maintenance import compact

        self._check_writable()
        with self._changing():
            compact(self)

    def tune(
        self, *, target_recall: float = 0.95, k: int = 10, queries: NDArray[np.floating] | None = None, seed: int = 0
    ) -> Mapping[str, float]:
        """Measure approximate against exact search and choose the fastest setting that is good enough.

        Args:
            target_recall: Share of the k true neighbours that must be found, above 0 and at most 1.
            k: How many neighbours.
            queries: float[m, dim], queries of your own; stored vectors, themselves left out, if None.
            seed: Seed of the draw of these.

        Returns:
            The recall that was measured and the setting, which are kept with the index.
        """
        from ragkit.index.maintenance import tune

        self._check_writable()
        with self._changing():
            return tune(self, target_recall=target_recall, k=k, queries=queries, seed=seed)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidInputError(f"{self.path} is closed; open it again")

    def _check_writable(self) -> None:
        self._check_open()
        if self.read_only:
            raise InvalidInputError(f"{self.path} is open for reading only; open it without read_only")

    def _checked(self, vectors: NDArray[np.floating], name: str) -> NDArray[np.float32]:
        dim = self._state.facts["dim"]
        if vectors.ndim != 2 or vectors.shape[1] != dim or vectors.dtype.kind not in "fiu":
            raise InvalidInputError(
                f"`{name}` must be numbers of shape [n, {dim}], got {vectors.dtype} of shape {vectors.shape}"
            )
        ready = np.ascontiguousarray(vectors, dtype=np.float32)
        if len(ready) == 1:  # one query, where every microsecond shows
            square = float(np.dot(ready[0], ready[0]))
            if square < np.inf and (self._state.facts["metric"] != "cosine" or abs(square - 1) < 1e-6):
                return ready
        if not np.isfinite(ready).all():
            bad = int(np.flatnonzero(~np.isfinite(ready).all(axis=1))[0])
            raise InvalidInputError(f"`{name}`[{bad}] holds NaN or an infinite number")
        if self._state.facts["metric"] == "cosine":
            lengths = np.sqrt(np.einsum("nd,nd->n", ready, ready, dtype=np.float64))
            if np.abs(lengths - 1).max(initial=0) > 1e-6:
                ready = (ready / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)
        return ready

    def _found(
        self, state: State, vectors: NDArray[np.float32], k: int, where: Where | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if type(k) is not int or k < 0:
            raise InvalidInputError(f"`k` must be a whole number, 0 or more; got {k!r}")
        matched = None if where is None else self._filters.rows(state, where)
        scores, rows = find(state, vectors, k, matched)
        if not len(state.keys):
            return scores, rows
        keys = state.keys[rows]
        if matched is not None or state.segment is not None or k > state.live:
            keys = np.where(rows < 0, -1, keys)
        return scores, keys

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The right to write, from the last commit on: who was stopped right after one has not seen it yet."""
        with self._writing:
            self.refresh()
            yield

    def _nearest(
        self, queries: NDArray[np.floating], k: int, where: Where | None
    ) -> list[list[tuple[int, float, Found]]]:
        self._check_open()
        vectors = self._checked(queries, "queries")
        state, result = self._state, None
        # Who holds the lock alone writes, so what this object knows is the last commit, and one statement reads the
        # documents of it; the search is done again, in one view of both, only where a commit came between.
        if where is None and not self.read_only:
            result = self._found(state, vectors, k, None)
            keys = _keys_of(result[1])
            found = self._recent.by_keys(state.facts["version"], keys, lambda: self._is_last(state))
            if len(found) == len(keys):
                return _rows_of(*result, found)
        with self._reading() as now:
            if result is None or now is not state:
                result = self._found(now, vectors, k, where)
            return _rows_of(*result, self._recent.by_keys(now.facts["version"], _keys_of(result[1])))

    def _is_last(self, state: State) -> bool:
        with self._publishing:
            return self._state is state

    def _publish(self) -> None:
        with self._publishing:
            self._state = self._with_segment(load_state(self.path, self._database))

    def _with_segment(self, state: State) -> State:
        """A state with its segment: the last state's where that is still right, else made anew."""
        last: State | None = getattr(self, "_state", None)
        same = last is not None and last.facts["generation"] == state.facts["generation"]
        if self._gpus is not None:
            old = last.segment if last and same else None
            if old is None or state.facts["rows"] - old.rows > max(_TAIL, old.rows // 4):
                euclidean = state.facts["metric"] == "l2"
                factory = state.facts["factory"]
                old = self._gpus.segment(state.vectors, euclidean=euclidean, factory=factory) if state.live else None
            return replace(state, segment=old)
        told = state.facts["segment"]
        if told is None:
            return state
        if last is not None and last.facts["segment"] == told:
            return replace(state, segment=last.segment)
        path = self.path / f"segment-{state.facts['generation']}.faiss"
        try:
            read = Segment.read(path, told["sha256"], told["rows"], told["factory"], told["settings"])
        except IntegrityError as error:
            message = f"{error}; it is a cache, so search is exact until `compact` builds it anew"
            warnings.warn(message, RagkitWarning, stacklevel=4)
            return state
        return replace(state, segment=read)

    def _begin(self) -> AbstractContextManager[sqlite3.Connection]:
        """Begin a snapshot and make the state that of its commit."""
        attempts = 3
        while True:
            view = self._database.snapshot()
            connection = view.__enter__()
            try:
                (version,) = connection.execute("SELECT value FROM facts_of_index WHERE name = 'version'").fetchone()
                if int(version) != self._state.facts["version"]:
                    self._state = self._with_segment(load_state(self.path, self._database))
            except BaseException as error:
                view.__exit__(None, None, None)
                attempts -= 1
                # Another process may have compacted since: then the files of this snapshot are gone, not damaged.
                if not isinstance(error, IntegrityError) or not attempts:
                    raise
            else:
                return view

    @contextmanager
    def _reading(self) -> Iterator[State]:
        """A commit and a view of the database that belong together.

        Yields:
            The state of that commit.
        """
        self._check_open()
        with self._publishing:  # no commit between the two
            view = self._begin()
            state = self._state
        try:
            yield state
        finally:
            view.__exit__(None, None, None)


def _check_made_alike(index: Index, asked: Mapping[str, object]) -> None:
    """Close and refuse an index that was made with other arguments."""
    made: Mapping[str, object] = {**index._state.facts}
    for name, value in asked.items():
        if value is not None and value != made[name]:
            index.close()
            raise InvalidInputError(
                f"{index.path} holds an index made with {name}={made[name]!r}, not {value!r}; open it, or make another"
            )


def _same_embedder(facts: Facts, embedder: str | Embedder | None) -> Embedder | None:
    if facts["embedder"] is None:
        if embedder is not None:
            raise InvalidInputError("this index was made without an embedder; open it without one")
        return None
    loaded = load_embedder(embedder or facts["embedder"])
    if loaded.fingerprint != facts["fingerprint"]:
        raise InvalidInputError(
            f"the index was made with embedder {facts['embedder']!r} ({facts['fingerprint']}), but {loaded.name!r} "
            f"gives other vectors ({loaded.fingerprint}); open it with the one that was used, or make a "
            "new index of its documents (`rebuild_index`, or `ragkit index rebuild`)"
        )
    return loaded


def _document(stored: Stored) -> Document:
    return Document(stored.text, id=stored.id, metadata=json.loads(stored.metadata) or None)


def _keys_of(keys: NDArray[np.int64]) -> set[int]:
    return {key for key in keys.ravel().tolist() if key >= 0}


def _rows_of(
    scores: NDArray[np.float32], keys: NDArray[np.int64], found: Mapping[int, Found]
) -> list[list[tuple[int, float, Found]]]:
    return [
        [(key, score, found[key]) for key, score in zip(row, line, strict=True) if key >= 0]
        for row, line in zip(keys.tolist(), scores.tolist(), strict=True)
    ]


def _hit(found: Found, score: float, rank: int, metric: str) -> Hit:
    metadata = found.fresh_metadata()
    return Hit(
        id=found.stored.id,
        score=score,
        rank=rank,
        text=found.stored.text,
        metadata=metadata,
        span=span_of(metadata),
        why={metric: score},
    )
