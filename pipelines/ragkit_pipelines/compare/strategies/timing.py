"""Times that do not depend on the order of the strategies.

Strategies share work: the embeddings of the pool, imported libraries, weights prepared on first use. Whichever strategy
runs first would pay for all of it. The rule instead: what is done once per process is not counted, and what another
strategy has already computed is charged at the time that it took.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._progress import in_parts
from ragkit._text import refuse_bare_string
from ragkit.embedders._caching import RememberingEmbedder
from ragkit.protocols import Embedder, LanguageModel


class Clock:
    """A clock that can be paused and put forward.

    Examples:
        >>> clock = Clock()
        >>> started = clock.now()
        >>> clock.charge(60.0)
        >>> round(clock.now() - started)
        60
    """

    def __init__(self) -> None:
        """Start the clock."""
        self._offset = 0.0

    def now(self) -> float:
        """Seconds since an arbitrary time."""
        return perf_counter() + self._offset

    def charge(self, seconds: float) -> None:
        """Count seconds that earlier work took."""
        self._offset += seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what is done within a block."""
        started = self.now()
        try:
            yield
        finally:
            self._offset -= self.now() - started


class TimedEmbedder(RememberingEmbedder):
    """An embedder that embeds each text once, and charges every request the time that its texts took.

    Attributes:
        embedder: The embedder; training uses it directly.
        texts: Number of texts that were embedded.
        seconds: Wall seconds that they took.
        cpu_seconds: CPU seconds that they took.
        charged: Seconds that were charged for documents and for queries.
    """

    def __init__(self, embedder: Embedder, clock: Clock) -> None:
        """Wrap an embedder."""
        super().__init__(embedder)
        self._clock = clock
        self.texts, self.seconds, self.cpu_seconds = 0, 0.0, 0.0
        self.charged = {"documents": 0.0, "queries": 0.0}
        self._documents: dict[str, tuple[NDArray[np.float32], float]] = {}
        self._queries: dict[str, tuple[NDArray[np.float32], float]] = {}

    @override
    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts to be stored, or return their vectors.

        Returns:
            f32[n, d].
        """
        return self._embed(texts, "documents", self._documents, self.embedder.embed_documents)

    @override
    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed queries, or return their vectors.

        Returns:
            f32[n, d].
        """
        return self._embed(texts, "queries", self._queries, self.embedder.embed_queries)

    def _embed(
        self,
        texts: Sequence[str],
        kind: str,
        known: dict[str, tuple[NDArray[np.float32], float]],
        embed: Callable[[Sequence[str]], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        refuse_bare_string("texts", texts)
        with self._clock.paused():
            new = [text for text in dict.fromkeys(texts) if text not in known]
            if new:
                if not self._documents and not self._queries:
                    self.embedder.embed_queries(["a first text loads the weights"])
                started, cpu = perf_counter(), process_time()
                vectors = in_parts("embedding", embed, new)
                seconds = perf_counter() - started
                self.texts, self.seconds = self.texts + len(new), self.seconds + seconds
                self.cpu_seconds += process_time() - cpu
                each = seconds / len(new)
                known.update((text, (vector, each)) for text, vector in zip(new, vectors, strict=True))
            found = [known[text] for text in texts]
        charge = sum({text: seconds for text, (_, seconds) in zip(texts, found, strict=True)}.values())
        self.charged[kind] += charge
        self._clock.charge(charge)
        return np.stack([vector for vector, _ in found]) if found else np.zeros((0, self.dim), dtype=np.float32)


def warm_up(model: LanguageModel | None) -> None:
    """Empty the prompt cache of a local model, and prepare its weights, so that no strategy is timed doing it."""
    release = getattr(model, "release_caches", None)
    if model is not None and callable(release):
        release()
        model.generate("a first prompt prepares the weights", max_tokens=1)
        getattr(model, "prefixes", _NOTHING).clear()


_NOTHING: dict[str, object] = {}
