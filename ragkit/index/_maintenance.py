"""Compacting and tuning an index."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ragkit._pairwise import candidate_scores
from ragkit._text import shown
from ragkit.errors import InvalidInputError, RecallWarning
from ragkit.index._array_file import BLOCK, ArrayFile, block_sums, forget
from ragkit.index._exact import nearest
from ragkit.index._factories import choose_factory
from ragkit.index._gpu import GpuSegment
from ragkit.index._segment import Segment, SegmentFacts
from ragkit.index._snapshot import State, files, rows_checksum
from ragkit.index._store import Store
from ragkit.index._vectors import checked_vectors

_CHUNK = 64 * BLOCK
_QUERIES = 200


def compact(store: Store) -> None:
    """Write the live rows into new files, build the segment over them, and commit both.

    If no row was removed, the files are unchanged and linked under the names of a new generation. After a crash before
    the commit, the old files remain in use; files of other generations are removed after the commit.
    """
    state = store.state
    live = np.arange(state.facts["rows"]) if state.dead is None else np.flatnonzero(~state.dead)
    facts = {**state.facts, "generation": state.facts["generation"] + 1, "rows": len(live)}
    old, new = files(store.folder, state.facts), files(store.folder, facts)
    _remove(new)  # after a crash, these may be links to the files in use
    linked = state.dead is None and _linked(old, new, durable=store.durable)
    sums = {} if linked else _copied(store, live, new)
    vectors = state.vectors.all() if linked else cast("NDArray[np.floating]", new[0].view(len(live)))
    segment, told = _built(store, state, vectors, int(cast("int", facts["generation"])))
    tuned = state.facts["tuned"] if segment and state.facts["tuned"] else None
    if segment and tuned:
        tuned = {**tuned, **_measured(segment, vectors, state, int(tuned["k"]), None, 0)}
        _warn_if_below(tuned["recall"], tuned["target"], int(tuned["k"]), "by now", "call `tune` again")
    del segment  # it is read from its file below; keeping both would double the memory
    with store.committing() as connection:
        if linked:
            for file, before in zip(new, old, strict=True):
                connection.execute("UPDATE blocks SET file = ? WHERE file = ?", (file.path.stem, before.path.stem))
        else:
            connection.execute("DELETE FROM dead")
            connection.execute("DELETE FROM blocks")
            for name, changed in sums.items():
                store.database.set_blocks(name, changed)
            store.database.move_rows(state.keys.all()[live].tolist())
        store.set_facts(
            generation=facts["generation"],
            rows=len(live),
            dead=rows_checksum(np.zeros(0, dtype=np.int64)),
            segment=told,
            tuned=tuned,
        )
    kept = f"-{facts['generation']}."
    for path in store.folder.iterdir():
        if path.suffix in {".bin", ".faiss", ".partial"} and kept not in path.name:
            path.unlink()


def _copied(store: Store, live: NDArray[np.int64], new: Sequence[ArrayFile]) -> dict[str, list[tuple[int, int]]]:
    """Write rows into new files and return the checksums of their blocks."""
    sums: dict[str, list[tuple[int, int]]] = {file.path.stem: [] for file in new}
    for start in range(0, len(live), _CHUNK):
        part = live[start : start + _CHUNK]
        for file, blocks in zip(new, store.state.blocks, strict=True):
            values = blocks.take(part)
            file.write(start, values, durable=store.durable)
            sums[file.path.stem] += block_sums(values, start)
        forget(store.state.vectors.all())
    return sums


def _linked(old: Sequence[ArrayFile], new: Sequence[ArrayFile], *, durable: bool) -> bool:
    """Link files under new names. If this fails, remove all new names, as they are about to be written to."""
    if all(file.link(before.path, durable=durable) for file, before in zip(new, old, strict=True)):
        return True
    _remove(new)
    return False


def _remove(given: Sequence[ArrayFile]) -> None:
    for file in given:
        file.path.unlink(missing_ok=True)


def tune(
    store: Store, *, target_recall: float, k: int, queries: NDArray[np.floating] | None, seed: int
) -> Mapping[str, float]:
    """Double the search effort until the recall is reached, then store the setting; see `Index.tune`."""
    if not 0 < target_recall <= 1 or type(k) is not int or k < 1:
        raise InvalidInputError(
            f"`target_recall` must be in (0, 1] and `k` at least 1, got {shown(target_recall)} and {shown(k)}"
        )
    state = store.state
    segment = state.segment
    given = None if queries is None else checked_vectors(np.asarray(queries), "queries", state.facts)
    if given is not None and not len(given):
        raise InvalidInputError("`queries` is empty; give at least one, or None to measure with stored vectors")
    if segment is None:
        return {"recall": 1.0, "target": target_recall, "k": k, "rows": state.live}
    vectors = state.vectors.all()[: segment.rows]
    best: Segment | GpuSegment = segment
    found: dict[str, float] = {}
    for effort in segment.efforts():
        best = segment.with_settings(effort)
        found = _measured(best, vectors, state, k, given, seed)
        if found["recall"] >= target_recall:
            break
    _warn_if_below(found["recall"], target_recall, k, "at the highest effort", "use another `factory`")
    tuned = {**found, **best.settings, "target": target_recall, "k": k, "rows": segment.rows}
    if isinstance(segment, GpuSegment):  # GPU segments are not stored
        return tuned
    told = cast("SegmentFacts", {**cast("SegmentFacts", state.facts["segment"]), "settings": best.settings})
    with store.committing():
        store.set_facts(segment=told, tuned=tuned)
    return tuned


def _warn_if_below(recall: float, target: float, k: int, when: str, advice: str) -> None:
    if recall < target:
        message = f"recall@{k} is {recall:.3f} {when}, below the {target} that was asked for; {advice}"
        warnings.warn(message, RecallWarning, stacklevel=5)


def _built(
    store: Store, state: State, vectors: NDArray[np.floating], generation: int
) -> tuple[Segment | None, SegmentFacts | None]:
    factory = choose_factory(state.facts["factory"], len(vectors), dtype=state.facts["dtype"])
    if factory is None or not len(vectors) or store.gpus is not None:
        return None, None
    segment = Segment.build(vectors, factory, euclidean=state.facts["metric"] == "l2")
    before = state.facts["segment"]
    if before is not None and before["factory"] == factory:
        segment = segment.with_settings(before["settings"])
    path = store.folder / f"segment-{generation}.faiss"
    return segment, {
        "file": path.name,
        "checksum": segment.write(path),
        "rows": segment.rows,
        "factory": factory,
        "settings": segment.settings,
    }


def _measured(
    segment: Segment | GpuSegment,
    vectors: NDArray[np.floating],
    state: State,
    k: int,
    queries: NDArray[np.float32] | None,
    seed: int,
) -> dict[str, float]:
    """Return the recall@k of a segment against exact search over the same rows.

    Rows that tie with the k-th true neighbour count as found; a stored query does not count as its own neighbour.
    """
    own = queries is None
    rows = np.zeros(0, dtype=np.int64)
    if queries is None:
        rows = np.sort(np.random.default_rng(seed).choice(len(vectors), min(_QUERIES, len(vectors)), replace=False))
        queries = np.ascontiguousarray(vectors[rows], dtype=np.float32)
    fetch = min(k + own, len(vectors))
    euclidean = state.facts["metric"] == "l2"
    exact, _ = nearest(queries, vectors, fetch, euclidean=euclidean, doubt=state.doubt(queries))
    _, found = segment.search(queries, fetch, None)
    shares = []
    for place, got in enumerate(found):
        others = got[(got >= 0) & (got != rows[place])] if own else got[got >= 0]
        scores = candidate_scores(queries[place : place + 1], vectors, others[None], euclidean=euclidean)
        near = np.count_nonzero(scores.astype(np.float32) >= exact[place, -1])
        shares.append(min(1.0, near / max(1, fetch - own)))
    return {"recall": float(np.mean(shares))}
