"""Import a folder of LangChain's FAISS store into an `Index`, without LangChain or its community package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ragkit._extras import require
from ragkit.embedders import load_embedder
from ragkit.errors import DataFileError, InvalidInputError
from ragkit.index import Index
from ragkit.index._segment import read_faiss
from ragkit.protocols import Embedder
from ragkit.records import Document
from ragkit_pipelines.langchain.docstore_pickle import read_docstore

_CHECKED = 8  # documents that are embedded again, to check that the embedder is the original one
_MIN_SIMILARITY = 0.98  # cosine of the same text embedded twice, in any precision


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """The result of `import_faiss`.

    Attributes:
        documents: Number of documents in the new index.
        dim: Dimension of the vectors.
        metric: Metric of the new index.
        kind: Class of the FAISS index.
        left_out: Number of documents of the old store that have no vector.
        similarity: Minimum cosine similarity of re-embedded documents to their stored vectors; None without an
            embedder.
    """

    documents: int
    dim: int
    metric: str
    kind: str
    left_out: int
    similarity: float | None

    @property
    def likeness(self) -> float | None:
        """Raise an error, because this attribute was renamed."""
        raise AttributeError("this attribute was renamed; use ImportReport.similarity")


def import_faiss(
    folder: str | Path,
    out: str | Path,
    *,
    embedder: str | Embedder | None = None,
    metric: Literal["auto", "cosine", "ip", "l2"] = "auto",
    name: str = "index",
) -> ImportReport:
    """Import a folder written by ``FAISS.save_local``; texts, metadata, ids and vectors are preserved.

    The pickle file is read without executing any code in it (see `ragkit_pipelines.langchain.docstore_pickle`).

    Args:
        folder: The folder with ``index.faiss`` and ``index.pkl``.
        out: A new or empty folder.
        embedder: The embedder that the vectors were computed with, or its spec, which is checked on some documents;
            None for an index that is only searched by vectors.
        metric: ``"auto"`` is ``"cosine"`` if an embedder is given or all vectors have length 1, otherwise the metric
            of the old index.
        name: The ``index_name`` with which the store was saved.

    Returns:
        A report.

    Raises:
        DataFileError: If a file is damaged, or the pickle file contains other objects than documents.
        InvalidInputError: If the embedder computes different vectors, or ``out`` is not empty.
    """
    require("faiss")
    folder, out = Path(folder), Path(out)
    documents, left_out = read_docstore(folder / f"{name}.pkl")
    path = folder / f"{name}.faiss"
    old, vectors = _read_vectors(path)
    if len(vectors) != len(documents):
        raise DataFileError(path, 0, f"contains {len(vectors)} vectors for {len(documents)} documents in {name}.pkl")
    loaded = None if embedder is None else load_embedder(embedder)
    similarity = None if loaded is None else _similarity(loaded, documents, vectors)
    chosen = _metric(old, vectors, metric, embedded=loaded is not None)
    dim = vectors.shape[1]
    index = Index.create(out, embedder=loaded, dim=dim, metric=chosen)
    try:
        with index:
            index.add(documents, vectors=vectors)
            count = len(index)
    except BaseException:
        rmtree(out, ignore_errors=True)  # it was new or empty
        raise
    kind = type(old).__name__
    return ImportReport(documents=count, dim=dim, metric=chosen, kind=kind, left_out=left_out, similarity=similarity)


def _read_vectors(path: Path) -> tuple[Any, NDArray[np.float32]]:
    """Return a FAISS index and its vectors, which are approximate if the index compresses them."""
    import faiss

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataFileError(path, 0, f"cannot be read ({error.strerror}); expected a FAISS index") from error
    try:
        index = read_faiss(content)
        inverted = faiss.try_extract_index_ivf(index)
        if inverted is not None:
            inverted.make_direct_map()
        vectors = index.reconstruct_n(0, index.ntotal) if index.ntotal else np.zeros((0, index.d), dtype=np.float32)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise DataFileError(path, 0, f"is not a FAISS index from which vectors can be read ({first})") from error
    if not np.isfinite(vectors).all():
        raise DataFileError(path, 0, "contains vectors with NaN or infinite values; embed the documents again")
    return index, vectors


def _similarity(embedder: Embedder, documents: list[Document], vectors: NDArray[np.float32]) -> float | None:
    if embedder.dim != vectors.shape[1]:
        raise InvalidInputError(
            f"the stored vectors have {vectors.shape[1]} dimensions, those of {embedder.name!r} have {embedder.dim}; "
            "pass the embedder that they were computed with, or None"
        )
    if not documents:
        return None
    rows = np.unique(np.linspace(0, len(documents) - 1, _CHECKED).round().astype(int))
    again = embedder.embed_documents([documents[row].text for row in rows])
    stored = vectors[rows] / np.maximum(np.linalg.norm(vectors[rows], axis=1, keepdims=True), 1e-12)
    cosines = np.einsum("nd,nd->n", again, stored)
    cosines[~again.any(axis=1) & ~stored.any(axis=1)] = 1  # both vectors are zero, such as those of an empty text
    least = float(cosines.min())
    if not least >= _MIN_SIMILARITY:  # also true for NaN
        raise InvalidInputError(
            f"the vectors of {embedder.name!r} differ from the stored ones (cosine {least:.3f} for the same text); "
            "pass the embedder that they were computed with, or None"
        )
    return least


def _metric(
    old: Any, vectors: NDArray[np.float32], metric: Literal["auto", "cosine", "ip", "l2"], *, embedded: bool
) -> Literal["cosine", "ip", "l2"]:
    import faiss

    if metric != "auto":
        return metric
    if embedded or np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        return "cosine"
    return "ip" if old.metric_type == faiss.METRIC_INNER_PRODUCT else "l2"
