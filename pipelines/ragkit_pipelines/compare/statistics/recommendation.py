"""Compute the tests, the differences and the recommendation from the cells of a comparison."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from ragkit_pipelines.compare.data_checks import DataReport
from ragkit_pipelines.compare.options import CompareOptions
from ragkit_pipelines.compare.results import Cell, Difference, Pair, Recommendation, Results, Row
from ragkit_pipelines.compare.statistics.bootstrap import PairedBootstrap
from ragkit_pipelines.compare.statistics.tests import holm, mcnemar, minimum_detectable

_BySeed = Mapping[int, Sequence[float]]


def summarise(
    task: str,
    leaked: int,
    cells: Sequence[Cell],
    *,
    floor: float | None = 0.0,
    data: DataReport | None = None,
    options: CompareOptions | None = None,
    held: Sequence[str] = (),
    provenance: Mapping[str, str] | None = None,
    draws: int = 10_000,
) -> Results:
    """Summarise cells on the same test rows: rows, tests and differences between strategies, and a recommendation.

    Args:
        task: Name of the task.
        leaked: Number of test rows that were excluded because they also appear in the pool.
        cells: The results of the strategies, all on the same test rows.
        floor: Score of the majority baseline; None if it is unknown.
        data: Problems found in the data.
        options: The price of a label, the prices of tokens and the margin; the defaults if None.
        held: Which of data, model and order had the same seed in all runs.
        provenance: Versions, hashes and settings of the run.
        draws: Number of bootstrap samples.

    Returns:
        The results.
    """
    options = options or CompareOptions()
    price = options.label_price
    by_size: dict[int, dict[str, dict[int, Sequence[float]]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        if cell.row.error is None and cell.scores:
            by_size[cell.row.size][cell.row.strategy][cell.row.seed] = cell.scores
    pairs = [pair for size, found in by_size.items() for pair in _pairs(size, found)]
    differences = [each for size, found in by_size.items() for each in _differences(size, found, draws)]
    rows = [
        cell.row.model_copy(
            update={
                "at_floor": floor is not None and cell.row.error is None and cell.row.low <= floor,
                "label_cost": None if price is None else cell.row.labels * price,
            }
        )
        for cell in cells
    ]
    recommendation = recommend(rows, pairs, differences, margin=options.margin)
    if held:  # the evidence does not cover the variation of these seeds
        said = f"only one seed of {' and '.join(held)} was used, other seeds may give a different result"
        recommendation = recommendation.model_copy(update={"evidence": f"{recommendation.evidence}; {said}"})
    return Results(
        task=task,
        leaked_test_rows=leaked,
        floor=floor or 0.0,
        data=data,
        prices=options.prices,
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
    rows: Sequence[Row],
    pairs: Sequence[Pair],
    differences: Sequence[Difference] = (),
    *,
    level: float = 0.05,
    margin: float = 0.01,
) -> Recommendation:
    """Recommend the cheapest strategy at the largest pool that is not shown to be worse than the best one.

    With one seed and answers that are right or wrong, the exact McNemar test decides, otherwise the paired bootstrap
    over seeds and items. Tests of several seeds are never pooled, because items that were answered by the same trained
    model are not independent evidence about training. Holm's correction is applied over the competitors. A strategy is
    shown to be worse if its corrected test is significant and its interval excludes differences within the margin.

    Args:
        rows: All rows.
        pairs: Tests within a seed.
        differences: Differences over the seeds.
        level: Significance level of the corrected p-values.
        margin: The difference of mean scores that does not matter, such as 0.01 for one point of accuracy.

    Returns:
        The recommendation with its evidence.
    """
    sound = [row for row in rows if row.error is None]
    if not sound:
        return Recommendation(strategy=None, evidence="no strategy finished", margin=margin)
    size = max(row.size for row in sound)
    by_strategy: dict[str, list[Row]] = defaultdict(list)
    for row in sound:
        if row.size == size:
            by_strategy[row.strategy].append(row)
    means = {name: sum(row.score for row in own) / len(own) for name, own in by_strategy.items()}
    best = max(means, key=means.__getitem__)
    said = [_described(best, means[best], by_strategy)]
    against = {
        next(name for name in (each.a, each.b) if name != best): each
        for each in differences
        if each.size == size and best in {each.a, each.b}
    }
    tests = _tested(best, by_strategy, pairs, against, level, margin)
    found = Recommendation(
        strategy=None, evidence="", best=best, margin=margin, significant=tests.significant, test=tests.test,
        corrected=dict(tests.corrected), detectable=tests.detectable,
    )  # fmt: skip
    if all(row.at_floor for row in by_strategy[best]):
        same = "the majority baseline" if best == "majority" else "not significantly better than the majority baseline"
        said[0] += f", which is {same}"
        evidence = "; ".join([*said, *_failures(rows, size)])
        return found.model_copy(update={"evidence": evidence, "significant": False, "detectable": None})
    usable = [
        name for name, own in by_strategy.items() if name not in tests.worse and not all(row.at_floor for row in own)
    ]
    prices, saved = _prices(by_strategy)
    chosen = min(usable, key=lambda name: (prices[name], -means[name]))
    saving = 1 - prices[chosen] / prices[best] if prices[best] else 0.0
    needed = None if chosen == best else _rows_needed(against.get(chosen), by_strategy[best][0].n)
    if chosen != best:
        less = "money" if saved == "cost" else "time"
        share = f"{saving:.0%}" if saving < 0.99 else "over 99%"
        said.append(
            f"{chosen} ({means[chosen]:.1%}) is the cheapest that is not shown to be worse by more than "
            f"{100 * margin:g} point{'' if margin == 0.01 else 's'}, and takes {share} less {less} per prediction"
        )
        if needed is not None:
            said.append(f"about {needed:,} test rows would tell {chosen} and {best} apart")
    evidence = "; ".join([*said, *tests.evidence, *_failures(rows, size)])
    return found.model_copy(
        update={"strategy": chosen, "evidence": evidence, "saving": saving, "saved": saved, "rows_needed": needed}
    )


def _prices(by_strategy: Mapping[str, Sequence[Row]]) -> tuple[dict[str, float], Literal["cost", "seconds"]]:
    """Return what predictions take: money if all costs are known and some are not 0, else seconds."""
    costs = {name: [row.cost for row in own] for name, own in by_strategy.items()}
    known = {name: [cost for cost in own if cost is not None] for name, own in costs.items()}
    if known == costs and any(map(any, known.values())):
        return {name: sum(own) / len(own) for name, own in known.items()}, "cost"
    return {name: sum(row.seconds for row in own) / len(own) for name, own in by_strategy.items()}, "seconds"


def _rows_needed(difference: Difference | None, rows: int, *, most: int = 10**6) -> int | None:
    """Return the test rows with which the observed difference would be significant with a probability of 80 %."""
    if difference is None or not difference.estimate:
        return None
    ratio = minimum_detectable(difference.standard_error) / abs(difference.estimate)
    needed = float(f"{rows * ratio**2:.2g}")  # the observed difference is too uncertain for more digits
    return int(needed) if rows < needed <= most else None


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
    pool = f" with a pool of {own[0].size} examples" if own[0].size else ""  # result files of other programs have none
    return f"{best} {scored}{over}{pool}"


class _Tests(NamedTuple):
    """The tests of the best strategy against the others.

    ``worse`` are the strategies shown to be worse by more than the margin; the rest is as in `Recommendation`.
    """

    worse: list[str]
    evidence: list[str]
    test: str
    corrected: Mapping[str, float]
    detectable: float | None = None
    significant: bool = False


def _tested(
    best: str,
    by_strategy: Mapping[str, Sequence[Row]],
    pairs: Sequence[Pair],
    against: Mapping[str, Difference],
    level: float,
    margin: float,
) -> _Tests:
    """Test the best strategy against the others."""
    own, others = by_strategy[best], [name for name in by_strategy if name != best]
    if not others:
        return _Tests([], ["no other strategy was compared"], "", {})
    within = {frozenset((each.a, each.b)): each.p for each in pairs if each.size == own[0].size}
    exact = len({row.seed for row in own}) == 1 and all(frozenset((best, name)) in within for name in others)
    p_values = [
        within[frozenset((best, name))] if exact else against[name].p if name in against else 1.0 for name in others
    ]
    test = "exact McNemar test" if exact else "paired bootstrap over seeds and items"
    adjusted = dict(zip(others, holm(p_values), strict=True))
    equal = [name for name, p in adjusted.items() if p >= level]
    lost = [name for name in others if name not in equal]
    worse = [name for name in lost if name not in against or _exceeds(against[name], best, margin)]
    if not equal:
        only = "; one seed: retraining or resampling may give a different result" if exact else ""
        who = "the other strategy" if len(others) == 1 else f"each of the {len(others)} other strategies"
        p = f"Holm-corrected p <= {max(adjusted.values()):.2g}"
        said = [f"{best} is significantly better than {who} ({test}, {p}){only}"]
        return _Tests(worse, said, test, adjusted, significant=True)
    p = f"Holm-corrected p >= {min(adjusted[name] for name in equal):.2g}"
    said = [f"{best} is not significantly better than {', '.join(equal)} ({test}, {p})"]
    detectable = max((against[name].detectable for name in equal if name in against), default=1.0)
    if detectable == 1:
        return _Tests(worse, said, test, adjusted)
    single = " in a single test" if len(others) > 1 else ""  # Holm's effect depends on the other p-values
    said.append(f"minimum detectable difference: {100 * detectable:.1f} points{single}")
    return _Tests(worse, said, test, adjusted, detectable)


def _exceeds(difference: Difference, best: str, margin: float) -> bool:
    """Whether the interval of the best strategy's lead excludes leads within the margin."""
    return (difference.low if difference.a == best else -difference.high) > margin
