"""An approximate FAISS index over the first rows: built from the vectors, stored as a cache, and tuned by measuring."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypedDict
from xxhash import xxh3_128

from ragkit._extras import require
from ragkit._files import create_private
from ragkit.errors import CorruptIndexError, InvalidInputError, RagkitWarning
from ragkit.index._array_file import forget
from ragkit.index._exact import Found
from ragkit.index._factories import check_factory
from ragkit.index._own_files import open_own

_A_LIST, _LEAST, _ENOUGH = 256, 64, 2**20  # training vectors: most per list; minimum per list and in total
_CHUNK = 65_536
_READ = 2**20
_LIMIT = Lock()


class SegmentFacts(TypedDict):
    """The record of a segment's file in the database."""

    file: str
    checksum: str
    rows: Annotated[int, Field(ge=1, lt=2**40)]
    factory: str
    settings: dict[Annotated[str, Field(pattern="^(nprobe|efSearch)$")], Annotated[int, Field(ge=1, lt=2**31)]]


@dataclass(frozen=True)
class Segment:
    """A FAISS index over the first rows, whose labels are row numbers."""

    index: Any
    rows: int
    factory: str
    settings: dict[str, int]  # search parameters by name: ``nprobe`` or ``efSearch``

    @classmethod
    def build(cls, vectors: NDArray[np.floating], factory: str, *, euclidean: bool) -> Segment:
        """Return a trained index of f32 or f16[n, d].

        Raises:
            InvalidInputError: If FAISS cannot build it.
        """
        require("faiss")
        import faiss

        n, d = vectors.shape
        check_factory(factory, d, euclidean=euclidean)  # of a folder that may come from someone else
        metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
        try:
            index = faiss.index_factory(d, factory, metric)
            inner = faiss.downcast_index(index)
            if isinstance(inner, faiss.IndexIVFScalarQuantizer) and factory.endswith("SQfp16"):
                inner.by_residual = False  # vectors stored in half precision are then kept unchanged
            if not index.is_trained:
                lists = int(faiss.extract_index_ivf(index).nlist) if "IVF" in factory else 256
                size = min(n, _A_LIST * lists, max(_LEAST * lists, _ENOUGH))
                sample = np.linspace(0, n - 1, size).astype(np.int64)
                index.train(np.ascontiguousarray(vectors[sample], dtype=np.float32))
                forget(vectors)
            # Other types, such as fast scan, keep codes in blocks that only their own `add` fills.
            if type(index) in {faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFPQ}:
                _fill_lists(index, vectors)
            else:
                for part in _parts(vectors):
                    index.add(part)
        except RuntimeError as error:
            raise InvalidInputError(f"FAISS cannot build {factory!r} over {n} vectors of {d}: {error}") from error
        return cls(index, n, factory, _defaults(index))

    def search(self, queries: NDArray[np.float32], k: int, barred: NDArray[np.bool_] | None) -> Found:
        """Find approximately the k nearest rows of f32[m, d] queries, except those in bool[rows].

        Returns:
            f32[m, k] scores, higher is nearer, and i64[m, k] rows, padded with -inf and -1 if there are fewer.
        """
        import faiss

        allowed = None if barred is None else np.packbits(~barred, bitorder="little")  # alive while FAISS reads it
        selector = None if allowed is None else faiss.IDSelectorBitmap(allowed)  # type: ignore[call-arg, arg-type]
        given = dict(self.settings) | ({} if selector is None else {"sel": selector})
        scores, rows = self.index.search(queries, k, params=_parameters(self.index, given) if given else None)
        scores = np.where(rows < 0, -np.inf, -scores if self.index.metric_type == faiss.METRIC_L2 else scores)
        return scores.astype(np.float32), rows

    def with_settings(self, settings: dict[str, int]) -> Segment:
        """Return the same index with other search parameters."""
        return Segment(self.index, self.rows, self.factory, {**self.settings, **settings})

    def write(self, path: Path) -> str:
        """Return the checksum of the file, after the index is written and on disk.

        Raises:
            OSError: If it cannot be written, for example on a full disk; the partial file is removed.
        """
        import faiss

        partial = path.with_name(path.name + ".partial")
        partial.unlink(missing_ok=True)
        os.close(open_own(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL))  # FAISS opens it by name
        try:
            create_private(partial)
            faiss.write_index(self.index, str(partial))  # serialising in memory first would double the memory
        except RuntimeError as error:
            partial.unlink(missing_ok=True)
            raise OSError(f"{partial} cannot be written: {error}") from error
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
            file.seek(0)
            digest = _checksum(file)
        partial.replace(path)
        return digest

    @classmethod
    def read(cls, path: Path, told: SegmentFacts, dim: int, *, euclidean: bool) -> Segment:
        """Return an index that `write` wrote, from its file and its record in the database.

        Raises:
            CorruptIndexError: If the file does not match its record.
            FileNotFoundError: If the file does not exist.
        """
        require("faiss")

        import faiss

        with open(open_own(path, os.O_RDONLY), "rb") as file:  # noqa: PTH123 - a descriptor
            size = os.fstat(file.fileno()).st_size
            if _checksum(file) != told["checksum"]:
                raise CorruptIndexError(path, "it is not the file that was written")
            with _limited(size):
                index = faiss.read_index(f"/dev/fd/{file.fileno()}")  # the file that was verified, whatever its name is
        metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
        if (index.ntotal, index.d, index.metric_type) != (told["rows"], dim, metric):
            raise CorruptIndexError(path, f"it holds {index.ntotal} vectors of {index.d} for another metric or index")
        return cls(index, told["rows"], told["factory"], told["settings"])

    def efforts(self) -> list[dict[str, int]]:
        """Return the settings to try, doubling the effort each time; one empty setting if there is no parameter."""
        import faiss

        inner = _inner(self.index)
        most = int(inner.nlist) if isinstance(inner, faiss.IndexIVF) else 4096
        steps = [min(2**step, most) for step in range((most - 1).bit_length() + 1)]
        return [{name: step} for name in _defaults(self.index) for step in steps] or [{}]


class SegmentFile:
    """The file of a segment with its record in the database, verified and read on first use."""

    def __init__(self, path: Path, told: SegmentFacts, dim: int, *, euclidean: bool) -> None:
        self.path, self.told, self._dim, self._euclidean = path, told, dim, euclidean
        self._lock = Lock()
        self.is_read = False
        self._segment: Segment | None = None

    def load(self) -> Segment | None:
        """Return the segment; if the file is damaged, warn and return None."""
        if not self.is_read:
            with self._lock:
                if not self.is_read:
                    self._segment = self._load()
                    self.is_read = True
        return self._segment

    def _load(self) -> Segment | None:
        try:
            return Segment.read(self.path, self.told, self._dim, euclidean=self._euclidean)
        except FileNotFoundError as error:  # also if another process has compacted the index since
            problem = f"{self.path} cannot be read ({error.strerror})"
        except CorruptIndexError as error:
            problem = str(error)
        warnings.warn(f"{problem}; search is exact until `compact` rebuilds this cache", RagkitWarning, stacklevel=4)
        return None


def _parts(vectors: NDArray[np.floating]) -> Iterator[NDArray[np.float32]]:
    """Yield a mapped file in parts, as float32 for FAISS; parts that were read are released from memory."""
    for start in range(0, len(vectors), _CHUNK):
        yield np.ascontiguousarray(vectors[start : start + _CHUNK], dtype=np.float32)
        forget(vectors)


def _fill_lists(index: Any, vectors: NDArray[np.floating]) -> None:
    """Add vectors as `add` does, but allocate each list once, as growing lists take up to twice the memory."""
    import faiss

    nearest = np.concatenate([index.quantizer.assign(part, 1)[:, 0] for part in _parts(vectors)])
    for number, size in enumerate(np.bincount(nearest, minlength=index.nlist)):
        index.invlists.resize(number, int(size))
        index.invlists.resize(number, 0)
    start = 0
    for part in _parts(vectors):
        own = nearest[start : start + len(part)]
        index.add_core(len(part), faiss.swig_ptr(part), None, faiss.swig_ptr(own))
        start += len(part)


def _inner(index: Any) -> Any:
    """Return the index that is searched after vectors were transformed."""
    import faiss

    inner = faiss.downcast_index(index)
    return _inner(inner.index) if isinstance(inner, faiss.IndexPreTransform) else inner


def _parameters(index: Any, given: dict[str, Any]) -> object:
    """Return search parameters of the type of the index, as FAISS misreads those of another type."""
    import faiss

    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=_parameters(inner.index, given))  # type: ignore[call-arg]
    if isinstance(inner, faiss.IndexIVF):
        return faiss.SearchParametersIVF(**given)
    if isinstance(inner, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(**given)  # type: ignore[attr-defined]
    return faiss.SearchParameters(**given)


def _defaults(index: Any) -> dict[str, int]:
    """Return the search parameter that trades time for recall, if there is one, with its default."""
    import faiss

    inner = _inner(index)
    if isinstance(inner, faiss.IndexIVF):
        return {"nprobe": max(1, min(int(inner.nlist), int(inner.nlist) // 16))}
    return {"efSearch": 64} if isinstance(inner, faiss.IndexHNSW) else {}


def read_faiss(content: bytes) -> Any:
    """Return a FAISS index, and reject parts that claim to be longer than the file."""
    import faiss

    with _limited(len(content)):
        return faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))


@contextmanager
def _limited(size: int) -> Iterator[None]:
    """Limit the length in bytes of the vectors that FAISS reads; the limit applies to the whole process."""
    import faiss

    with _LIMIT:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(size)
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before)


def _checksum(file: BinaryIO) -> str:
    digest = xxh3_128()
    while part := file.read(_READ):
        digest.update(part)
    return digest.hexdigest()
