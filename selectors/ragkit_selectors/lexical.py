"""What selectors that count shared tokens have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from os import cpu_count
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.postings import PostingLists, Rule
from ragkit_selectors.candidates import Candidates
from ragkit_selectors.pool import AnyExample, Pool
from ragkit_selectors.selecting import PoolSelector

# Smaller pools are searched in less time than it takes to load compiled code.
_LARGE = 20_000
_AT_ONCE = 32


@lru_cache(maxsize=1)
def load_kernels() -> ModuleType | None:
    """The compiled loops, None where numba is not installed."""
    return import_module("ragkit_selectors.kernels") if find_spec("numba") else None


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cpu_count())


class LexicalSelector(PoolSelector):
    """Ranks by tokens that query and example share.

    Attributes:
        rule: How texts are cut into tokens.
        measure: What the score is called in `Hit.why`.
    """

    measure: str

    def __init__(
        self, examples: Sequence[AnyExample] | Pool, rule: Rule, *, key: str = "input", output: str = "output"
    ) -> None:
        """Read and index the pool."""
        super().__init__(examples, key=key, output=output)
        self.rule = rule
        self.pool.postings(rule)  # now, not at the first query

    @property
    def _lists(self) -> PostingLists:
        return self.pool.postings(self.rule)

    @abstractmethod
    def _top(self, text: str, n: int, barred: NDArray[np.bool_] | None) -> Candidates:
        """The n best rows, fewer only where fewer are left."""

    @override
    def _best(self, texts: Sequence[str], n: int, barred: NDArray[np.bool_] | None) -> list[Candidates]:
        kernels = load_kernels() if len(self._lists) >= _LARGE and self._lists.whole else None
        if kernels is None:
            return [self._top(text, n, barred) for text in texts]
        parts = [texts[at : at + _AT_ONCE] for at in range(0, len(texts), _AT_ONCE)]
        work = partial(self._compiled, kernels, n=n, barred=np.zeros(0, dtype=np.bool_) if barred is None else barred)
        with_threads = len(parts) > 1 and (cpu_count() or 1) > 1
        found = list(_threads().map(work, parts)) if with_threads else [work(part) for part in parts]
        return [
            self._top(text, n, barred) if best is None else best
            for text, best in zip(texts, chain.from_iterable(found), strict=True)
        ]

    def _compiled(
        self,
        kernels: ModuleType,  # noqa: ARG002 - for subclasses, as the others
        texts: Sequence[str],
        n: int,  # noqa: ARG002
        barred: NDArray[np.bool_],  # noqa: ARG002
    ) -> list[Candidates | None]:
        """The same by compiled code, which needs whole lists; None where `_top` has to find them."""
        return [None] * len(texts)

    @override
    def _why(self, text: str, example: str, score: float) -> dict[str, object]:
        return {"matched": sorted(set(self.rule(text)) & set(self.rule(example))), self.measure: score}


def unpacked(
    rows: NDArray[np.int64], scores: NDArray[np.float64], counts: NDArray[np.int64]
) -> list[Candidates | None]:
    """What a kernel filled in, by query; None where it found fewer rows than asked for.

    Args:
        rows: i64[m, k].
        scores: f64[m, k].
        counts: i64[m].

    Returns:
        m candidates or None.
    """
    k = rows.shape[1]
    return [Candidates(rows[q], scores[q]) if count == k else None for q, count in enumerate(counts.tolist())]
