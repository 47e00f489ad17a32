"""GPU placement for FAISS indexes, and the limits of FAISS on GPU.

A GPU holds a copy of the first rows. The vectors on disk remain authoritative, and newer rows are searched on the CPU.
Classic GPU builds of FAISS silently ignore filters, cannot remove rows, reject large k, and fail when two threads
search at once. Excluded rows are therefore filtered here, large k is searched on the CPU, and one worker thread per GPU
batches pending queries.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ragkit._pairwise import candidate_scores
from ragkit.errors import RagkitWarning
from ragkit.index._exact import Found, in_order, merged, nearest
from ragkit.index._gpu_cards import Card, FaissCard, Kind, Worker

_SCRATCH = 1536 * 2**20  # bytes that FAISS reserves for itself on a GPU
_SHARE = 0.9  # of the free memory
_DECIMALS = 6  # GPUs add in a different order, so scores are compared at 1e-6


class Plan(NamedTuple):
    """The distribution of rows over GPUs.

    ``"single"`` and ``"half"`` precision are searched exactly; the best candidates of ``"ivf-sq8"``, an inverted file
    of eight-bit numbers, and of ``"cagra"``, a graph, are rescored from the vectors on disk.
    """

    kind: Kind
    shards: tuple[tuple[int, int], ...]  # for each GPU, the start and end of the rows that it holds
    replicated: bool  # whether every GPU holds all rows
    reasons: tuple[str, ...]  # why better kinds were rejected


def plan(rows: int, dim: int, free: Sequence[int], *, graph: bool = False) -> Plan | str:
    """Plan the placement of rows before anything is allocated.

    If all rows fit on every GPU, each holds a copy and batches are split; otherwise the rows are split. If they do not
    fit in single precision, half precision and then eight bits are tried, and finally the CPU is used. With ``graph``,
    a CAGRA graph is used if it fits into the free bytes of each GPU.

    Returns:
        The plan, or the reason for searching on the CPU.
    """
    room = [int(_SHARE * each) - _SCRATCH for each in free]
    reasons: list[str] = []
    # A graph has 64 neighbours per row, and needs a third more memory while it is built.
    sizes: dict[Kind, int] = {"cagra": int(1.3 * (4 * dim + 256))} if graph else {}
    sizes |= {"single": 4 * dim + 4, "half": 2 * dim + 4, "ivf-sq8": int(1.1 * (dim + 8))}
    for kind, each_row in sizes.items():  # flat rows are stored with their norm, rows in lists with their number
        if all(rows * each_row <= most for most in room):
            return Plan(kind, ((0, rows),) * len(free), True, tuple(reasons))  # noqa: FBT003 - named in Plan
        reasons.append(f"{rows} x {dim} as {kind} takes {rows * each_row:,} bytes per GPU, but {min(room):,} are free")
        fits = [max(0, most) // each_row for most in room]
        if len(free) > 1 and sum(fits) >= rows:
            cuts = np.minimum(np.cumsum(np.ceil(rows * np.array(fits) / sum(fits))), rows).astype(int).tolist()
            return Plan(kind, tuple(zip([0, *cuts[:-1]], cuts, strict=True)), False, tuple(reasons))  # noqa: FBT003
    return "; ".join(reasons)


class GpuSegment:
    """The first rows of an index on one or several GPUs, searched exactly up to their precision."""

    def __init__(
        self, vectors: NDArray[np.floating], *, euclidean: bool, workers: Sequence[Worker], made: Plan
    ) -> None:
        """Copy vectors to the GPUs."""
        self.rows, self.plan = len(vectors), made
        self.factory = f"{made.kind} on {len(workers)} GPU{'s' * (len(workers) > 1)}"
        self.settings: dict[str, int] = {}
        self._vectors, self._euclidean, self._workers = vectors, euclidean, workers
        for worker, (start, end) in zip(workers, made.shards, strict=True):
            worker.load(vectors[start:end], euclidean=euclidean, kind=made.kind)

    def search(self, queries: NDArray[np.float32], k: int, barred: NDArray[np.bool_] | None) -> Found:
        """Find the k nearest rows of f32[m, d] queries, except barred rows, as FAISS may ignore filters on GPU.

        Returns:
            f32[m, k] scores and i64[m, k] rows, padded with -inf and -1 if there are fewer.
        """
        gone = 0 if barred is None else int(np.count_nonzero(barred))
        live = self.rows - gone
        count, most = min(k, live), min(worker.max_k for worker in self._workers)
        exact = self.plan.kind in {"single", "half"}
        fetch = min(self.rows, count if exact else 4 * count)
        if gone:
            fetch = min(self.rows, fetch + 8 + gone * fetch // max(live, 1))
        while count and fetch <= most:
            scores, rows = self._ask(queries, fetch)
            if not exact:
                scores = self._again(queries, rows)
            if barred is not None:
                scores = np.where((rows < 0) | barred[np.maximum(rows, 0)], -np.inf, scores)
            scores, rows = in_order(scores, rows, _DECIMALS)
            if fetch == self.rows or not exact or np.isfinite(scores[:, count - 1]).all():
                rows = np.where(np.isneginf(scores), -1, rows)
                return merged([(scores, rows), (scores[:, :0], rows[:, :0])], k, _DECIMALS)
            fetch = min(self.rows, 4 * fetch)
        # Search on the CPU if k exceeds the limit of the GPU, or if all rows are barred.
        return nearest(queries, self._vectors, k, euclidean=self._euclidean, dead=barred)

    def efforts(self) -> list[dict[str, int]]:
        """Return one empty setting, as there are no search parameters."""
        return [{}]

    def with_settings(self, settings: dict[str, int]) -> GpuSegment:  # noqa: ARG002 - as those of `Segment`
        """Return the same segment, as there are no search parameters."""
        return self

    def _again(self, queries: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rescore candidates exactly, from the vectors on disk."""
        scores = candidate_scores(queries, self._vectors, rows, euclidean=self._euclidean)
        return np.where(rows < 0, -np.inf, scores).astype(np.float32)

    def _ask(self, queries: NDArray[np.float32], k: int) -> Found:
        if self.plan.replicated:
            parts = [part for part in np.array_split(queries, len(self._workers)) if len(part)]
            asked = [worker.search(part, k) for worker, part in zip(self._workers, parts, strict=False)]
            found = [self._signed(*future.result()) for future in asked]
            return np.concatenate([scores for scores, _ in found]), np.concatenate([rows for _, rows in found])
        pieces = list(zip(self._workers, self.plan.shards, strict=True))
        waiting = [
            (worker.search(queries, min(k, end - start)), start) for worker, (start, end) in pieces if end > start
        ]
        return merged([self._signed(*future.result(), start) for future, start in waiting], k, _DECIMALS)

    def _signed(self, scores: NDArray[np.float32], rows: NDArray[np.int64], start: int = 0) -> Found:
        scores = np.where(rows < 0, -np.inf, -scores if self._euclidean else scores).astype(np.float32)
        return scores, np.where(rows < 0, -1, rows + start)


class Gpus:
    """The GPUs of an index and their contents."""

    def __init__(self, numbers: Sequence[int], make: Callable[[int], Card] = FaissCard) -> None:
        """Start one thread per GPU."""
        self._workers = [Worker(lambda number=number: make(number)) for number in numbers]  # type: ignore[misc]
        self.reasons: tuple[str, ...] = ()

    def segment(self, vectors: NDArray[np.floating], *, euclidean: bool, factory: str = "auto") -> GpuSegment | None:
        """Return a copy of f32 or f16[n, d] on the GPUs; if the CPU must search them, warn with the reason.

        The factory ``"cagra"`` asks for a graph, if the build of FAISS supports it; any other for exact search.
        """
        graph = factory.lower() == "cagra" and all(worker.graphs for worker in self._workers)
        free = [worker.call(lambda card: card.free_bytes()) for worker in self._workers]
        made = plan(len(vectors), vectors.shape[1], free, graph=graph)
        if isinstance(made, str):
            self.reasons = (made,)
            warnings.warn(f"search stays on the CPU: {made}", RagkitWarning, stacklevel=5)
            return None
        self.reasons = made.reasons
        return GpuSegment(vectors, euclidean=euclidean, workers=self._workers, made=made)

    def close(self) -> None:
        """Stop the threads and free the GPUs."""
        for worker in self._workers:
            worker.close()
