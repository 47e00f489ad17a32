"""A GPU made of CPU FAISS that insists on the rules of real ones, so that what breaks them fails without a card."""

import threading

import faiss
import numpy as np


class FakeCard:
    """Enforces: one thread, one call at a time, k of at most 2048, no more memory than there is, half precision."""

    def __init__(self, number, memory=8 * 2**30) -> None:
        self.number, self.memory, self.used = number, memory, 0
        self.max_k = 2048
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

    def flat(self, vectors, *, euclidean, half):
        self._enter()
        try:
            size = len(vectors) * ((2 if half else 4) * vectors.shape[1] + 4)
            if size > self.memory:
                raise RuntimeError(f"cudaMalloc: out of memory for {size} bytes")
            index = faiss.IndexFlatL2(vectors.shape[1]) if euclidean else faiss.IndexFlatIP(vectors.shape[1])
            index.add(_rounded(np.asarray(vectors), half=half))
            return index, half
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
