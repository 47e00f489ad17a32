"""Read the pickle file of LangChain's FAISS store without executing any code in it.

A pickle is a program: it names functions, and loading it calls them. This reader replaces LangChain's docstore and
document classes, and those of dates, times, UUIDs and paths, by empty classes, and rejects every other name before
anything is imported. The loaded values must be texts, metadata and ids. Time and memory are proportional to the size of
the file: the number of containers is limited, only texts and small integers are hashed, and values that the file refers
to several times count each time. This is the only module that may import pickle.
"""

from __future__ import annotations

import io
import pickle  # noqa: TID251 - the only format of old folders; see above for what it may contain
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from typing_extensions import override

from ragkit.errors import DataFileError
from ragkit.records import Document
from ragkit_pipelines.langchain.pickled_values import KINDS, PickledValue, restored

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
_UNUSED = (
    pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.PERSID, pickle.BINPERSID, pickle.EXT1,
    pickle.EXT2, pickle.EXT4, pickle.NEWOBJ_EX,
)  # fmt: skip
_CONTAINERS = (
    pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET, pickle.LIST, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2,
    pickle.TUPLE3, pickle.NEWOBJ, pickle.REDUCE, pickle.INST, pickle.OBJ,
)  # fmt: skip
# The instructions that hash values, and where on the stack they are. After a mark, the stack holds only the items.
_HASHED = {
    pickle.SETITEM: slice(-2, None, 2), pickle.SETITEMS: slice(0, None, 2), pickle.DICT: slice(0, None, 2),
    pickle.ADDITEMS: slice(None), pickle.FROZENSET: slice(None),
}  # fmt: skip
_MAX_ROW = 2**40


class _RefusedError(Exception):
    """A pickle names a class that is not allowed."""


def _ignored(*_: object) -> None:
    """Create a set of field names, which nothing uses."""


class _Reader(pickle._Unpickler):  # in Python: the C implementation can allocate gigabytes for a few bytes
    """Replaces the allowed classes by empty ones, and rejects all others."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.containers_left = 10_000 + len(content) // 8
        # Created for each file, so that a file that modifies a class does not affect other files.
        self.docstore = type("Docstore", (), {})
        self.document = type("StoredDocument", (), {})
        self.fields = type("Fields", (), {"__init__": _ignored})
        self.values: dict[str, type] = {}

    @override
    def find_class(self, module: str, name: str, /) -> type:
        if (module, name) in _DOCSTORES:
            return self.docstore
        if (module, name) in _DOCUMENTS:
            return self.document
        if (module, name) in _SETS:
            return self.fields
        if (module, name) in KINDS:
            kind = KINDS[module, name]
            if kind not in self.values:
                self.values[kind] = type("Value", (PickledValue,), {"kind": kind})
            return self.values[kind]
        raise _RefusedError(repr(f"{module}.{name}"[:100]))

    def _count_container(self) -> None:
        self.containers_left -= 1
        if self.containers_left < 0:
            raise ValueError("too many containers for the size of the file")


def _limited(instruction: bytes) -> Callable[[Any], None]:
    """Return the method of an instruction, which first checks what it would create, hash or change."""
    load = pickle._Unpickler.dispatch[instruction[0]]
    hashed = _HASHED.get(instruction)

    def limited(reader: Any) -> None:
        if instruction in _CONTAINERS:
            reader._count_container()
        elif hashed is not None and not all(map(_is_key, reader.stack[hashed])):
            raise ValueError("a key is neither a text nor the number of a row")
        elif instruction == pickle.BUILD and isinstance(reader.stack[-2], type):
            raise ValueError("a class would be changed")
        load(reader)

    return limited


def _is_key(value: object) -> bool:
    """Whether a value can be hashed quickly: a tuple takes exponential time, large integers can all collide."""
    return value is None or type(value) is str or (type(value) is int and 0 <= value < _MAX_ROW)


_Reader.dispatch = {
    code: _limited(bytes([code])) for code in pickle._Unpickler.dispatch if bytes([code]) not in _UNUSED
}


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
        problem = f"is not a pickle file of LangChain's FAISS store ({type(error).__name__})"
        raise DataFileError(path, 0, problem) from error
    _check_size(path, loaded, 10_000 + 10 * len(content))
    return _documents(path, loaded, reader)


def _documents(path: Path, loaded: object, reader: _Reader) -> tuple[list[Document], int]:
    expected = "expected a docstore and the ids of its rows, as FAISS.save_local writes them"
    if not isinstance(loaded, tuple) or len(loaded) != 2 or type(loaded[0]) is not reader.docstore:
        raise DataFileError(path, 0, f"contains other objects; {expected}")
    stored, ids = vars(loaded[0]).get("_dict"), loaded[1]
    if not isinstance(stored, dict) or not isinstance(ids, dict) or not all(row in ids for row in range(len(ids))):
        raise DataFileError(path, 0, f"contains other objects; {expected}")
    documents = []
    for row in range(len(ids)):
        if not _is_key(ids[row]) or ids[row] not in stored:
            raise DataFileError(path, 0, f"the document of row {row} is missing from the docstore")
        documents.append(_document(path, ids[row], stored[ids[row]], reader))
    return documents, len(stored) - len(set(ids.values()))


def _check_size(path: Path, loaded: object, limit: int) -> None:
    """Count all values, those that the file refers to several times as often as they are used."""
    pending = [loaded]
    while pending:
        value = pending.pop()
        inside = vars(value) if type(value).__module__ == __name__ or isinstance(value, PickledValue) else value
        if isinstance(inside, dict):
            pending += inside.values()
        elif isinstance(inside, list | tuple | set | frozenset):
            pending += inside
        limit -= 1
        if limit < len(pending):
            raise DataFileError(path, 0, "contains values that refer to the same values too often, or to themselves")


def _document(path: Path, name: object, stored: object, reader: _Reader) -> Document:
    state = vars(stored).get("__dict__") if type(stored) is reader.document else None
    parts = cast("Mapping[str, object]", state if isinstance(state, dict) else {})
    text, metadata = parts.get("page_content"), parts.get("metadata", {})
    if not isinstance(text, str) or not isinstance(metadata, dict) or not (name is None or isinstance(name, str)):
        raise DataFileError(
            path, 0, f"document {name!r} must have `page_content` (a string) and `metadata` (a mapping)"
        )
    try:
        return Document(text, id=name, metadata=restored(metadata))
    except ValueError as error:
        raise DataFileError(path, 0, f"the metadata of document {name!r} cannot be read: {error}") from error
