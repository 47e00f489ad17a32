"""Import a folder of LangChain's FAISS store into an `Index`, without LangChain or its community package."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ragkit._extras import require
from ragkit.errors import DataFileError
from ragkit.index._segment import read_faiss
from ragkit.protocols import Embedder
from ragkit_pipelines.langchain.docstore_pickle import read_docstore
from ragkit_pipelines.langchain.importing import ImportReport, Metric, import_documents
from ragkit_pipelines.langchain.metadata_text import Conversion, check_conversion

__all__ = ["ImportReport", "import_faiss"]


def import_faiss(
    folder: str | Path,
    out: str | Path,
    *,
    embedder: str | Embedder | None = None,
    metric: Literal["auto", "cosine", "ip", "l2"] = "auto",
    name: str = "index",
    metadata_conversion: Conversion = None,
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
        metadata_conversion: ``"text"`` to store dates, times, UUIDs and paths in metadata as text; if None, they raise
            an error that names the field.

    Returns:
        A report.

    Raises:
        DataFileError: If a file is damaged, or the pickle file contains other objects than documents.
        InvalidInputError: If the embedder computes different vectors, or ``out`` is not empty.
    """
    require("faiss")
    check_conversion(metadata_conversion)
    folder = Path(folder)
    documents, left_out = read_docstore(folder / f"{name}.pkl")
    path = folder / f"{name}.faiss"
    old, vectors = _read_vectors(path)
    if len(vectors) != len(documents):
        raise DataFileError(path, 0, f"contains {len(vectors)} vectors for {len(documents)} documents in {name}.pkl")
    return import_documents(
        documents,
        vectors,
        Path(out),
        embedder=embedder,
        metric=metric,
        own_metric=_metric(old),
        conversion=metadata_conversion,
        kind=type(old).__name__,
        left_out=left_out,
    )


def _metric(index: Any) -> Metric:
    import faiss

    return "ip" if index.metric_type == faiss.METRIC_INNER_PRODUCT else "l2"


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
