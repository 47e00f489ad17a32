"""A GPU made of CPU FAISS that insists on the rules of real ones, so that what breaks them fails without a card."""

import threading

import faiss
import numpy as np

from ragkit.index._gpu_cards import list_count, sample


class FakeCard:
    """Enforces: one thread, one call at a time, k of at most 2048, no more memory than there is, half precision."""

    def __init__(self, number, memory=8 * 2**30, *, graphs=False) -> None:
        self.number, self.memory, self.used = number, memory, 0
        self.max_k, self.graphs = 2048, graphs
        self.searches = []
        self._thread = threading.get_ident()
        self._busy = threading.Lock()

    def _enter(self):
        if threading.get_ident() != self._thread:
            raise RuntimeError("StackDeviceMemory: used by two threads")
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("StackDeviceMemory: used twice at once")

    def free_bytes(self):
        return self.memory - self.used

    def put(self, vectors, *, euclidean, kind):
        self._enter()
        try:
            n, d = vectors.shape
            size = n * {"single": 4 * d + 4, "half": 2 * d + 4, "ivf-sq8": d + 8, "cagra": 4 * d + 256}[kind]
            if size > self.memory:
                raise RuntimeError(f"cudaMalloc: out of memory for {size} bytes")
            metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
            if kind == "cagra":
                if not self.graphs:
                    raise RuntimeError("this build has no cuVS")
                index = faiss.index_factory(d, "HNSW32", metric)
            elif kind == "ivf-sq8":
                index = faiss.index_factory(d, f"IVF{list_count(n)},SQ8", metric)
                index.train(sample(vectors, list_count(n)))
                index.nprobe = max(1, list_count(n) // 16)
            else:
                index = faiss.IndexFlatL2(d) if euclidean else faiss.IndexFlatIP(d)
            index.add(_rounded(np.asarray(vectors), half=kind == "half"))
            return index, kind == "half"
        finally:
            self._busy.release()

    def search(self, index, queries, k):
        self._enter()
        try:
            if k > self.max_k:
                raise RuntimeError(f"k = {k} is larger than {self.max_k}")
            self.searches.append(len(queries))
            flat, half = index
            return flat.search(_rounded(queries, half=half), k)
        finally:
            self._busy.release()


def _rounded(vectors, *, half):
    return np.ascontiguousarray(vectors.astype(np.float16) if half else vectors, dtype=np.float32)
