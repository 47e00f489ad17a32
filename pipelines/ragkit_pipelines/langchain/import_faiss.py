"""From a folder of LangChain's FAISS store to an `Index`; neither LangChain nor its community package is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ragkit.embedders import load_embedder
from ragkit.errors import DataFileError, InvalidInputError
from ragkit.extras import require
from ragkit.index import Index
from ragkit.index.segment import read_faiss
from ragkit.protocols import Embedder
from ragkit.records import Document
from ragkit_pipelines.langchain.docstore_pickle import read_docstore

_CHECKED = 8  # documents that are embedded again, to see whether the embedder is the one that was used
_ALIKE = 0.98  # cosine of the same text embedded twice, in whatever precision


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What came over.

    Attributes:
        documents: Documents in the new index.
        dim: Length of a vector.
        metric: Metric of the new index.
        kind: Class of the FAISS index that was read.
        left_out: Documents of the old store that had no vector.
        likeness: Least cosine between stored vectors and the same texts embedded again; None without an embedder.
    """

    documents: int
    dim: int
    metric: str
    kind: str
    left_out: int
    likeness: float | None


def import_faiss(
    folder: str | Path,
    out: str | Path,
    *,
    embedder: str | Embedder | None = None,
    metric: Literal["auto", "cosine", "ip", "l2"] = "auto",
    name: str = "index",
) -> ImportReport:
    """Write what ``FAISS.save_local`` saved into an index of ragkit's; texts, metadata, ids and vectors are kept.

    The pickle is read by a reader that runs nothing (see `ragkit_pipelines.langchain.docstore_pickle`).

    Args:
        folder: The folder with ``index.faiss`` and ``index.pkl``.
        out: A new or empty folder.
        embedder: The embedder that the vectors were made with, or its spec, which is checked on some documents; None
            for an index that is searched by vectors.
        metric: ``"auto"`` is ``"cosine"`` where an embedder is given or all vectors have length 1, and else the metric
            of the old index.
        name: The ``index_name`` that the store was saved under.

    Returns:
        What came over.

    Raises:
        DataFileError: If a file is not what it should be, or the pickle names anything but documents.
        InvalidInputError: If the embedder gives other vectors, or ``out`` holds something.
    """
    require("faiss")
    folder, out = Path(folder), Path(out)
    documents, left_out = read_docstore(folder / f"{name}.pkl")
    path = folder / f"{name}.faiss"
    old, vectors = _read_vectors(path)
    if len(vectors) != len(documents):
        raise DataFileError(path, 0, f"holds {len(vectors)} vectors for {len(documents)} documents of {name}.pkl")
    loaded = None if embedder is None else load_embedder(embedder)
    likeness = None if loaded is None else _likeness(loaded, documents, vectors)
    chosen = _metric(old, vectors, metric, embedded=loaded is not None)
    dim = vectors.shape[1]
    index = Index.create(out, embedder=loaded, dim=dim, metric=chosen)
    try:
        with index:
            index.add(documents, vectors=vectors)
            count = len(index)
    except BaseException:
        rmtree(out, ignore_errors=True)  # which was new or empty
        raise
    kind = type(old).__name__
    return ImportReport(documents=count, dim=dim, metric=chosen, kind=kind, left_out=left_out, likeness=likeness)


def _read_vectors(path: Path) -> tuple[Any, NDArray[np.float32]]:
    """A FAISS index and the vectors in it; those of a lossy one are what it made of them."""
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
        raise DataFileError(path, 0, f"is no FAISS index whose vectors can be read ({first})") from error
    if not np.isfinite(vectors).all():
        raise DataFileError(path, 0, "holds vectors with NaN or infinite numbers; embed the documents anew")
    return index, vectors


def _likeness(embedder: Embedder, documents: list[Document], vectors: NDArray[np.float32]) -> float | None:
    if embedder.dim != vectors.shape[1]:
        raise InvalidInputError(
            f"the stored vectors have {vectors.shape[1]} dimensions, {embedder.name!r} gives {embedder.dim}; "
            "give the embedder that they were made with, or none"
        )
    if not documents:
        return None
    rows = np.unique(np.linspace(0, len(documents) - 1, _CHECKED).round().astype(int))
    again = embedder.embed_documents([documents[row].text for row in rows])
    stored = vectors[rows] / np.maximum(np.linalg.norm(vectors[rows], axis=1, keepdims=True), 1e-12)
    cosines = np.einsum("nd,nd->n", again, stored)
    cosines[~again.any(axis=1) & ~stored.any(axis=1)] = 1  # a text in which the embedder sees nothing
    least = float(cosines.min())
    if not least >= _ALIKE:  # NaN is not alike either
        raise InvalidInputError(
            f"{embedder.name!r} gives other vectors than the stored ones (cosine {least:.3f} for the same text); "
            "give the embedder that they were made with, or none"
        )
    return least


def _metric(
    old: Any, vectors: NDArray[np.float32], asked: Literal["auto", "cosine", "ip", "l2"], *, embedded: bool
) -> Literal["cosine", "ip", "l2"]:
    import faiss

    if asked != "auto":
        return asked
    if embedded or np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        return "cosine"
    return "ip" if old.metric_type == faiss.METRIC_INNER_PRODUCT else "l2"
