"""Selectors by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ragkit.errors import UnknownSpecError
from ragkit.protocols import Embedder
from ragkit.records import Example
from ragkit_selectors.pool import PoolSelector

KNOWN = ("random", "jaccard", "bm25", "embedding")


def load_selector(
    name: str,
    examples: Sequence[Example | Mapping[str, object]],
    *,
    key: str = "input",
    embedder: str | Embedder = "minilm",
    seed: int = 0,
) -> PoolSelector:
    """Build the selector that a name stands for.

    Args:
        name: ``"random"``, ``"jaccard"``, ``"bm25"`` or ``"embedding"``.
        examples: The pool.
        key: ``"input"`` to search whole inputs, or the name of one of their fields.
        embedder: For ``"embedding"``, an embedder or its spec.
        seed: For ``"random"``.

    Returns:
        A selector over the pool.

    Raises:
        UnknownSpecError: If the name stands for nothing known.
    """
    # Each is imported where it is built: Jaccard needs neither bm25s nor FAISS.
    if name == "random":
        from ragkit_selectors.uniform import RandomSelector

        return RandomSelector(examples, key=key, seed=seed)
    if name == "jaccard":
        from ragkit_selectors.jaccard import JaccardSelector

        return JaccardSelector(examples, key=key)
    if name == "bm25":
        from ragkit_selectors.bm25 import BM25Selector

        return BM25Selector(examples, key=key)
    if name == "embedding":
        from ragkit_selectors.embedding import EmbeddingSelector

        return EmbeddingSelector(examples, embedder=embedder, key=key)
    raise UnknownSpecError("selector", name, KNOWN)
