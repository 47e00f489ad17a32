"""Reading the pickle that LangChain's FAISS store saves, without running anything that stands in it.

A pickle is a program: it names functions, and loading it calls them. The reader here knows the names of LangChain's
docstore and document classes, puts an empty class of its own in the place of each, and refuses every other name before
anything of it is imported. What comes out is checked to be texts, metadata and ids. This is the one module that may
import pickle.
"""

from __future__ import annotations

import io
import pickle  # noqa: TID251 - old folders hold nothing else; see above for what is allowed in it
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
_SETS = {("builtins", "set"), ("__builtin__", "set")}  # the fields that were given, in pickles of protocol 3 and below


class _RefusedError(Exception):
    """A name that is not on the list."""


class _Reader(pickle._Unpickler):  # the one written in Python: in C, a few bytes can ask for gigabytes
    """Gives stand-ins for the classes on the list and refuses everything else."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        # Made for each file, so that a file which writes into a class writes into one that nobody else uses.
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
        The documents in the order of the vectors, and how many more there are that have no vector.

    Raises:
        DataFileError: If the file names anything but documents, or is not what LangChain writes.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataFileError(
            path, 0, f"cannot be read ({error.strerror}); expected what FAISS.save_local wrote"
        ) from error
    reader = _Reader(content)
    try:
        loaded = reader.load()
    except _RefusedError as error:
        raise DataFileError(
            path,
            0,
            f"names {error}, which is no part of a docstore; nothing was run. Only documents are read from such a "
            "file: do not load it by other means unless you know who made it",
        ) from None
    except Exception as error:
        problem = f"is not a pickle that LangChain's FAISS store wrote ({type(error).__name__}: {error})"
        raise DataFileError(path, 0, problem) from error
    return _documents(path, loaded, reader)


def _documents(path: Path, loaded: object, reader: _Reader) -> tuple[list[Document], int]:
    expected = "expected a docstore and the ids of its rows, as FAISS.save_local writes them"
    if not isinstance(loaded, tuple) or len(loaded) != 2 or type(loaded[0]) is not reader.docstore:
        raise DataFileError(path, 0, f"holds something else; {expected}")
    held, ids = vars(loaded[0]).get("_dict"), loaded[1]
    if (
        not isinstance(held, dict)
        or not isinstance(ids, dict)
        or sorted(ids, key=repr) != sorted(range(len(ids)), key=repr)
    ):
        raise DataFileError(path, 0, f"holds something else; {expected}")
    documents = []
    for row in range(len(ids)):
        if ids[row] not in held:
            raise DataFileError(path, 0, f"row {row} stands for {ids[row]!r}, which the docstore does not hold")
        documents.append(_document(path, ids[row], held[ids[row]], reader))
    return documents, len(held) - len(set(ids.values()))


def _document(path: Path, name: object, stored: object, reader: _Reader) -> Document:
    state = vars(stored).get("__dict__") if type(stored) is reader.document else None
    parts = cast("Mapping[str, object]", state if isinstance(state, dict) else {})
    text, metadata = parts.get("page_content"), parts.get("metadata", {})
    if not isinstance(text, str) or not isinstance(metadata, dict) or not (name is None or isinstance(name, str)):
        raise DataFileError(path, 0, f"document {name!r} must have `page_content`, a text, and `metadata`, a mapping")
    return Document(text, id=name, metadata=metadata)
