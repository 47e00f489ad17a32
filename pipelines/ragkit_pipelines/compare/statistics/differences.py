"""Tests and differences between all strategies of a comparison, from the answers to the same test rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations

import numpy as np

from ragkit.metrics import SetMetric
from ragkit.records import Example
from ragkit_pipelines.compare.results import Cell, Difference, Pair
from ragkit_pipelines.compare.statistics.bootstrap import PairedBootstrap
from ragkit_pipelines.compare.statistics.run_scores import MeanScores, SetScores
from ragkit_pipelines.compare.statistics.tests import mcnemar

BySeed = Mapping[int, Cell]


def mcnemar_pairs(size: int, found: Mapping[str, BySeed]) -> list[Pair]:
    """Run exact tests within each seed. Partial scores are skipped, because McNemar's test needs right or wrong."""
    pairs = []
    for seed in sorted({seed for seeds in found.values() for seed in seeds}):
        group = [(name, seeds[seed].scores) for name, seeds in found.items() if seed in seeds]
        for (a, scores_a), (b, scores_b) in combinations(group, 2):
            if set(scores_a) | set(scores_b) <= {0.0, 1.0}:
                only_a, only_b, p = mcnemar(scores_a, scores_b)
                pairs.append(Pair(a=a, b=b, size=size, seed=seed, only_a=only_a, only_b=only_b, p=p))
    return pairs


def all_differences(
    size: int,
    found: Mapping[str, BySeed],
    *,
    margin: float,
    draws: int,
    metric: SetMetric | None = None,
    test: Sequence[Example] = (),
) -> list[Difference]:
    """Compare all pairs; strategies that finished in the same seeds share one bootstrap.

    Args:
        size: The pool size.
        found: The cells by strategy and seed.
        margin: The margin of the equivalence tests; 0 for none.
        draws: Number of bootstrap samples.
        metric: The set-level metric that decides; None for means of the scores.
        test: The test rows, for a set-level metric.

    Returns:
        One difference for each pair with a common seed.
    """

    def bootstrap(names: Sequence[str], seeds: frozenset[int]) -> PairedBootstrap:
        cells = [[found[name][seed] for seed in sorted(seeds)] for name in names]
        return PairedBootstrap(run_scores(cells, metric, test), draws=draws)

    alike: dict[frozenset[int], list[str]] = defaultdict(list)
    for name, seeds in found.items():
        alike[frozenset(seeds)].append(name)
    whole = {seeds: bootstrap(names, seeds) for seeds, names in alike.items() if len(names) > 1}
    differences = []
    for a, b in combinations(found, 2):
        common = frozenset(found[a]) & frozenset(found[b])
        if not common:
            continue
        if set(found[a]) == set(found[b]):
            names, boot = alike[common], whole[common]
        else:
            names, boot = [a, b], bootstrap([a, b], common)
        differences.append(_difference(a, b, size, boot, names.index(a), names.index(b), margin))
    return differences


def run_scores(
    cells: Sequence[Sequence[Cell]], metric: SetMetric | None = None, test: Sequence[Example] = ()
) -> MeanScores | SetScores:
    """Return the scores of cells by strategy and seed as a function of the test rows."""
    if metric is None:
        return MeanScores(np.array([[cell.scores for cell in each] for each in cells]))
    return SetScores(metric, test, [[cell.answers for cell in each] for each in cells])


def _difference(
    a: str, b: str, size: int, boot: PairedBootstrap, place_a: int, place_b: int, margin: float
) -> Difference:
    found = Difference(a=a, b=b, size=size, **asdict(boot.difference(place_a, place_b)))
    if not margin:
        return found
    p_a, p_b = boot.not_worse(place_a, place_b, margin), boot.not_worse(place_b, place_a, margin)
    return found.model_copy(update={"p_a_not_worse": p_a, "p_b_not_worse": p_b, "p_equivalent": max(p_a, p_b)})
