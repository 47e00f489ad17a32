"""Create an `Index` from the documents and vectors of a store of LangChain, without LangChain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.protocols import Embedder
from ragkit.records import Document
from ragkit_pipelines.langchain.metadata_text import Conversion, storable

Metric = Literal["cosine", "ip", "l2"]
_CHECKED = 8  # documents that are embedded again, to check that the embedder is the original one
_MIN_SIMILARITY = 0.98  # cosine of the same text embedded twice, in any precision


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """The result of importing a store of LangChain.

    Attributes:
        documents: Number of documents in the new index.
        dim: Dimension of the vectors.
        metric: Metric of the new index.
        kind: Class of the FAISS index, or of the store.
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


def import_documents(
    documents: Sequence[Document],
    vectors: NDArray[np.float32],
    out: Path,
    *,
    embedder: str | Embedder | None,
    metric: Metric | Literal["auto"],
    own_metric: Metric,
    conversion: Conversion,
    kind: str,
    left_out: int = 0,
) -> ImportReport:
    """Create an index in a new or empty folder; nothing is left there after an error.

    Args:
        documents: The documents.
        vectors: f32[n, d], their vectors.
        out: The folder.
        embedder: The embedder that the vectors were computed with, or its spec; None if it is unknown.
        metric: The metric; ``"auto"`` is ``"cosine"`` if an embedder is given or all vectors have length 1, otherwise
            ``own_metric``.
        own_metric: The metric of the store.
        conversion: How dates, times, UUIDs and paths in metadata are stored.
        kind: Class of the store.
        left_out: Number of documents without a vector.

    Returns:
        A report.
    """
    stored = [
        Document(each.text, each.id, storable(each.metadata or {}, f"document {each.id!r}", conversion) or None)
        for each in documents
    ]
    loaded = None if embedder is None else load_embedder(embedder)
    found = None if loaded is None else similarity(loaded, stored, vectors)
    if metric == "auto":
        unit = loaded is not None or np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        metric = "cosine" if unit else own_metric
    dim = vectors.shape[1]
    index = Index.create(out, embedder=loaded, dim=dim, metric=metric)
    try:
        with index:
            index.add(stored, vectors=vectors)
            count = len(index)
    except BaseException:
        rmtree(out, ignore_errors=True)  # it was new or empty
        raise
    return ImportReport(documents=count, dim=dim, metric=metric, kind=kind, left_out=left_out, similarity=found)


def similarity(embedder: Embedder, documents: Sequence[Document], vectors: NDArray[np.float32]) -> float | None:
    """Return the minimum cosine of some documents that are embedded again to their vectors; None without documents.

    Raises:
        InvalidInputError: If the embedder gives other vectors.
    """
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
