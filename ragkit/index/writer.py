"""Putting documents into an index: what is new is embedded, written, and then committed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit.index.array_file import BLOCK, checksums
from ragkit.index.database import Stored, changed, checksum
from ragkit.index.document_inputs import Incoming
from ragkit.index.snapshot import files
from ragkit.index.store import Store
from ragkit.index.vectors import storable_vectors
from ragkit.protocols import Embedder


class Changes(NamedTuple):
    """What one commit changes.

    Attributes:
        new: Documents with new rows, in the order of these.
        vectors: f32[new, dim].
        removed: Documents that go.
        relabelled: Documents whose metadata alone change, with the new ones.
    """

    new: Sequence[Stored]
    vectors: NDArray[np.float32]
    removed: Sequence[Stored]
    relabelled: Sequence[tuple[Stored, str]] = ()


def put(
    store: Store,
    embedder: Embedder | None,
    read: Sequence[Incoming],
    vectors: NDArray[np.float32] | None,
    embedded: Mapping[bytes, NDArray[np.float32]] | None = None,
) -> None:
    """Add a batch of documents, or put them in the place of those with the same id.

    Args:
        store: The store of an index, inside `Store.changing`.
        embedder: What embeds texts that are new; None where all vectors are given.
        read: The documents; of two with one id the later counts.
        vectors: f32[n, dim]; None to embed what is new.
        embedded: f32[dim] by the hash of a text, for texts that were embedded elsewhere.
    """
    last = {each.id: place for place, each in enumerate(read)}
    if vectors is not None:
        new, made = read, vectors
        if len(last) < len(read):
            places = sorted(last.values())
            new, made = [read[place] for place in places], vectors[places]
        try:  # as if all were new, which saves looking every id up
            commit(store, Changes(_stored(store, new), made, []))
        except sqlite3.IntegrityError:
            commit(store, Changes(_stored(store, new), made, list(store.database.by_ids(last).values())))
        return
    known = store.database.by_ids(last)
    same = {name for name, place in last.items() if name in known and known[name].hash == read[place].hash}
    relabelled = [
        (known[name], read[last[name]].metadata) for name in same if known[name].metadata != read[last[name]].metadata
    ]
    new = [read[place] for place in sorted(place for name, place in last.items() if name not in same)]
    if new or relabelled:
        removed = [known[each.id] for each in new if each.id in known]
        commit(
            store, Changes(_stored(store, new), _embedded(store, embedder, new, embedded or {}), removed, relabelled)
        )


def _stored(store: Store, new: Sequence[Incoming]) -> list[Stored]:
    """Documents with the next keys and rows."""
    key, row = store.state.facts["next_key"], store.state.facts["rows"]
    return [
        Stored(key + n, name, row + n, digest, checksum(key + n, name, row + n, held, digest), held, text)
        for n, (name, text, held, digest) in enumerate(new)
    ]


def to_embed(store: Store, new: Sequence[Incoming]) -> dict[bytes, str]:
    """The texts of documents that have no vector in the index yet.

    Args:
        store: The store of the index.
        new: Documents; of two with one id the later counts.

    Returns:
        Texts by their hashes, those of like length together, so that little is padded.
    """
    store.database.index_hashes()
    last = {each.id: each for each in new}
    texts = {each.hash: each.text for each in last.values()}
    for name in store.database.by_hashes(texts):
        del texts[name]
    return dict(sorted(texts.items(), key=lambda item: len(item[1])))


def _embedded(
    store: Store,
    embedder: Embedder | None,
    new: Sequence[Incoming],
    embedded: Mapping[bytes, NDArray[np.float32]],
) -> NDArray[np.float32]:
    """The vectors of documents; a text that has one already, here or in the index, is not embedded."""
    state = store.state
    texts = to_embed(store, new)
    known = store.database.by_hashes({each.hash for each in new if each.hash not in texts})
    order = [name for name in texts if name not in embedded]
    vectors = {name: embedded[name] for name in texts if name in embedded}
    if order and embedder is not None:
        made = embedder.embed_documents([texts[name] for name in order])
        vectors |= zip(order, storable_vectors(made, "embeddings", state.facts), strict=True)
    found = np.empty((len(new), state.facts["dim"]), dtype=np.float32)
    for n, each in enumerate(new):
        found[n] = vectors[each.hash] if each.hash in vectors else state.vectors[known[each.hash].row]
    return found


def commit(store: Store, changes: Changes) -> None:
    """Append vectors, wait for the disk, then commit one transaction and show it to readers."""
    facts, database = store.state.facts, store.database
    rows, count = facts["rows"], len(changes.new)
    keys = np.array([document.key for document in changes.new], dtype=np.int64)
    values = (changes.vectors.astype(facts["dtype"], copy=False), keys)
    arrays = list(zip(files(store.folder, facts), values, strict=True)) if changes.new else []
    for file, added in arrays:
        file.write(rows, added, durable=store.durable)
    old = [document for document, _ in changes.relabelled]
    again = [changed(document, metadata=metadata) for document, metadata in changes.relabelled]
    with store.committing():
        database.delete([*changes.removed, *old], dead=[document.row for document in changes.removed])
        database.insert([*changes.new, *again], facts["indexed"])
        for file, added in arrays:
            before = database.block(file.path.stem, rows // BLOCK)
            database.set_blocks(file.path.stem, checksums(added, rows, before))
        store.set_facts(rows=rows + count, next_key=facts["next_key"] + count)


def remove(store: Store, ids: Iterable[str]) -> int:
    """Remove documents; those that are not there are passed over.

    Returns:
        How many were removed.
    """
    with store.changing():
        found = list(store.database.by_ids(dict.fromkeys(ids)).values())
        if found:
            commit(store, Changes([], np.zeros((0, store.state.facts["dim"]), dtype=np.float32), found))
    return len(found)


def index_field(store: Store, field: str) -> None:
    """Keep a table of a metadata field's values.

    Raises:
        InvalidInputError: If it is not text.
    """
    if not isinstance(field, str):
        raise InvalidInputError(f"`field` must be the name of one field, got {field!r}")
    with store.changing():
        indexed = store.state.facts["indexed"]
        if field not in indexed:
            with store.committing() as connection:
                rows = connection.execute("SELECT key, metadata FROM documents")
                store.database.insert_facts(rows, [field])
                store.set_facts(indexed=sorted([*indexed, field]))
