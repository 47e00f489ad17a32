"""Selectors by name, with stages behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

import ragkit_selectors
from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.protocols import Embedder
from ragkit_selectors.base import PoolSelector, Selecting
from ragkit_selectors.pool import AnyExample, Pool
from ragkit_selectors.stages.base import Stage

SOURCES = ("random", "fixed", "jaccard", "containment", "tfidf", "ngram", "bm25", "embedding", "hybrid")
STAGES = (
    "guard",
    "mmr",
    "dpp",
    "coverage",
    "label-nearest",
    "label-balanced",
    "min-score",
    "token-limit",
    "similar-last",
    "similar-first",
    "shuffled",
)  # fmt: skip


def load_selector(
    spec: str,
    examples: Sequence[AnyExample],
    *,
    key: str = "input",
    output: str = "output",
    embedder: str | Embedder = "minilm",
    seed: int = 0,
) -> Selecting:
    """Build the selector that a spec stands for.

    Args:
        spec: A selector, such as ``"bm25"``, and stages behind it, such as ``"bm25 | guard | label-nearest"``; a
            number behind a colon is a stage's first argument, as in ``"mmr:0.5"``.
        examples: The pool.
        key: ``"input"`` to search whole inputs, or the name of one of their fields.
        output: The entry of a mapping that holds the answer.
        embedder: For ``"embedding"`` and ``"hybrid"``, an embedder or its spec.
        seed: For ``"random"`` and ``"shuffled"``.

    Returns:
        A selector over the pool.

    Raises:
        UnknownSpecError: If a name stands for nothing known.
    """
    if not isinstance(spec, str):
        raise UnknownSpecError("selector", repr(spec), SOURCES)
    name, *stages = (part.strip() for part in spec.split("|"))
    parsed = [load_stage(stage, seed=seed) for stage in stages]  # before the pool is indexed
    pool = Pool(examples, key=key, output=output)
    selector: Selecting = load_source(name, pool, embedder=embedder, seed=seed)
    for stage in parsed:
        selector |= stage
    return selector


def load_source(
    name: str,
    pool: Pool,
    *,
    embedder: str | Embedder = "minilm",
    seed: int = 0,
    vectors: NDArray[np.float32] | None = None,
) -> PoolSelector:
    """Build the one selector that a name stands for.

    Returns:
        A selector over the pool.

    Raises:
        UnknownSpecError: If the name stands for nothing known.
    """
    # Each is imported where it is built: Jaccard needs no FAISS.
    if name in {"random", "fixed"}:
        from ragkit_selectors.baselines import FixedSelector, RandomSelector

        return RandomSelector(pool, seed=seed) if name == "random" else FixedSelector(pool)
    if name in {"jaccard", "containment", "bm25", "tfidf", "ngram"}:
        from ragkit_selectors import lexical

        kinds: dict[str, Callable[[Pool], PoolSelector]] = {
            "jaccard": lexical.JaccardSelector,
            "containment": lexical.ContainmentSelector,
            "bm25": lexical.BM25Selector,
            "tfidf": lexical.TfidfSelector,
            "ngram": lexical.NgramSelector,
        }
        return kinds[name](pool)
    if name == "embedding":
        from ragkit_selectors.embedding import EmbeddingSelector

        return EmbeddingSelector(pool, embedder=embedder, vectors=vectors)
    if name == "hybrid":
        # By its name in the package: a hybrid selector builds its own parts with this function.
        return ragkit_selectors.HybridSelector(pool, embedder=embedder, vectors=vectors)
    raise UnknownSpecError("selector", name, SOURCES)


def load_stage(spec: str, *, seed: int = 0) -> Stage:
    """Build the stage that a spec stands for.

    Returns:
        The stage.

    Raises:
        UnknownSpecError: If it stands for nothing known.
        InvalidInputError: If what stands behind the colon is not a number.
    """
    from ragkit_selectors.stages.diversity_stages import Coverage, Dpp, LabelBalanced, LabelNearest, Mmr
    from ragkit_selectors.stages.filters import Guard, MinScore, TokenLimit
    from ragkit_selectors.stages.prompt_order import Order

    name, colon, given = spec.partition(":")
    number = _number(name, given) if colon else None
    if name in {"similar-last", "similar-first", "shuffled"} and number is None:
        return Order(name.replace("-", "_"), seed=seed)  # type: ignore[arg-type]
    if name == "token-limit":
        return TokenLimit(1000 if number is None else number)  # type: ignore[arg-type]  # it checks for itself
    if name == "min-score" and number is not None:
        return MinScore(number)
    for stage, default in ((Mmr, 0.7), (Guard, 0.9)):
        if name == stage.__name__.lower():
            return stage(default if number is None else number)
    plain = {"dpp": Dpp, "coverage": Coverage, "label-nearest": LabelNearest, "label-balanced": LabelBalanced}
    if name not in plain or number is not None:
        raise UnknownSpecError("stage", spec, STAGES)
    made: Stage = plain[name]()
    return made


def _number(stage: str, given: str) -> float:
    """The number behind a stage's colon; an int where it is whole."""
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInputError(f"stage {stage!r} takes a number behind the colon, got {given!r}")
    return int(number) if number.is_integer() else number
