"""Import a JSON file that LangChain's ``InMemoryVectorStore.dump`` wrote into an `Index`, without LangChain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ragkit._extras import require
from ragkit._text import read_json
from ragkit.errors import DataFileError
from ragkit.protocols import Embedder
from ragkit.records import Document
from ragkit_pipelines.langchain.importing import ImportReport, Metric, import_documents

_ESCAPED = "__lc_escaped__"  # the only key of a mapping whose value LangChain could confuse with an object


def import_in_memory(
    file: str | Path,
    out: str | Path,
    *,
    embedder: str | Embedder | None = None,
    metric: Metric | Literal["auto"] = "auto",
) -> ImportReport:
    """Import a file written by ``InMemoryVectorStore.dump``; texts, metadata, ids and vectors are preserved.

    Args:
        file: The JSON file.
        out: A new or empty folder.
        embedder: The embedder that the vectors were computed with, or its spec, which is checked on some documents;
            None for an index that is only searched by vectors.
        metric: ``"auto"`` is ``"cosine"``, the metric of the old store.

    Returns:
        A report.

    Raises:
        DataFileError: If the file is not such a JSON file.
        InvalidInputError: If the embedder computes different vectors, or ``out`` is not empty.
    """
    require("faiss")
    path = Path(file)
    documents, vectors = [], []
    for name, entry in _entries(path).items():
        text, vector, metadata = (entry.get(key) for key in ("text", "vector", "metadata")) if entry else (None,) * 3
        if not isinstance(text, str) or not isinstance(vector, list) or not isinstance(metadata, Mapping):
            raise DataFileError(
                path, 0, f"the entry {name!r} must have `text` (a string), `vector` (a list) and `metadata` (a mapping)"
            )
        documents.append(Document(text, id=name, metadata=_restored(metadata)))
        vectors.append(vector)
    try:
        array = np.array(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataFileError(path, 0, f"the vectors must be lists of numbers of the same length: {error}") from error
    if array.ndim != 2 or not np.isfinite(array).all():
        raise DataFileError(path, 0, "must contain at least one document, and vectors of finite numbers")
    return import_documents(
        documents,
        array,
        Path(out),
        embedder=embedder,
        metric=metric,
        own_metric="cosine",
        conversion=None,
        kind="InMemoryVectorStore",
    )


def _entries(path: Path) -> dict[str, Mapping[str, Any] | None]:
    try:
        loaded = read_json(path.read_bytes())
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); expected a file of InMemoryVectorStore.dump"
        raise DataFileError(path, 0, problem) from error
    except ValueError as error:
        raise DataFileError(path, 0, f"is not valid JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise DataFileError(path, 0, "must be a JSON object of documents by id, as InMemoryVectorStore.dump writes it")
    return {name: entry if isinstance(entry, dict) else None for name, entry in _restored(loaded).items()}


def _restored(value: Any) -> Any:
    """Return a value as it was before LangChain escaped mappings in it; escaped mappings contain no other ones."""
    if isinstance(value, list):
        return [_restored(each) for each in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and _ESCAPED in value:
        return value[_ESCAPED]
    return {name: _restored(each) for name, each in value.items()}
