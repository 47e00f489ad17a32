"""Compute the tests, the differences and the recommendation from the cells of a comparison."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations

import numpy as np

from ragkit_pipelines.compare.data_checks import DataReport
from ragkit_pipelines.compare.results import Cell, Difference, Pair, Recommendation, Results, Row
from ragkit_pipelines.compare.statistics.bootstrap import PairedBootstrap
from ragkit_pipelines.compare.statistics.prices import PriceRange
from ragkit_pipelines.compare.statistics.tests import holm, mcnemar

_BySeed = Mapping[int, Sequence[float]]


def summarise(
    task: str,
    leaked: int,
    cells: Sequence[Cell],
    *,
    floor: float = 0.0,
    data: DataReport | None = None,
    label_price: float | None = None,
    prices: PriceRange | None = None,
    held: Sequence[str] = (),
    provenance: Mapping[str, str] | None = None,
    draws: int = 10_000,
) -> Results:
    """Summarise cells on the same test rows: rows, tests and differences between strategies, and a recommendation.

    ``floor`` is the score of the majority baseline, and ``held`` what had the same seed in all runs.

    Returns:
        The results.
    """
    by_size: dict[int, dict[str, dict[int, Sequence[float]]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        if cell.row.error is None and cell.scores:
            by_size[cell.row.size][cell.row.strategy][cell.row.seed] = cell.scores
    pairs = [pair for size, found in by_size.items() for pair in _pairs(size, found)]
    differences = [each for size, found in by_size.items() for each in _differences(size, found, draws)]
    rows = [
        cell.row.model_copy(
            update={
                "at_floor": cell.row.error is None and cell.row.low <= floor,
                "label_cost": None if label_price is None else cell.row.labels * label_price,
            }
        )
        for cell in cells
    ]
    recommendation = recommend(rows, pairs, differences)
    if held:  # the evidence does not cover the variation of these seeds
        said = f"only one seed of {' and '.join(held)} was used, other seeds may give a different result"
        recommendation = recommendation.model_copy(update={"evidence": f"{recommendation.evidence}; {said}"})
    return Results(
        task=task,
        leaked_test_rows=leaked,
        floor=floor,
        data=data,
        prices=prices,
        rows=rows,
        pairs=pairs,
        differences=differences,
        recommendation=recommendation,
        provenance=dict(provenance or {}),
    )


def _pairs(size: int, found: Mapping[str, _BySeed]) -> list[Pair]:
    """Run exact tests within each seed. Partial scores are skipped, because McNemar's test needs right or wrong."""
    pairs = []
    for seed in sorted({seed for seeds in found.values() for seed in seeds}):
        group = [(name, seeds[seed]) for name, seeds in found.items() if seed in seeds]
        for (a, scores_a), (b, scores_b) in combinations(group, 2):
            if set(scores_a) | set(scores_b) <= {0.0, 1.0}:
                only_a, only_b, p = mcnemar(scores_a, scores_b)
                pairs.append(Pair(a=a, b=b, size=size, seed=seed, only_a=only_a, only_b=only_b, p=p))
    return pairs


def _differences(size: int, found: Mapping[str, _BySeed], draws: int) -> list[Difference]:
    """Compare all pairs; strategies that finished in the same seeds share one bootstrap."""
    alike: dict[frozenset[int], list[str]] = defaultdict(list)
    for name, seeds in found.items():
        alike[frozenset(seeds)].append(name)
    whole = {seeds: _bootstrap(found, names, seeds, draws) for seeds, names in alike.items() if len(names) > 1}
    differences = []
    for a, b in combinations(found, 2):
        common = frozenset(found[a]) & frozenset(found[b])
        if not common:
            continue
        if set(found[a]) == set(found[b]):
            names = alike[common]
            interval = whole[common].difference(names.index(a), names.index(b))
        else:
            interval = _bootstrap(found, [a, b], common, draws).difference(0, 1)
        differences.append(Difference(a=a, b=b, size=size, **asdict(interval)))
    return differences


def _bootstrap(
    found: Mapping[str, _BySeed], names: Sequence[str], seeds: frozenset[int], draws: int
) -> PairedBootstrap:
    return PairedBootstrap(np.array([[found[name][seed] for seed in sorted(seeds)] for name in names]), draws=draws)


def recommend(
    rows: Sequence[Row], pairs: Sequence[Pair], differences: Sequence[Difference] = (), *, level: float = 0.05
) -> Recommendation:
    """Recommend the best strategy at the largest pool, if it is significantly better than every other strategy.

    With one seed and answers that are right or wrong, the exact McNemar test decides, otherwise the paired bootstrap
    over seeds and items. Tests of several seeds are never pooled, because items that were answered by the same trained
    model are not independent evidence about training. Holm's correction is applied over the competitors.

    Returns:
        The recommendation with its evidence.
    """
    sound = [row for row in rows if row.error is None]
    if not sound:
        return Recommendation(strategy=None, evidence="no strategy finished")
    size = max(row.size for row in sound)
    by_strategy: dict[str, list[Row]] = defaultdict(list)
    for row in sound:
        if row.size == size:
            by_strategy[row.strategy].append(row)
    means = {name: sum(row.score for row in own) / len(own) for name, own in by_strategy.items()}
    best = max(means, key=means.__getitem__)
    said = _described(best, means[best], by_strategy)
    if len(by_strategy) == 1:
        chosen, said = None, f"{said}; no other strategy was compared"
    elif all(row.at_floor for row in by_strategy[best]):
        chosen, said = None, f"{said}, which is not significantly better than the majority baseline"
    else:
        chosen, evidence = _tested(best, by_strategy, pairs, differences, level)
        said += evidence
    return Recommendation(strategy=chosen, evidence="; ".join([said, *_failures(rows, size)]))


def _failures(rows: Sequence[Row], size: int) -> list[str]:
    """List the strategies that failed, at least in some seeds, because the evidence does not cover them."""
    runs = Counter(row.strategy for row in rows if row.size >= size)
    failed = Counter(row.strategy for row in rows if row.size >= size and row.error is not None)
    return [
        f"{name} failed" + (f" in {count} of {runs[name]} seeds" if runs[name] > 1 else "")
        for name, count in failed.items()
    ]


def _described(best: str, mean: float, by_strategy: Mapping[str, Sequence[Row]]) -> str:
    """Describe the score of the best strategy."""
    own = by_strategy[best]
    scored = f"answered {mean:.1%} of {own[0].n} test rows correctly"
    if any(row.correct != int(row.correct) for rows in by_strategy.values() for row in rows):  # partial scores
        scored = f"had a mean score of {mean:.3f} on {own[0].n} test rows"
    worst = min(row.score for row in own)
    over = "" if len(own) == 1 else f" (mean of {len(own)} seeds; worst seed {worst:.1%})"
    return f"{best} {scored}{over} with a pool of {own[0].size} examples"


def _tested(
    best: str,
    by_strategy: Mapping[str, Sequence[Row]],
    pairs: Sequence[Pair],
    differences: Sequence[Difference],
    level: float,
) -> tuple[str | None, str]:
    """Test the best strategy against each of the others; return it if it wins all tests, and the evidence."""
    own = by_strategy[best]
    competitors = {name: frozenset((best, name)) for name in by_strategy if name != best}
    measured = {frozenset((each.a, each.b)): each for each in differences if each.size == own[0].size}
    tests = {frozenset((each.a, each.b)): each.p for each in pairs if each.size == own[0].size}
    exact = len({row.seed for row in own}) == 1 and tests.keys() >= set(competitors.values())
    if not exact:
        tests = {pair: each.p for pair, each in measured.items()}
    test = "exact McNemar test" if exact else "paired bootstrap over seeds and items"
    adjusted = holm([tests.get(pair, 1.0) for pair in competitors.values()])
    equal = [name for name, p in zip(competitors, adjusted, strict=True) if p >= level]
    if not equal:
        only = "; one seed: retraining or resampling may give a different result" if exact else ""
        others = "the other strategy" if len(competitors) == 1 else f"each of the {len(competitors)} other strategies"
        return best, f", significantly better than {others} ({test}, Holm-corrected p <= {max(adjusted):.2g}){only}"
    detectable = [measured[competitors[name]].detectable for name in equal if competitors[name] in measured]
    power = f"; minimum detectable difference: {100 * max(detectable):.1f} points" if detectable else ""
    if power and len(competitors) > 1:
        power += " in a single test"  # the effect of Holm's correction depends on the other p-values
    if (exact and 2 * 0.5 ** own[0].n >= level) or max(detectable, default=0.0) >= 1:
        power = f"; {own[0].n} test rows are too few to detect a difference"
    said = f"; not significantly better than {', '.join(equal)} ({test}, Holm-corrected p >= {level}){power}"
    return None, said
