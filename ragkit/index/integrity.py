"""Is an index what was written? Every checksum, and whether all parts say the same."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import IntegrityError
from ragkit.index.array_file import BLOCK, as_bytes
from ragkit.index.database import Database, Stored, checksum, content_hash
from ragkit.index.metadata import facts_of
from ragkit.index.segment import Segment
from ragkit.index.snapshot import State, files


def problems(folder: Path, database: Database, state: State) -> list[str]:
    """Look for damage, inside a snapshot.

    Args:
        folder: The folder of the index.
        database: Its database.
        state: The commit that the snapshot sees.

    Returns:
        What was found, in words.
    """
    try:
        found = [text for (text,) in database.connection.execute("PRAGMA integrity_check") if text != "ok"]
        return found + _documents(database, state) + _blocks(folder, database, state) + _segment(folder, state)
    except (
        sqlite3.DatabaseError,
        IntegrityError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        return [f"it cannot be read ({error})"]  # a changed byte can make any value one of another type


def _documents(database: Database, state: State) -> list[str]:
    found: list[str] = []
    seen = np.zeros(len(state.keys), dtype=np.bool_)
    indexed = state.facts["indexed"]
    expected_facts: list[tuple[object, ...]] = []
    for document in map(Stored._make, database.connection.execute("SELECT * FROM documents")):
        key, name, row, digest, told, metadata, text = document
        if checksum(key, name, row, metadata, digest) != told or content_hash(text) != digest:
            found.append(f"document {document.id!r} is not what was written")
            continue
        if not 0 <= document.row < len(seen) or seen[document.row] or state.keys[document.row] != document.key:
            found.append(f"document {document.id!r} has another one's vector")
            continue
        seen[document.row] = True
        expected_facts += facts_of(document.key, document.metadata, indexed)
    dead = state.dead if state.dead is not None else np.zeros(len(seen), dtype=np.bool_)
    if not np.array_equal(seen, ~dead):
        found.append("the rows of documents and of removed ones are not all rows")
    told_facts = database.connection.execute("SELECT document, field, kind, value FROM facts").fetchall()
    if sorted(map(repr, told_facts)) != sorted(map(repr, expected_facts)):
        found.append("the table of field values is not what was written")
    return found


def _blocks(folder: Path, database: Database, state: State) -> list[str]:
    found: list[str] = []
    arrays: tuple[NDArray[np.generic], ...] = (state.vectors, state.keys)
    told = {(file, block): value for file, block, value in database.connection.execute("SELECT * FROM blocks")}
    for file, values in zip(files(folder, state.facts), arrays, strict=True):
        for block in range(-(-len(values) // BLOCK)):
            part = values[block * BLOCK : (block + 1) * BLOCK]
            if told.pop((file.path.stem, block), None) != zlib.crc32(as_bytes(part)):
                found.append(f"block {block} of {file.path.name} is not what was written")
    return found + [f"there is no block {block} of {file}" for file, block in told]


def _segment(folder: Path, state: State) -> list[str]:
    told = state.facts["segment"]
    if told is None:
        return []
    path = folder / f"segment-{state.facts['generation']}.faiss"
    Segment.read(path, told["sha256"], told["rows"], told["factory"], told["settings"])
    return []
