"""Writing to an index: batches of documents are checked, embedded if they are new, written, and then committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit._progress import progress
from ragkit._text import shown
from ragkit.errors import InvalidInputError
from ragkit.index._checksum import BITS, name_hashes
from ragkit.index._database import Stored, stored
from ragkit.index._document_inputs import AnyDocument, Incoming, read_documents
from ragkit.index._documents import by_ids, known_ids, listed
from ragkit.index._field_values import value_sums, values_of
from ragkit.index._snapshot import files, rows_checksum
from ragkit.index._store import Store
from ragkit.index._vectors import storable_vectors
from ragkit.protocols import Embedder

_BATCH = 1024
_BATCH_OF_VECTORS = 16_384


def add_documents(
    store: Store,
    embedder: Embedder | None,
    documents: Iterable[AnyDocument],
    *,
    vectors: NDArray[np.floating] | None,
    batch_size: int | None,
) -> list[str]:
    """Add documents in batches, each of which is one commit, and return their ids; see `Index.add`."""
    size = checked_batch_size(store, embedder, documents, vectors, batch_size)
    total = len(documents) if isinstance(documents, Sequence) else None
    if vectors is not None:
        vectors = storable_vectors(np.asarray(vectors), "vectors", store.state.facts)
        if total != len(vectors):
            counted = "documents without a length; pass a list" if total is None else f"{total} documents"
            raise InvalidInputError(f"`vectors` holds {len(vectors)} rows for {counted}")
    ids: list[str] = []
    rest = iter(documents)
    with progress("adding documents", total) as advance:
        while batch := list(islice(rest, size)):
            read = read_documents(batch, len(ids))
            part = None if vectors is None else vectors[len(ids) : len(ids) + len(batch)]
            with store.changing():
                put(store, embedder, read, part)
            ids += [each.id for each in read]
            advance(len(batch))
    return ids


def checked_batch_size(
    store: Store, embedder: Embedder | None, documents: object, vectors: object, batch_size: int | None
) -> int:
    """Return the batch size of `Index.add`, after its arguments are checked."""
    store.check_writable()
    if isinstance(documents, str):
        raise InvalidInputError("`documents` must be several documents, got one string; put it in a list")
    if vectors is None and embedder is None:
        raise InvalidInputError("this index has no embedder; give `vectors`")
    size = (_BATCH if vectors is None else _BATCH_OF_VECTORS) if batch_size is None else batch_size
    if type(size) is not int or not 1 <= size < 2**31:
        raise InvalidInputError(f"`batch_size` must be a whole number of at least 1, got {shown(batch_size)}")
    return size


def put(
    store: Store,
    embedder: Embedder | None,
    read: Sequence[Incoming],
    vectors: NDArray[np.float32] | None,
    embedded: Mapping[bytes, NDArray[np.float32]] | None = None,
) -> None:
    """Add a batch of documents and replace those with the same id, inside `Store.changing`.

    If two documents have the same id, the later one is used. New texts are embedded if there are no vectors,
    f32[n, dim]; ``embedded`` are f32[dim] by the hash of a text, for texts that were embedded elsewhere.
    """
    last = {each.id: place for place, each in enumerate(read)}
    held = _held(store, list(last))
    same: dict[str, Incoming] = {}  # documents whose text is stored already; vectors that are passed may have changed
    if vectors is None:
        same = {name: read[last[name]] for name, own in held.items() if own.hash == read[last[name]].hash}
    relabelled = [(held[name], each.metadata) for name, each in same.items() if each.metadata != held[name].metadata]
    places = sorted(place for name, place in last.items() if name not in same)
    new = [read[place] for place in places]
    if not (new or relabelled):
        return
    if vectors is None:
        made = _embedded(store, embedder, new, embedded or {})
    else:
        made = vectors if len(new) == len(vectors) else vectors[places]
    key, row = store.state.facts["next_key"], store.state.facts["rows"]
    added = [stored(key + n, own, row + n, digest, data, text) for n, (own, text, data, digest) in enumerate(new)]
    commit(store, Changes(added, made, [held[each.id] for each in new if each.id in held], relabelled))


def _held(store: Store, names: Sequence[str]) -> dict[str, Stored]:
    """Return the stored documents that have one of these ids."""
    return by_ids(store.database, store.state, known_ids(store.state, names))


def to_embed(store: Store, new: Sequence[Incoming]) -> dict[bytes, str]:
    """Return the texts, by their hashes, of documents that have no vector in the index yet.

    If two documents have the same id, the later one is used. Texts are sorted by length, so that texts of similar
    length are batched together with little padding.
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
    known = store.database.by_hashes({each.hash for each in new} - texts.keys())
    vectors = {name: embedded[name] for name in texts if name in embedded}
    order = [name for name in texts if name not in embedded]
    if order and embedder is not None:
        made = embedder.embed_documents([texts[name] for name in order])
        vectors |= zip(order, storable_vectors(made, "embeddings", state.facts), strict=True)
    found = np.empty((len(new), state.facts["dim"]), dtype=np.float32)
    for n, each in enumerate(new):
        if each.hash in vectors:
            found[n] = vectors[each.hash]
        else:
            found[n] = state.vectors.take(np.array([known[each.hash].row]))[0]
    return found


class Changes(NamedTuple):
    """The changes of one commit."""

    new: Sequence[Stored]  # documents with new rows, in the order of the rows
    vectors: NDArray[np.float32]  # f32[new, dim]
    removed: Sequence[Stored]
    relabelled: Sequence[tuple[Stored, str]] = ()  # documents of which only the metadata change, with the new metadata


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
    again = [stored(old.key, old.id, old.row, old.hash, held, old.text) for old, held in changes.relabelled]
    gone = [*changes.removed, *(old for old, _ in changes.relabelled)]
    with store.committing():
        database.delete(gone, dead=[document.row for document in changes.removed])
        added_values = database.insert([*changes.new, *again], facts["indexed"])
        for name, changed_blocks in sums:
            database.set_blocks(name, changed_blocks)
        store.set_facts(
            rows=rows + count,
            next_key=facts["next_key"] + count,
            dead=_dead_checksum(store, changes.removed),
            indexed=_indexed(facts["indexed"], added_values, gone),
        )


def _dead_checksum(store: Store, removed: Sequence[Stored]) -> int:
    if not removed:
        return store.state.facts["dead"]
    dead = store.state.dead
    known = np.zeros(0, dtype=np.int64) if dead is None else np.flatnonzero(dead)
    return rows_checksum(np.sort(np.concatenate([known, [document.row for document in removed]])))


def _indexed(sums: Mapping[str, int], added: Mapping[str, int], gone: Sequence[Stored]) -> dict[str, int]:
    """Return the checksum of the values of each indexed field after values and documents were added and removed."""
    lost = value_sums(value for each in gone for value in values_of(each.key, each.metadata, sums))
    return {field: (value + added.get(field, 0) - lost.get(field, 0)) % BITS for field, value in sums.items()}


def remove(store: Store, ids: Iterable[str]) -> int:
    """Remove documents and return their number; unknown ids are ignored."""
    with store.changing():
        found = list(_held(store, list(dict.fromkeys(ids))).values())
        if found:
            commit(store, Changes([], np.zeros((0, store.state.facts["dim"]), dtype=np.float32), found))
    return len(found)


def index_field(store: Store, field: str) -> None:
    """Index the values of a metadata field; see `Index.index_field`."""
    if not isinstance(field, str):
        raise InvalidInputError(f"`field` must be the name of one field, got {shown(field)}")
    with store.changing():
        indexed = store.state.facts["indexed"]
        if field not in indexed:
            with store.committing():
                documents = ((each.key, each.metadata) for each in listed(store.database, store.state))
                store.set_facts(indexed={**indexed, **store.database.insert_values(documents, [field])})
