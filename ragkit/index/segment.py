"""An approximate FAISS index over the first rows: built from the vectors, stored as a cache, and tuned by measuring."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from ragkit.errors import CorruptIndexError, InvalidInputError, RagkitWarning
from ragkit.extras import require
from ragkit.files import create_private
from ragkit.index.array_file import forget
from ragkit.index.exact import Found

FLAT_UP_TO = 200_000  # rows up to which "auto" chooses exact search, which is then fast enough
_A_LIST, _LEAST, _ENOUGH = 256, 64, 2**20  # training vectors: most per list; minimum per list and in total
_CHUNK = 65_536
_READ = 2**20
_LIMIT = Lock()


def choose_factory(factory: str, rows: int, *, dtype: str = "float32") -> str | None:
    """Return the FAISS factory string for a number of rows.

    Args:
        factory: ``"flat"``, ``"auto"``, ``"cagra"`` (only supported on GPUs) or a factory string.
        rows: Number of rows.
        dtype: Data type of the stored vectors; the automatic choice uses the same precision.

    Returns:
        A factory string; None for exact search.
    """
    if factory == "auto":
        lists, codes = min(int(4 * math.sqrt(rows)), rows // 39), "SQfp16" if dtype == "float16" else "Flat"
        return None if rows <= FLAT_UP_TO else f"IVF{lists},{codes}"
    return None if factory.lower() in {"flat", "cagra"} else factory


def check_factory(factory: str, dim: int, *, euclidean: bool) -> None:
    """Check that FAISS can build an index, before documents are added.

    Raises:
        InvalidInputError: If the factory string is not valid, or not valid for vectors of this length.
    """
    import faiss

    if str(factory).lower() in {"auto", "flat", "cagra"}:
        return
    try:
        faiss.index_factory(dim, factory, faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT)
    except (RuntimeError, TypeError) as error:
        raise InvalidInputError(
            f'`factory` must be "auto", "flat", "cagra" or what FAISS can build over vectors of {dim}, got {factory!r}'
        ) from error


class SegmentFacts(TypedDict):
    """The record of a segment's file in the database."""

    file: str
    checksum: str
    rows: int
    factory: str
    settings: dict[str, int]


@dataclass(frozen=True)
class Segment:
    """A built index.

    Attributes:
        index: The FAISS index; its labels are row numbers.
        rows: Number of rows in it, from the first.
        factory: Its factory string.
        settings: Search parameters by name: ``nprobe`` or ``efSearch``.
    """

    index: Any
    rows: int
    factory: str
    settings: dict[str, int]

    @classmethod
    def build(cls, vectors: NDArray[np.floating], factory: str, *, euclidean: bool) -> Segment:
        """Train and fill an index.

        Args:
            vectors: f32 or f16[n, d].
            factory: A FAISS factory string.
            euclidean: Whether distances are compared; otherwise inner products.

        Returns:
            The index with default settings.

        Raises:
            InvalidInputError: If FAISS cannot build it.
        """
        require("faiss")
        import faiss

        n, d = vectors.shape
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
        """Find approximately the k nearest rows of each query.

        Args:
            queries: f32[m, d].
            k: Number of rows.
            barred: bool[rows], rows to exclude.

        Returns:
            f32[m, k] scores, higher is nearer, and i64[m, k] rows, padded with -inf and -1 if there are fewer.
        """
        import faiss

        allowed = None if barred is None else np.packbits(~barred, bitorder="little")  # alive while FAISS reads it
        selector = None if allowed is None else faiss.IDSelectorBitmap(allowed)  # type: ignore[call-arg, arg-type]
        scores, rows = self.index.search(queries, k, params=self._parameters(selector))
        scores = np.where(rows < 0, -np.inf, -scores if self.index.metric_type == faiss.METRIC_L2 else scores)
        return scores.astype(np.float32), rows

    def with_settings(self, settings: dict[str, int]) -> Segment:
        """Return the same index with other search parameters."""
        return Segment(self.index, self.rows, self.factory, {**self.settings, **settings})

    def write(self, path: Path) -> str:
        """Write the index and wait until it is on disk.

        Returns:
            The checksum of the file.

        Raises:
            OSError: If it cannot be written, for example on a full disk; the partial file is removed.
        """
        import faiss

        partial = path.with_name(path.name + ".partial")
        try:
            create_private(partial)
            faiss.write_index(self.index, str(partial))  # serialising in memory first would double the memory
        except RuntimeError as error:
            partial.unlink(missing_ok=True)
            raise OSError(f"{partial} cannot be written: {error}") from error
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        digest = _checksum(partial)
        partial.replace(path)
        return digest

    @classmethod
    def read(cls, path: Path, told: SegmentFacts) -> Segment:
        """Read an index that `write` wrote.

        Args:
            path: The file.
            told: Its record in the database.

        Returns:
            The index.

        Raises:
            CorruptIndexError: If the file does not match its record.
            FileNotFoundError: If the file does not exist.
        """
        require("faiss")

        if _checksum(path) != told["checksum"]:
            raise CorruptIndexError(path, "it is not the file that was written")
        with _limited(path.stat().st_size):
            import faiss

            index = faiss.read_index(str(path))
        if index.ntotal != told["rows"]:
            raise CorruptIndexError(path, f"it holds {index.ntotal} rows instead of {told['rows']}")
        return cls(index, told["rows"], told["factory"], told["settings"])

    @property
    def knob(self) -> str | None:
        """The search parameter that trades time for recall; None if there is none."""
        return next(iter(_defaults(self.index)), None)

    def _parameters(self, selector: object) -> object:
        import faiss

        given: dict[str, object] = dict(self.settings) | ({"sel": selector} if selector is not None else {})
        if not given:
            return None
        # FAISS misreads parameters of the wrong type, so their type must match the index.
        inner = faiss.downcast_index(self.index)
        kinds = ((faiss.IndexIVF, faiss.SearchParametersIVF), (faiss.IndexHNSW, faiss.SearchParametersHNSW))  # type: ignore[attr-defined]
        for kind, parameters in kinds:
            if isinstance(inner, kind):
                return parameters(**given)
        if isinstance(inner, faiss.IndexPreTransform):
            nested = Segment(faiss.downcast_index(inner.index), self.rows, self.factory, self.settings)
            return faiss.SearchParametersPreTransform(index_params=nested._parameters(selector))  # type: ignore[call-arg]
        return faiss.SearchParameters(**given)


class SegmentFile:
    """The file of a segment, verified and read on first use.

    Attributes:
        path: The file.
        told: Its record in the database.
        is_read: Whether it has been read.
    """

    def __init__(self, path: Path, told: SegmentFacts) -> None:
        """Set the file and its record in the database."""
        self.path, self.told = path, told
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
            return Segment.read(self.path, self.told)
        except FileNotFoundError as error:  # also if another process has compacted the index since
            problem = f"{self.path} cannot be read ({error.strerror})"
        except CorruptIndexError:
            problem = f"{self.path} is not the file that was written"
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


def _defaults(index: Any) -> dict[str, int]:
    import faiss

    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        return _defaults(inner.index)
    if isinstance(inner, faiss.IndexIVF):
        return {"nprobe": max(1, min(int(inner.nlist), int(inner.nlist) // 16))}
    return {"efSearch": 64} if isinstance(inner, faiss.IndexHNSW) else {}


def read_faiss(content: bytes) -> Any:
    """Read a FAISS index, and reject parts that claim to be longer than the file.

    Returns:
        The FAISS index.
    """
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


def _checksum(path: Path) -> str:
    digest = xxh3_128()
    with path.open("rb") as file:
        while part := file.read(_READ):
            digest.update(part)
    return digest.hexdigest()
