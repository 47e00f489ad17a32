"""Creation of selectors and stages from specs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import UnknownSpecError
from ragkit.protocols import Embedder
from ragkit.registry import create, specs
from ragkit_selectors.base import BaseSelector, PoolSelector
from ragkit_selectors.pool import AnyExample, Pool
from ragkit_selectors.stages.base import Stage


def load_selector(
    spec: str,
    examples: Sequence[AnyExample],
    *,
    key: str = "input",
    output: str = "output",
    embedder: str | Embedder = "minilm",
    seed: int = 0,
) -> BaseSelector:
    """Build the selector that a spec describes.

    Args:
        spec: A selector, such as ``"bm25"``, optionally followed by stages, as in ``"bm25 | guard | label-nearest"``;
            a number after a colon is the first argument of a stage, as in ``"mmr:0.5"``.
        examples: The pool.
        key: ``"input"`` to search whole inputs, or the name of one of their fields.
        output: The entry of a mapping that contains the answer.
        embedder: An embedder or its spec, for selectors that use one, such as ``"embedding"`` and ``"hybrid"``.
        seed: The seed of selectors and stages that use one, such as ``"random"`` and ``"shuffled"``.

    Returns:
        A selector over the pool.

    Raises:
        UnknownSpecError: If the name of the selector or of a stage is not known.
        InvalidInputError: If an argument after a colon is not a number although it must be.
    """
    if not isinstance(spec, str):
        raise UnknownSpecError("selector", repr(spec), specs("selector"))
    name, *stages = (part.strip() for part in spec.split("|"))
    parsed = [load_stage(stage, seed=seed) for stage in stages]  # before the pool is indexed
    pool = Pool(examples, key=key, output=output)
    selector: BaseSelector = load_source(name, pool, embedder=embedder, seed=seed)
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
    """Create a selector without stages; the arguments are those of `load_selector`."""
    settings = {"embedder": embedder, "seed": seed, "vectors": vectors}
    selector: PoolSelector = create("selector", name, pool, settings=settings)
    return selector


def load_stage(spec: str, *, seed: int = 0) -> Stage:
    """Create the stage that a spec describes."""
    stage: Stage = create("stage", spec, settings={"seed": seed})
    return stage
