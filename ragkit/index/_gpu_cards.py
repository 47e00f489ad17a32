"""GPUs accessed through FAISS, each by one thread that batches pending searches, and the names of devices."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit.index._exact import Found

Device = str | Sequence[str]
Kind: TypeAlias = Literal["single", "half", "ivf-sq8", "cagra"]
_UNKNOWN = 8 * 2**30  # bytes assumed to be free if this cannot be determined
_TOGETHER = 4096  # queries per batch
_CHUNK = 1_000_000  # rows copied at a time if the build of FAISS cannot page


class Card(Protocol):
    """One GPU; all calls come from one thread."""

    max_k: int  # the largest supported k
    graphs: bool  # whether it can search CAGRA graphs, which requires FAISS with cuVS

    def free_bytes(self) -> int:
        """Return the number of bytes that can be allocated."""
        ...

    def put(self, vectors: NDArray[np.floating], *, euclidean: bool, kind: Kind) -> object:
        """Copy vectors to the GPU."""
        ...

    def search(self, index: object, queries: NDArray[np.float32], k: int) -> Found:
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

    def search(self, index: Any, queries: NDArray[np.float32], k: int) -> Found:
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


@dataclass
class _Search:
    queries: NDArray[np.float32]
    k: int
    done: Future[Found] = field(default_factory=Future)


@dataclass
class _Call:
    work: Callable[[Card], Any]
    done: Future[Any] = field(default_factory=Future)


class Worker:
    """A thread that owns a GPU and the index on it."""

    def __init__(self, make: Callable[[], Card]) -> None:
        """Start the thread, which initialises the GPU."""
        self._jobs: queue.SimpleQueue[_Search | _Call | None] = queue.SimpleQueue()
        self._index: object = None
        self._card: Card
        self._thread = threading.Thread(target=self._run, args=(make,), daemon=True, name="ragkit-gpu")
        self._started: Future[None] = Future()
        self._thread.start()
        self._started.result()
        self.max_k, self.graphs = self._card.max_k, self._card.graphs

    def call(self, work: Callable[[Card], Any]) -> Any:
        """Run a function on the thread and return its result."""
        job = _Call(work)
        self._jobs.put(job)
        return job.done.result()

    def load(self, vectors: NDArray[np.floating], *, euclidean: bool, kind: Kind) -> None:
        """Copy vectors to the GPU; they replace earlier ones."""

        def work(card: Card) -> None:
            self._index = None  # free its memory first
            self._index = card.put(vectors, euclidean=euclidean, kind=kind)

        self.call(work)

    def search(self, queries: NDArray[np.float32], k: int) -> Future[Found]:
        """Queue a search for the k nearest rows."""
        job = _Search(queries, k)
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
        job = self._jobs.get()
        while job is not None:
            following: list[_Search | _Call | None] = []
            if isinstance(job, _Search):
                self._search(self._pending(job, following))
            else:
                self._call(job)
            job = following[0] if following else self._jobs.get()
        self._index = None
        del self._card

    def _call(self, job: _Call) -> None:
        try:
            job.done.set_result(job.work(self._card))
        except BaseException as error:  # noqa: BLE001 - passed to the caller
            job.done.set_exception(error)

    def _pending(self, first: _Search, following: list[_Search | _Call | None]) -> list[_Search]:
        """Return all pending searches up to a limit; another job that follows them is put into ``following``."""
        jobs, total = [first], len(first.queries)
        while total < _TOGETHER:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if not isinstance(job, _Search):
                following.append(job)
                break
            jobs.append(job)
            total += len(job.queries)
        return jobs

    def _search(self, jobs: list[_Search]) -> None:
        """Run searches as one batch."""
        try:
            queries = np.concatenate([job.queries for job in jobs]) if len(jobs) > 1 else jobs[0].queries
            scores, rows = self._card.search(self._index, queries, max(job.k for job in jobs))
        except BaseException as error:  # noqa: BLE001 - passed to the callers
            for job in jobs:
                job.done.set_exception(error)
            return
        start = 0
        for job in jobs:
            end = start + len(job.queries)
            job.done.set_result((scores[start:end, : job.k], rows[start:end, : job.k]))
            start = end


def gpu_count() -> int:
    """Return the number of GPUs that FAISS can use; 0 for a CPU build, and for a GPU build without a driver."""
    import faiss

    # `hasattr` is not enough: CPU builds have most of the names, but the functions fail when called.
    return int(faiss.get_num_gpus()) if "GPU" in faiss.get_compile_options() else 0


def card_numbers(device: Device) -> list[int]:
    """Return the numbers of the GPUs that a device names; empty for the CPU.

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
