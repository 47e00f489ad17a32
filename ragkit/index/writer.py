"""Writing documents to an index: new texts are embedded, written, and then committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit.index.checksum import BITS, name_hashes
from ragkit.index.database import Stored, changed, document_checksum, fact_sums
from ragkit.index.document_inputs import Incoming
from ragkit.index.documents import by_ids, known_ids, listed
from ragkit.index.metadata import facts_of
from ragkit.index.snapshot import files, rows_checksum
from ragkit.index.store import Store
from ragkit.index.vectors import storable_vectors
from ragkit.protocols import Embedder


class Changes(NamedTuple):
    """The changes of one commit.

    Attributes:
        new: Documents with new rows, in the order of the rows.
        vectors: f32[new, dim].
        removed: Documents to remove.
        relabelled: Documents of which only the metadata change, with the new metadata.
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
    """Add a batch of documents and replace those with the same id.

    Args:
        store: The store of an index, inside `Store.changing`.
        embedder: The embedder for new texts; None if all vectors are passed.
        read: The documents; if two have the same id, the later one is used.
        vectors: f32[n, dim]; None to embed new texts.
        embedded: f32[dim] by the hash of a text, for texts that were embedded elsewhere.
    """
    last = {each.id: place for place, each in enumerate(read)}
    if vectors is not None:
        new, made = read, vectors
        if len(last) < len(read):
            places = sorted(last.values())
            new, made = [read[place] for place in places], vectors[places]
        commit(store, Changes(_stored(store, new), made, list(_held(store, list(last)).values())))
        return
    known = _held(store, list(last))
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


def _held(store: Store, names: Sequence[str]) -> dict[str, Stored]:
    """Return the stored documents that have one of these ids."""
    return by_ids(store.database, store.state, known_ids(store.state, names))


def _stored(store: Store, new: Sequence[Incoming]) -> list[Stored]:
    """Return documents with the next keys and rows."""
    key, row = store.state.facts["next_key"], store.state.facts["rows"]
    return [
        Stored(key + n, name, row + n, digest, document_checksum(key + n, name, row + n, held, digest), held, text)
        for n, (name, text, held, digest) in enumerate(new)
    ]


def to_embed(store: Store, new: Sequence[Incoming]) -> dict[bytes, str]:
    """Return the texts of documents that have no vector in the index yet.

    Args:
        store: The store of the index.
        new: Documents; if two have the same id, the later one is used.

    Returns:
        Texts by their hashes, ordered so that texts of similar length are batched together with little padding.
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
    """Return the vectors of documents; texts that already have a vector, here or in the index, are not embedded."""
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
        if each.hash in vectors:
            found[n] = vectors[each.hash]
        else:
            found[n] = state.vectors_of(np.array([known[each.hash].row]))[0]
    return found


def commit(store: Store, changes: Changes) -> None:
    """Append vectors, wait until they are on disk, then commit one transaction and publish it to readers."""
    facts, database = store.state.facts, store.database
    rows, count = facts["rows"], len(changes.new)
    keys = np.array([document.key for document in changes.new], dtype=np.int64)
    hashes = name_hashes(document.id for document in changes.new)
    values = (changes.vectors.astype(facts["dtype"], copy=False), keys, hashes)
    arrays = list(zip(files(store.folder, facts), store.state.blocks, values, strict=True)) if changes.new else []
    sums = [(file.path.stem, list(blocks.sums_with(added))) for file, blocks, added in arrays]
    for file, _, added in arrays:
        file.write(rows, added, durable=store.durable)
    old = [document for document, _ in changes.relabelled]
    again = [changed(document, metadata=metadata) for document, metadata in changes.relabelled]
    gone = [*changes.removed, *old]
    with store.committing():
        database.delete(gone, dead=[document.row for document in changes.removed])
        added_facts = database.insert([*changes.new, *again], facts["indexed"])
        for name, changed_blocks in sums:
            database.set_blocks(name, changed_blocks)
        store.set_facts(
            rows=rows + count,
            next_key=facts["next_key"] + count,
            dead=_dead_checksum(store, changes.removed),
            indexed=_indexed(facts["indexed"], added_facts, gone),
        )


def _dead_checksum(store: Store, removed: Sequence[Stored]) -> int:
    if not removed:
        return store.state.facts["dead"]
    dead = store.state.dead
    known = np.zeros(0, dtype=np.int64) if dead is None else np.flatnonzero(dead)
    return rows_checksum(np.sort(np.concatenate([known, [document.row for document in removed]])))


def _indexed(sums: Mapping[str, int], added: Mapping[str, int], gone: Sequence[Stored]) -> dict[str, int]:
    """Return the checksums of the facts of each field after facts and documents were added and removed."""
    lost = fact_sums(fact for each in gone for fact in facts_of(each.key, each.metadata, sums))
    return {field: (value + added.get(field, 0) - lost.get(field, 0)) % BITS for field, value in sums.items()}


def remove(store: Store, ids: Iterable[str]) -> int:
    """Remove documents; unknown ids are ignored.

    Returns:
        The number of documents removed.
    """
    with store.changing():
        found = list(_held(store, list(dict.fromkeys(ids))).values())
        if found:
            commit(store, Changes([], np.zeros((0, store.state.facts["dim"]), dtype=np.float32), found))
    return len(found)


def index_field(store: Store, field: str) -> None:
    """Index the values of a metadata field.

    Raises:
        InvalidInputError: If the name is not valid text.
    """
    if not isinstance(field, str):
        raise InvalidInputError(f"`field` must be the name of one field, got {field!r}")
    with store.changing():
        indexed = store.state.facts["indexed"]
        if field not in indexed:
            with store.committing():
                documents = ((each.key, each.metadata) for each in listed(store.database, store.state))
                store.set_facts(indexed={**indexed, **store.database.insert_facts(documents, [field])})
