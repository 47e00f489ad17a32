"""A process that changes an index for ever and tells what it does, and what must be in the index after each change."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ragkit import Document, Index

VECTORS = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
State = dict[str, str]  # text by id


def write_for_ever(folder: Path, turn: int, report: int) -> None:
    """Add, replace, delete and compact, and tell what begins and what is committed."""
    rng = np.random.default_rng(turn)
    index = Index.open(folder)
    for step in range(10_000):
        line = next_change(rng, f"{turn}.{step}")
        os.write(report, f"begin {line}\n".encode())
        make(index, line)
        os.write(report, b"end\n")


def next_change(rng: np.random.Generator, version: str) -> str:
    """A change as a line: what, version, ids."""
    names = [f"d{n}" for n in rng.choice(40, size=int(rng.integers(1, 12)), replace=False)]
    kind = ("add", "add", "delete", "compact")[int(rng.integers(4))]
    return f"{kind} {version} {' '.join(names)}"


def make(index: Index, change: str) -> None:
    """Make a change."""
    kind, version, *names = change.split()
    if kind == "add":
        documents = [Document(f"{name} of {version} at {place}", id=name) for place, name in enumerate(names)]
        index.add(documents, vectors=VECTORS[: len(names)])
    elif kind == "delete":
        index.delete(names)
    else:
        index.compact()


def after(state: State, change: str) -> State:
    """What the index must hold after a change."""
    kind, version, *names = change.split()
    if kind == "add":
        return state | {name: f"{name} of {version} at {place}" for place, name in enumerate(names)}
    return {name: text for name, text in state.items() if kind != "delete" or name not in names}


def finished(lines: list[str]) -> tuple[list[str], str | None]:
    """The changes of a report that were committed, and the one that was under way, if any."""
    changes = [line.removeprefix("begin ") for line in lines if line.startswith("begin ")]
    done = sum(line == "end" for line in lines)
    return changes[:done], changes[done] if done < len(changes) else None


def everything(index: Index) -> State:
    """What an index holds."""
    names = [name for (name,) in index._store.database.connection.execute("SELECT id FROM documents")]
    return {document.id: document.text for document in index.get(names)}


def wrong_vectors(index: Index, state: State) -> list[str]:
    """Documents whose vector is not the one they were added with; "search" where exact search scores otherwise."""
    names = sorted(state)
    if not names:
        return []
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    expected = unit[[int(state[name].rsplit(" ", 1)[1]) for name in names]]
    held = index.get_vectors(names)
    bad = [name for name, off in zip(names, np.abs(held - expected).max(axis=1), strict=True) if off > 1e-5]
    if index.stats().factory == "Flat":
        scores, _ = index.search_vectors(VECTORS[:12], len(names))
        if np.abs(np.sort(scores) - np.sort(unit[:12] @ expected.T)).max() > 1e-4:
            bad.append("search")
    return bad
