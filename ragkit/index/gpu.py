"""GPU placement for FAISS indexes, and the limits of FAISS on GPU.

A GPU holds a copy of the first rows. The vectors on disk remain authoritative, and newer rows are searched on the CPU.
Classic GPU builds of FAISS silently ignore filters, cannot remove rows, reject large k, and fail when two threads
search at once. Excluded rows are therefore filtered here, large k is searched on the CPU, and one worker thread per GPU
batches pending queries.
"""

from __future__ import annotations

import math
import queue
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError, RagkitWarning
from ragkit.index.exact import Found, in_order, merged, nearest
from ragkit.pairwise import candidate_scores

Device = str | Sequence[str]
Kind: TypeAlias = Literal["single", "half", "ivf-sq8", "cagra"]
_SCRATCH = 1536 * 2**20  # bytes that FAISS reserves for itself on a GPU
_SHARE = 0.9  # of the free memory
_TOGETHER = 4096  # queries per batch
_DECIMALS = 6  # GPUs add in a different order, so scores are compared at 1e-6
_UNKNOWN = 8 * 2**30  # bytes assumed to be free if this cannot be determined
_CHUNK = 1_000_000  # rows copied at a time if the build of FAISS cannot page


class Card(Protocol):
    """One GPU; all calls come from one thread.

    Attributes:
        max_k: The largest supported k.
        graphs: Whether it can search CAGRA graphs, which requires FAISS with cuVS.
    """

    max_k: int
    graphs: bool

    def free_bytes(self) -> int:
        """Return the number of bytes that can be allocated."""
        ...

    def put(self, vectors: NDArray[np.floating], *, euclidean: bool, kind: Kind) -> object:
        """Copy vectors to the GPU."""
        ...

    def search(
        self, index: object, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search as FAISS does; return scores or distances, and rows."""
        ...


class FaissCard:
    """A GPU accessed through FAISS."""

    def __init__(self, number: int) -> None:
        """Initialise a GPU, with one set of FAISS resources for all its indexes."""
        import faiss

        self._faiss: Any = faiss
        self._number = number
        self._resources = self._faiss.StandardGpuResources()
        self.graphs = self._cuvs = hasattr(faiss, "GpuIndexCagra")
        self.max_k = 16_384 if self._cuvs else 2048

    def free_bytes(self) -> int:
        """Return the number of bytes that can be allocated."""
        for name in ("get_free_memory", "getFreeMemory"):
            if hasattr(self._faiss, name):
                return int(getattr(self._faiss, name)(self._number))
        try:  # FAISS does not report this; torch does, if it is installed
            import torch

            return int(torch.cuda.mem_get_info(self._number)[0])
        except (ImportError, RuntimeError):
            return _UNKNOWN

    def put(self, vectors: NDArray[np.floating], *, euclidean: bool, kind: Kind) -> object:
        """Copy vectors into an index created empty; copying a finished index would need four times the memory."""
        faiss = self._faiss
        metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
        if kind == "cagra":  # built in one step; rows cannot be added
            config = faiss.GpuIndexCagraConfig()
            config.device = self._number
            index = faiss.GpuIndexCagra(self._resources, vectors.shape[1], metric, config)
            index.train(np.ascontiguousarray(vectors, dtype=np.float32))
            return index
        if kind == "ivf-sq8":
            lists, config = list_count(len(vectors)), faiss.GpuIndexIVFScalarQuantizerConfig()
            config.device = self._number
            eight = faiss.ScalarQuantizer.QT_8bit
            residuals = True  # FAISS requires positional arguments here
            arguments = (vectors.shape[1], lists, eight, metric, residuals, config)
            index = faiss.GpuIndexIVFScalarQuantizer(self._resources, *arguments)
            index.train(sample(vectors, lists))
            index.nprobe = max(1, lists // 16)
            step = _CHUNK
        else:
            config = faiss.GpuIndexFlatConfig()
            config.device, config.useFloat16 = self._number, kind == "half"
            index = faiss.GpuIndexFlat(self._resources, vectors.shape[1], metric, config)
            step = _CHUNK if self._cuvs else max(1, len(vectors))  # classic builds page a large copy themselves
        for start in range(0, len(vectors), step):
            index.add(np.ascontiguousarray(vectors[start : start + step], dtype=np.float32))
        return index

    def search(self, index: Any, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search an index; see `Card.search`."""
        parameters = None
        if self.graphs and isinstance(index, self._faiss.GpuIndexCagra):
            # FAISS would treat parameters of another type as a null pointer; the list must be longer than k.
            parameters = self._faiss.SearchParametersCagra()
            parameters.itopk_size = max(64, 32 * -(-2 * k // 32))
        scores, rows = index.search(queries, k, params=parameters)
        return scores, rows


def list_count(rows: int) -> int:
    """Return the number of lists of an inverted file for a number of rows."""
    return max(1, min(int(4 * math.sqrt(rows)), rows // 39))


def sample(vectors: NDArray[np.floating], lists: int) -> NDArray[np.float32]:
    """Return evenly spaced vectors to train an inverted file on."""
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), 256 * lists)).astype(np.int64)
    return np.ascontiguousarray(vectors[rows], dtype=np.float32)


def gpu_count() -> int:
    """Return the number of GPUs that this build of FAISS can use.

    Returns:
        The number of GPUs; 0 for a CPU build, and for a GPU build without a driver.
    """
    import faiss

    # `hasattr` is not enough: CPU builds have most of the names, but the functions fail when called.
    return int(faiss.get_num_gpus()) if "GPU" in faiss.get_compile_options() else 0


def card_numbers(device: Device) -> list[int]:
    """Return the numbers of the GPUs that a device names.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or several of the last form.

    Returns:
        The GPU numbers; empty for the CPU.

    Raises:
        InvalidInputError: If the device is not recognised, or if the GPU does not exist.
    """
    names = [device] if isinstance(device, str) else list(device)
    if names == ["cpu"]:
        return []
    count = gpu_count()
    if names == ["auto"]:
        return [0] if count else []
    numbers = []
    for name in names:
        kind, colon, number = name.partition(":")
        if kind != "cuda" or (colon and not number.isdecimal()):
            raise InvalidInputError(
                f'`device` must be "auto", "cpu", "cuda", "cuda:0" or several of these, got {device!r}'
            )
        numbers.append(int(number or 0))
    for asked in numbers:
        if asked >= count:
            raise InvalidInputError(
                f"`device` asks for cuda:{asked}, but FAISS sees {count} GPUs; install faiss-gpu "
                '(`pip install "ragkit-py[gpu]"`) or use device="auto"'
            )
    return numbers


class Plan(NamedTuple):
    """The distribution of rows over GPUs.

    Attributes:
        kind: ``"single"`` or ``"half"`` precision, searched exactly; ``"ivf-sq8"``, an inverted file of eight-bit
            numbers; or ``"cagra"``, a graph. The best candidates of the last two are rescored from the vectors on disk.
        shards: For each GPU, the start and end of the rows that it holds; the same for all if each holds all rows.
        replicated: Whether every GPU holds all rows.
        reasons: Why better kinds were rejected.
    """

    kind: Kind
    shards: tuple[tuple[int, int], ...]
    replicated: bool
    reasons: tuple[str, ...]


def plan(rows: int, dim: int, free: Sequence[int], *, graph: bool = False) -> Plan | str:
    """Plan the placement of rows before anything is allocated.

    If all rows fit on every GPU, each holds a copy and batches are split; otherwise the rows are split. If they do not
    fit in single precision, half precision and then eight bits are tried, and finally the CPU is used.

    Args:
        rows: Number of vectors.
        dim: Vector length.
        free: Free bytes of each GPU.
        graph: Whether to use a CAGRA graph if it fits.

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


@dataclass
class _Job:
    queries: NDArray[np.float32]
    k: int
    done: Future[tuple[NDArray[np.float32], NDArray[np.int64]]] = field(default_factory=Future)


class Worker:
    """The only thread that uses a GPU; it batches pending searches."""

    def __init__(self, make: Callable[[], Card]) -> None:
        """Start the thread, which initialises the GPU."""
        self._jobs: queue.SimpleQueue[_Job | Callable[[], None] | None] = queue.SimpleQueue()
        self._index: object = None
        self._card: Card
        self._thread = threading.Thread(target=self._run, args=(make,), daemon=True, name="ragkit-gpu")
        self._started: Future[None] = Future()
        self._thread.start()
        self._started.result()
        self.max_k, self.graphs = self._card.max_k, self._card.graphs

    def call(self, work: Callable[[Card], Any]) -> Any:
        """Run a function on the thread and return its result."""
        done: Future[Any] = Future()

        def job() -> None:
            try:
                done.set_result(work(self._card))
            except BaseException as error:  # noqa: BLE001 - passed to the caller
                done.set_exception(error)

        self._jobs.put(job)
        return done.result()

    def load(self, vectors: NDArray[np.floating], *, euclidean: bool, kind: Kind) -> None:
        """Copy vectors to the GPU; they replace earlier ones."""

        def work(card: Card) -> None:
            self._index = None  # free its memory first
            self._index = card.put(vectors, euclidean=euclidean, kind=kind)

        self.call(work)

    def search(self, queries: NDArray[np.float32], k: int) -> Future[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Queue a search for the k nearest rows."""
        job = _Job(queries, k)
        self._jobs.put(job)
        return job.done

    def close(self) -> None:
        """Stop the thread and free the GPU."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self, make: Callable[[], Card]) -> None:
        try:
            self._card = make()
        except BaseException as error:  # noqa: BLE001 - passed to the constructor
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        waiting: Any = self._jobs.get()
        while waiting is not None:
            if isinstance(waiting, _Job):
                waiting = self._together(waiting)
            else:
                waiting()
                waiting = self._jobs.get()
        self._index = None
        del self._card

    def _together(self, first: _Job) -> Any:
        """Run all pending searches as one batch, and return the first queue item after them that is not a search."""
        jobs, total, behind = [first], len(first.queries), None
        while total < _TOGETHER and behind is None:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if isinstance(job, _Job):
                jobs.append(job)
                total += len(job.queries)
            else:
                behind = job if job is not None else _END
        try:
            queries = np.concatenate([job.queries for job in jobs]) if len(jobs) > 1 else first.queries
            scores, rows = self._card.search(self._index, queries, max(job.k for job in jobs))
        except BaseException as error:  # noqa: BLE001 - passed to the callers
            for job in jobs:
                job.done.set_exception(error)
        else:
            start = 0
            for job in jobs:
                end = start + len(job.queries)
                job.done.set_result((scores[start:end, : job.k], rows[start:end, : job.k]))
                start = end
        if behind is _END:
            return None
        return self._jobs.get() if behind is None else behind


_END = object()


class GpuSegment:
    """The first rows of an index on one or several GPUs, searched exactly up to their precision.

    Attributes:
        rows: Number of rows.
        factory: The name in `IndexStats`.
        settings: Search parameters; always empty.
        plan: The distribution of rows over GPUs.
    """

    def __init__(
        self, vectors: NDArray[np.floating], *, euclidean: bool, workers: Sequence[Worker], made: Plan
    ) -> None:
        """Copy vectors to the GPUs."""
        self.rows, self.plan = len(vectors), made
        self.factory = f"{made.kind} on {len(workers)} GPU{'s' * (len(workers) > 1)}"
        self.settings: dict[str, int] = {}
        self.knob = None
        self._vectors, self._euclidean, self._workers = vectors, euclidean, workers
        for worker, (start, end) in zip(workers, made.shards, strict=True):
            worker.load(vectors[start:end], euclidean=euclidean, kind=made.kind)

    def search(self, queries: NDArray[np.float32], k: int, barred: NDArray[np.bool_] | None) -> Found:
        """Find the k nearest rows of each query, except barred rows.

        Args:
            queries: f32[m, d].
            k: Number of rows.
            barred: bool[rows], rows to exclude. They are excluded here, as FAISS may ignore filters on GPU.

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
        """Copy vectors to the GPUs.

        Args:
            vectors: f32 or f16[n, d].
            euclidean: Whether distances are compared.
            factory: ``"cagra"`` for a graph if the build of FAISS supports it; anything else for exact search.

        Returns:
            The segment. If the vectors must be searched on the CPU, warn with the reason and return None.
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
