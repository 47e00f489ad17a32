"""Copies of an index with its vectors: into a folder, for other processes, and for `copy.deepcopy`."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ragkit._files import atomic_folder
from ragkit.embedders._reference import EmbedderReference
from ragkit.errors import InvalidInputError
from ragkit.index._database import NAME
from ragkit.index._lock import WriterLock
from ragkit.records import Document

if TYPE_CHECKING:
    from ragkit.index._core import Index

_BATCH = 4096
_SUFFIXES = {".bin", ".faiss", ".partial"}
_NAMES = {NAME, f"{NAME}-wal", f"{NAME}-shm", "writer.lock"}


def add_all(source: Index, target: Index) -> None:
    """Add all documents of an index to another one, with their vectors, which are not computed again."""
    keys = source.keys()
    for start in range(0, len(keys), _BATCH):
        part = keys[start : start + _BATCH]
        read = source.get_by_keys(part)
        kept = [place for place, document in enumerate(read) if document is not None]
        target.add([each for each in read if each is not None], vectors=source.get_vectors_by_keys(part)[kept])


def save_copy(index: Index, path: str | Path) -> None:
    """Write a copy of an index to a folder, which appears there when it is complete.

    Args:
        index: The index.
        path: A new or empty folder, or one with an index, which the copy replaces.

    Raises:
        InvalidInputError: If the folder contains anything else.
        IndexLockedError: If the index in the folder is open for writing.
    """
    folder = Path(path).resolve()
    if folder == index.path.resolve():
        return
    replaced = _contains_index(folder)
    lock = WriterLock(folder / "writer.lock") if replaced else None
    try:
        with atomic_folder(folder) as partial:
            new = _alike(index, partial)
            try:
                add_all(index, new)
                for field in index._store.state.facts["indexed"]:
                    new.index_field(field)
                if index._store.state.segment is not None:
                    new.compact()  # builds the structure for approximate search
            finally:
                new.close()
            if replaced:  # moved away first, because a folder cannot be renamed to one that is not empty
                folder.rename(partial.with_suffix(".replaced"))
        if replaced:
            rmtree(partial.with_suffix(".replaced"))
    finally:
        if lock is not None:
            lock.release()


def _contains_index(folder: Path) -> bool:
    """Return whether a folder contains an index; it must not contain anything else."""
    files = list(folder.iterdir()) if folder.is_dir() else []
    own = [each for each in files if each.suffix in _SUFFIXES or each.name in _NAMES]
    found = any(each.name == NAME for each in files)
    if len(own) < len(files) or (own and not found) or (folder.exists() and not folder.is_dir()):
        raise InvalidInputError(f"{folder} is neither an empty folder nor one with only an index; pass another folder")
    return found


def reduced(index: Index) -> tuple[Any, ...]:
    """Return how an index is created again in another process or by `copy.deepcopy`, for ``__reduce__``.

    An index in a folder is opened read-only. The documents and vectors of an index in memory are copied.
    """
    embedder = None if index.embedder is None else EmbedderReference(index.embedder)
    if index.is_stored:
        return _opened, (type(index), str(index.path), embedder)
    facts, keys = index._store.state.facts, index.keys()
    settings = {name: facts[name] for name in ("dim", "metric", "dtype", "factory")}
    documents = index.get_by_keys(keys)
    parts = [(each.text, each.id, each.metadata) for each in documents if each is not None]
    return _filled, (type(index), settings, embedder, facts["fingerprint"], parts, index.get_vectors_by_keys(keys))


def _opened(kind: type[Index], path: str, embedder: EmbedderReference | None) -> Index:
    return kind.open(path, embedder=None if embedder is None else embedder.embedder, read_only=True)


def _filled(
    kind: type[Index],
    settings: dict[str, Any],
    reference: EmbedderReference | None,
    fingerprint: str | None,
    parts: list[tuple[str, str | None, dict[str, object] | None]],
    vectors: NDArray[np.float32],
) -> Index:
    embedder = None if reference is None else reference.embedder
    if embedder is not None and embedder.fingerprint != fingerprint:
        raise InvalidInputError(
            f"the embedder {embedder.name!r} gives other vectors here ({embedder.fingerprint}) than where the index "
            f"was pickled ({fingerprint}); install the same version, or save the index to a folder and open it"
        )
    made = kind.create(None, embedder=embedder, **settings)
    made.add([Document(text, own, metadata) for text, own, metadata in parts], vectors=vectors)
    return made


def _alike(index: Index, path: Path) -> Index:
    """Create an empty index with the settings of another one."""
    facts = index._store.state.facts
    return type(index).create(
        path,
        embedder=index.embedder,
        dim=facts["dim"],
        metric=facts["metric"],
        dtype=facts["dtype"],
        factory=facts["factory"],
    )
