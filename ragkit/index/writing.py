"""Putting documents into an index: what is new is embedded, written, and then committed."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ragkit.index.array_file import BLOCK, checksums
from ragkit.index.database import Stored, changed, checksum
from ragkit.index.incoming import Incoming
from ragkit.index.state import Facts, files, load_state, sealed

if TYPE_CHECKING:
    from ragkit.index.core import Index


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
    index: Index,
    read: Sequence[Incoming],
    vectors: NDArray[np.float32] | None,
    embedded: Mapping[bytes, NDArray[np.float32]] | None = None,
) -> None:
    """Add a batch of documents, or put them in the place of those with the same id.

    Args:
        index: The index, its writer lock held.
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
            commit(index, Changes(_stored(index, new), made, []))
        except sqlite3.IntegrityError:
            commit(index, Changes(_stored(index, new), made, list(index._database.by_ids(last).values())))
        return
    known = index._database.by_ids(last)
    same = {name for name, place in last.items() if name in known and known[name].hash == read[place].hash}
    relabelled = [
        (known[name], read[last[name]].metadata) for name in same if known[name].metadata != read[last[name]].metadata
    ]
    new = [read[place] for place in sorted(place for name, place in last.items() if name not in same)]
    if new or relabelled:
        removed = [known[each.id] for each in new if each.id in known]
        commit(index, Changes(_stored(index, new), _embedded(index, new, embedded or {}), removed, relabelled))


def _stored(index: Index, new: Sequence[Incoming]) -> list[Stored]:
    """Documents with the next keys and rows."""
    key, row = index._state.facts["next_key"], index._state.facts["rows"]
    return [
        Stored(key + n, name, row + n, digest, checksum(key + n, name, row + n, held, digest), held, text)
        for n, (name, text, held, digest) in enumerate(new)
    ]


def to_embed(index: Index, new: Sequence[Incoming]) -> dict[bytes, str]:
    """The texts of documents that have no vector in the index yet.

    Args:
        index: The index.
        new: Documents; of two with one id the later counts.

    Returns:
        Texts by their hashes, those of like length together, so that little is padded.
    """
    index._database.index_hashes()
    last = {each.id: each for each in new}
    texts = {each.hash: each.text for each in last.values()}
    for name in index._database.by_hashes(texts):
        del texts[name]
    return dict(sorted(texts.items(), key=lambda item: len(item[1])))


def _embedded(
    index: Index, new: Sequence[Incoming], embedded: Mapping[bytes, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The vectors of documents; a text that has one already, here or in the index, is not embedded."""
    state = index._state
    texts = to_embed(index, new)
    known = index._database.by_hashes({each.hash for each in new if each.hash not in texts})
    order = [name for name in texts if name not in embedded]
    vectors = {name: embedded[name] for name in texts if name in embedded}
    if order and index.embedder is not None:
        made = index.embedder.embed_documents([texts[name] for name in order])
        vectors |= zip(order, index._checked(made, "embeddings"), strict=True)
    found = np.empty((len(new), state.facts["dim"]), dtype=np.float32)
    for n, each in enumerate(new):
        found[n] = vectors[each.hash] if each.hash in vectors else state.vectors[known[each.hash].row]
    return found


def commit(index: Index, changes: Changes) -> None:
    """Append vectors, wait for the disk, then commit one transaction and show it to readers."""
    state, database = index._state, index._database
    facts, rows = state.facts, state.facts["rows"]
    keys = np.array([document.key for document in changes.new], dtype=np.int64)
    values = (changes.vectors.astype(facts["dtype"], copy=False), keys)
    arrays = list(zip(files(index.path, facts), values, strict=True)) if changes.new else []
    for file, added in arrays:
        file.write(rows, added, durable=index._durable)
    old = [document for document, _ in changes.relabelled]
    again = [changed(document, metadata=metadata) for document, metadata in changes.relabelled]
    with index._publishing:
        with database.transaction():
            database.delete([*changes.removed, *old], dead=[document.row for document in changes.removed])
            database.insert([*changes.new, *again], facts["indexed"])
            for file, added in arrays:
                before = database.block(file.path.stem, rows // BLOCK)
                database.set_blocks(file.path.stem, checksums(added, rows, before))
            count = len(changes.new)
            set_facts(index, rows=rows + count, next_key=facts["next_key"] + count)
        index._state = index._with_segment(load_state(index.path, database))


def set_facts(index: Index, **changes: object) -> None:
    """Write facts of the next version, inside a transaction."""
    facts = index._state.facts
    index._database.set_facts(sealed(cast("Facts", {**facts, **changes, "version": facts["version"] + 1})))
