"""Read the pickle file of LangChain's FAISS store without executing any code in it.

A pickle is a program: it names functions, and loading it calls them. This reader replaces LangChain's docstore and
document classes by empty classes, and rejects every other name before anything is imported. The loaded values must be
texts, metadata and ids. This is the only module that may import pickle.
"""

from __future__ import annotations

import io
import pickle  # noqa: TID251 - the only format of old folders; see above for what it may contain
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from typing_extensions import override

from ragkit.errors import DataFileError
from ragkit.records import Document

_DOCSTORES = {
    ("langchain_community.docstore.in_memory", "InMemoryDocstore"),
    ("langchain.docstore.in_memory", "InMemoryDocstore"),
}
_DOCUMENTS = {
    ("langchain_core.documents.base", "Document"),
    ("langchain.schema.document", "Document"),
    ("langchain.schema", "Document"),
    ("langchain.docstore.document", "Document"),
}
_SETS = {("builtins", "set"), ("__builtin__", "set")}  # sets of field names, in pickles of protocol 3 and below


class _RefusedError(Exception):
    """A pickle names a class that is not allowed."""


class _Reader(pickle._Unpickler):  # in Python: the C implementation can allocate gigabytes for a few bytes
    """Replaces the allowed classes by empty ones, and rejects all others."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        # Created for each file, so that a file that modifies a class does not affect other files.
        self.docstore = type("Docstore", (), {})
        self.document = type("StoredDocument", (), {})
        self.fields = type("Fields", (list,), {})

    @override
    def find_class(self, module: str, name: str, /) -> type:
        if (module, name) in _DOCSTORES:
            return self.docstore
        if (module, name) in _DOCUMENTS:
            return self.document
        if (module, name) in _SETS:
            return self.fields
        raise _RefusedError(repr(f"{module}.{name}"[:100]))


def read_docstore(path: Path) -> tuple[list[Document], int]:
    """Read the documents of a saved store.

    Args:
        path: The file ``index.pkl``.

    Returns:
        The documents in the order of the vectors, and the number of documents without a vector.

    Raises:
        DataFileError: If the file was not written by LangChain's FAISS store, or contains other objects.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataFileError(
            path, 0, f"cannot be read ({error.strerror}); expected a file of FAISS.save_local"
        ) from error
    reader = _Reader(content)
    try:
        loaded = reader.load()
    except _RefusedError as error:
        raise DataFileError(
            path,
            0,
            f"contains {error}, which is not part of a docstore. No code was executed; do not load this file by other "
            "means unless you trust its author",
        ) from None
    except Exception as error:
        problem = f"is not a pickle file of LangChain's FAISS store ({type(error).__name__}: {error})"
        raise DataFileError(path, 0, problem) from error
    return _documents(path, loaded, reader)


def _documents(path: Path, loaded: object, reader: _Reader) -> tuple[list[Document], int]:
    expected = "expected a docstore and the ids of its rows, as FAISS.save_local writes them"
    if not isinstance(loaded, tuple) or len(loaded) != 2 or type(loaded[0]) is not reader.docstore:
        raise DataFileError(path, 0, f"contains other objects; {expected}")
    stored, ids = vars(loaded[0]).get("_dict"), loaded[1]
    if (
        not isinstance(stored, dict)
        or not isinstance(ids, dict)
        or sorted(ids, key=repr) != sorted(range(len(ids)), key=repr)
    ):
        raise DataFileError(path, 0, f"contains other objects; {expected}")
    documents = []
    for row in range(len(ids)):
        if ids[row] not in stored:
            raise DataFileError(path, 0, f"the document {ids[row]!r} of row {row} is missing from the docstore")
        documents.append(_document(path, ids[row], stored[ids[row]], reader))
    return documents, len(stored) - len(set(ids.values()))


def _document(path: Path, name: object, stored: object, reader: _Reader) -> Document:
    state = vars(stored).get("__dict__") if type(stored) is reader.document else None
    parts = cast("Mapping[str, object]", state if isinstance(state, dict) else {})
    text, metadata = parts.get("page_content"), parts.get("metadata", {})
    if not isinstance(text, str) or not isinstance(metadata, dict) or not (name is None or isinstance(name, str)):
        raise DataFileError(
            path, 0, f"document {name!r} must have `page_content` (a string) and `metadata` (a mapping)"
        )
    return Document(text, id=name, metadata=metadata)
