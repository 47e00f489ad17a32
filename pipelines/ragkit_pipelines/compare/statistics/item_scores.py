"""The scores of stored answers as functions of the test rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ragkit.errors import InvalidInputError
from ragkit.records import Example
from ragkit_pipelines.compare.statistics.run_scores import MeanScores, SetScores

if TYPE_CHECKING:
    from ragkit.metrics import SetMetric
    from ragkit_pipelines.compare.predictions import Items


def item_scores(
    items: Items, runs: Sequence[tuple[str, int]], metric: SetMetric | None = None
) -> MeanScores | SetScores:
    """Return the scores of runs, each a strategy and a pool size, in the seeds that all of them have.

    Args:
        items: The test rows with all answers.
        runs: Strategies with their pool sizes.
        metric: The set-level metric of the comparison; None for means of the scores.

    Returns:
        The scores, in the order of the runs.

    Raises:
        InvalidInputError: If the runs have no seed in common.
    """
    known = {(each.strategy, each.size, each.seed): each for each in items.answers}
    by_run = [{seed for name, size, seed in known if (name, size) == run} for run in runs]
    seeds = sorted(set.intersection(*by_run))
    if not seeds:
        raise InvalidInputError(f"expected runs with a common seed, got none for {list(runs)}")
    found = [[known[name, size, seed] for seed in seeds] for name, size in runs]
    if metric is None:
        return MeanScores(np.array([[each.scores for each in of_run] for of_run in found]))
    rows = [Example(text, output) for text, output in zip(items.inputs, items.expected, strict=True)]
    return SetScores(metric, rows, [[each.answers for each in of_run] for of_run in found])


def sizes_of(items: Items, *strategies: str) -> list[int]:
    """Return the pool sizes at which all of some strategies have results, in ascending order."""
    found = [{each.size for each in items.answers if each.strategy == name} for name in strategies]
    return sorted(set.intersection(*found)) if found else []
