"""An approximate index of FAISS over the first rows: built from the vectors, kept as a cache, tuned by measuring."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import IntegrityError, InvalidInputError
from ragkit.extras import require
from ragkit.index.exact import Found

FLAT_UP_TO = 200_000  # rows up to which exact search is fast enough to be the automatic choice
_A_LIST = 256  # training vectors for each list of an inverted file
_CHUNK = 65_536
_LIMIT = Lock()


def choose_factory(factory: str, rows: int) -> str | None:
    """The FAISS factory string for a number of rows.

    Args:
        factory: ``"flat"``, ``"auto"``, ``"cagra"`` (which only GPUs have) or a factory string.
        rows: How many.

    Returns:
        A factory string; None for exact search.
    """
    if factory == "auto":
        return None if rows <= FLAT_UP_TO else f"IVF{min(int(4 * math.sqrt(rows)), rows // 39)},Flat"
    return None if factory.lower() in {"flat", "cagra"} else factory


@dataclass(frozen=True)
class Segment:
    """A built index.

    Attributes:
        index: The FAISS index; its labels are rows.
        rows: How many rows it holds, the first ones.
        factory: What it was built by.
        settings: Search parameters by name, ``nprobe`` or ``efSearch``.
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
            euclidean: Whether distances are compared, else inner products.

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
            if not index.is_trained:
                lists = int(faiss.extract_index_ivf(index).nlist) if "IVF" in factory else 256
                sample = np.linspace(0, n - 1, min(n, _A_LIST * lists)).astype(np.int64)
                index.train(np.ascontiguousarray(vectors[sample], dtype=np.float32))
            for start in range(0, n, _CHUNK):
                index.add(np.ascontiguousarray(vectors[start : start + _CHUNK], dtype=np.float32))
        except RuntimeError as error:
            raise InvalidInputError(f"FAISS cannot build {factory!r} over {n} vectors of {d}: {error}") from error
        return cls(index, n, factory, _defaults(index))

    def search(self, queries: NDArray[np.float32], k: int, barred: NDArray[np.bool_] | None) -> Found:
        """Find about the k nearest rows of each query.

        Args:
            queries: f32[m, d].
            k: How many.
            barred: bool[rows], rows that are not to be found.

        Returns:
            f32[m, k] scores, higher for nearer, and i64[m, k] rows, -inf and -1 where there are fewer.
        """
        import faiss

        allowed = None if barred is None else np.packbits(~barred, bitorder="little")  # alive while FAISS reads it
        selector = None if allowed is None else faiss.IDSelectorBitmap(allowed)  # type: ignore[call-arg, arg-type]
        scores, rows = self.index.search(queries, k, params=self._parameters(selector))
        scores = np.where(rows < 0, -np.inf, -scores if self.index.metric_type == faiss.METRIC_L2 else scores)
        return scores.astype(np.float32), rows

    def with_settings(self, settings: dict[str, int]) -> Segment:
        """The same index, searched in another way."""
        return Segment(self.index, self.rows, self.factory, {**self.settings, **settings})

    def write(self, path: Path) -> str:
        """Write the index and wait until it is on disk.

        Returns:
            The sha256 of the file.
        """
        import faiss

        content = faiss.serialize_index(self.index).tobytes()
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        return hashlib.sha256(content).hexdigest()

    @classmethod
    def read(cls, path: Path, sha256: str, rows: int, factory: str, settings: dict[str, int]) -> Segment:
        """Read what `write` wrote.

        Args:
            path: The file.
            sha256: What `write` gave.
            rows: How many rows it holds.
            factory: What it was built by.
            settings: How it is searched.

        Returns:
            The index.

        Raises:
            IntegrityError: If the file is not the one that was written.
        """
        require("faiss")

        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != sha256:
            raise IntegrityError(f"{path.name} is not the file that was written")
        index = read_faiss(content)
        if index.ntotal != rows:
            raise IntegrityError(f"{path.name} holds {index.ntotal} rows, expected {rows}")
        return cls(index, rows, factory, settings)

    @property
    def knob(self) -> str | None:
        """The search parameter that trades time for recall; None where there is none."""
        return next(iter(_defaults(self.index)), None)

    def _parameters(self, selector: object) -> object:
        import faiss

        given: dict[str, object] = dict(self.settings) | ({"sel": selector} if selector is not None else {})
        if not given:
            return None
        # Parameters of another kind than the index would be misread, so they are made by its type.
        inner = faiss.downcast_index(self.index)
        kinds = ((faiss.IndexIVF, faiss.SearchParametersIVF), (faiss.IndexHNSW, faiss.SearchParametersHNSW))  # type: ignore[attr-defined]
        for kind, parameters in kinds:
            if isinstance(inner, kind):
                return parameters(**given)
        if isinstance(inner, faiss.IndexPreTransform):
            nested = Segment(faiss.downcast_index(inner.index), self.rows, self.factory, self.settings)
            return faiss.SearchParametersPreTransform(index_params=nested._parameters(selector))  # type: ignore[call-arg]
        return faiss.SearchParameters(**given)


def _defaults(index: Any) -> dict[str, int]:
    import faiss

    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        return _defaults(inner.index)
    if isinstance(inner, faiss.IndexIVF):
        return {"nprobe": max(1, min(int(inner.nlist), int(inner.nlist) // 16))}
    return {"efSearch": 64} if isinstance(inner, faiss.IndexHNSW) else {}


def read_faiss(content: bytes) -> Any:
    """Read a FAISS index, no part of which may claim to be longer than the file.

    Returns:
        The index of FAISS.
    """
    import faiss

    with _LIMIT:  # one for the whole process, so it is put back
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(len(content))
        try:
            return faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))
        finally:
            faiss.set_deserialization_vector_byte_limit(before)
