"""From the cells of a comparison to its tests, its differences and its recommendation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations

import numpy as np

from ragkit_pipelines.compare.data_checks import DataReport
from ragkit_pipelines.compare.results import Cell, Difference, Pair, Recommendation, Results, Row
from ragkit_pipelines.compare.statistics.bootstrap import Interval, PairedBootstrap
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
    """Put cells together: rows, tests and differences between strategies, and a recommendation.

    Args:
        task: Name of the task.
        leaked: Test rows that were removed because they stand in the pool.
        cells: What the strategies gave, all on the same test rows.
        floor: Score of one and the same answer to everything.
        data: What is wrong with the data.
        label_price: US dollars for one labelled example.
        prices: What tokens are reckoned to cost.
        held: What was the same in all runs, of data, model and order.
        provenance: What the results came from.
        draws: Bootstrap draws.

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
                "at_floor": _at_floor(cell.row, floor),
                "label_cost": None if label_price is None else cell.row.labels * label_price,
            }
        )
        for cell in cells
    ]
    return Results(
        task=task,
        leaked_test_rows=leaked,
        floor=floor,
        data=data,
        prices=prices,
        rows=rows,
        pairs=pairs,
        differences=differences,
        recommendation=_within(recommend(rows, pairs, differences), held),
        provenance=dict(provenance or {}),
    )


def _within(chosen: Recommendation, held: Sequence[str]) -> Recommendation:
    """Say what the runs had in common, so that nobody takes the evidence for more than it is."""
    if not held:
        return chosen
    said = f"{chosen.evidence}; {' and '.join(held)} were the same in all runs, so this holds for these only"
    return chosen.model_copy(update={"evidence": said})


def _at_floor(row: Row, floor: float) -> bool:
    return row.error is None and row.low <= floor


def _pairs(size: int, found: Mapping[str, _BySeed]) -> list[Pair]:
    """Exact tests within each seed; none where scores are partial, which a test of right and wrong cannot judge."""
    pairs = []
    for seed in sorted({seed for seeds in found.values() for seed in seeds}):
        group = [(name, seeds[seed]) for name, seeds in found.items() if seed in seeds]
        for (a, scores_a), (b, scores_b) in combinations(group, 2):
            if set(scores_a) | set(scores_b) <= {0.0, 1.0}:
                only_a, only_b, p = mcnemar(scores_a, scores_b)
                pairs.append(Pair(a=a, b=b, size=size, seed=seed, only_a=only_a, only_b=only_b, p=p))
    return pairs


def _differences(size: int, found: Mapping[str, _BySeed], draws: int) -> list[Difference]:
    """All pairs; strategies that finished in the same seeds share one bootstrap."""
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
        differences.append(_difference(a, b, size, interval))
    return differences


def _bootstrap(
    found: Mapping[str, _BySeed], names: Sequence[str], seeds: frozenset[int], draws: int
) -> PairedBootstrap:
    return PairedBootstrap(np.array([[found[name][seed] for seed in sorted(seeds)] for name in names]), draws=draws)


def _difference(a: str, b: str, size: int, interval: Interval) -> Difference:
    return Difference(a=a, b=b, size=size, **asdict(interval))


def recommend(
    rows: Sequence[Row], pairs: Sequence[Pair], differences: Sequence[Difference] = (), *, level: float = 0.05
) -> Recommendation:
    """Name the best strategy at the largest pool, if it is shown to beat every other one.

    With one seed and answers that are right or wrong, the exact McNemar test decides; else the paired bootstrap over
    seeds and items. Tests of one seed are never pooled with those of another: items that one trained model answered
    are not independent evidence about training. Holm's correction goes over the rivals.

    Args:
        rows: All rows.
        pairs: Tests within a seed.
        differences: Differences over the seeds.
        level: A difference is shown where its corrected p-value is below.

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
    chosen = _best(by_strategy, size, pairs, differences, level)
    failed = _failures([row for row in rows if row.size >= size])
    return chosen.model_copy(update={"evidence": "; ".join([chosen.evidence, *failed])})


def _failures(rows: Sequence[Row]) -> list[str]:
    """Which strategies have no result, or not in all seeds: the evidence does not hold for what failed."""
    runs = Counter(row.strategy for row in rows)
    failed = Counter(row.strategy for row in rows if row.error is not None)
    return [
        f"{name} failed" + (f" in {count} of {runs[name]} seeds" if runs[name] > 1 else "")
        for name, count in failed.items()
    ]


def _best(
    by_strategy: Mapping[str, Sequence[Row]],
    size: int,
    pairs: Sequence[Pair],
    differences: Sequence[Difference],
    level: float,
) -> Recommendation:
    """Find the best of those that finished, and hold it against the floor and the others."""
    means = {name: sum(row.score for row in own) / len(own) for name, own in by_strategy.items()}
    best = max(means, key=means.__getitem__)
    rivals = [name for name in by_strategy if name != best]
    own = by_strategy[best]
    over = (
        "" if len(own) == 1 else f" in the mean of {len(own)} seeds, {min(row.score for row in own):.1%} in the worst"
    )
    right = all(row.correct == int(row.correct) for rows in by_strategy.values() for row in rows)
    scored = f"answered {means[best]:.1%} of {own[0].n} test rows right"
    if not right:  # a metric that gives parts of a score
        scored = f"scored {means[best]:.3f} in the mean of {own[0].n} test rows"
    said = f"{best} {scored}{over} from a pool of {size}"
    if not rivals:
        return Recommendation(strategy=None, evidence=f"{said}; nothing was compared with it")
    if all(row.at_floor for row in own):
        return Recommendation(
            strategy=None, evidence=f"{said}, which is not shown to be more than one and the same answer gives"
        )
    return _judged(
        best, rivals, size, said, pairs, differences, level, exact=len({row.seed for row in own}) == 1, rows=own[0].n
    )


def _judged(
    best: str,
    rivals: Sequence[str],
    size: int,
    said: str,
    pairs: Sequence[Pair],
    differences: Sequence[Difference],
    level: float,
    *,
    exact: bool,
    rows: int,
) -> Recommendation:
    """Hold the best against each of the others."""
    tests = {frozenset((p.a, p.b)): p.p for p in pairs if p.size == size} if exact else {}
    measured = {frozenset((d.a, d.b)): d for d in differences if d.size == size}
    exact = all(frozenset((best, rival)) in tests for rival in rivals)
    test = "exact McNemar" if exact else "paired bootstrap over seeds and items"
    p_values = []
    for rival in rivals:
        both = frozenset((best, rival))
        p_values.append(tests[both] if exact else measured[both].p if both in measured else 1.0)
    adjusted = dict(zip(rivals, holm(p_values), strict=True))
    equal = [name for name in rivals if adjusted[name] >= level]
    if equal:
        weakest = max((measured[pair].detectable for name in equal if (pair := frozenset((best, name))) in measured),
                      default=None)  # fmt: skip
        likely = "" if weakest is None else f"; differences of {weakest:.1%} and more would likely have been shown"
        if likely and len(rivals) > 1:
            likely += " by a single test"  # what Holm's correction takes depends on the other p-values
        if (exact and 2 * 0.5**rows >= level) or (weakest or 0) >= 1:
            likely = f"; with {rows} test rows hardly any difference could have been shown"
        return Recommendation(
            strategy=None,
            evidence=f"{said}; no difference shown to {', '.join(equal)} ({test}, Holm-corrected p >= {level}){likely}",
        )
    only = "; one seed, so this holds for these very runs, not for training or drawing again" if exact else ""
    return Recommendation(
        strategy=best,
        evidence=(
            f"{said}, more than each of {len(rivals)} others "
            f"({test}, Holm-corrected p <= {max(adjusted.values()):.2g}){only}"
        ),
    )
