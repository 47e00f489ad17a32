"""Compute the tests, the differences and the recommendation from the cells of a comparison."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from ragkit.metrics import SetMetric
from ragkit.records import Example
from ragkit_pipelines.compare.data_checks import DataReport
from ragkit_pipelines.compare.options import CompareOptions
from ragkit_pipelines.compare.results import Cell, Difference, Pair, Recommendation, Results, Row
from ragkit_pipelines.compare.statistics.best_tests import points, tests_of_best
from ragkit_pipelines.compare.statistics.differences import all_differences, mcnemar_pairs
from ragkit_pipelines.compare.statistics.set_metrics import metric_name, set_title
from ragkit_pipelines.compare.statistics.tests import minimum_detectable


def summarise(  # noqa: PLR0913 - everything that a comparison knows about its cells
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
    metric: SetMetric | None = None,
    test: Sequence[Example] = (),
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
        metric: The set-level metric that decides; None for means of the scores.
        test: The test rows, for a set-level metric.

    Returns:
        The results.
    """
    options = options or CompareOptions()
    price = options.label_price
    by_size: dict[int, dict[str, dict[int, Cell]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        if cell.row.error is None and cell.scores:
            by_size[cell.row.size][cell.row.strategy][cell.row.seed] = cell
    pairs: list[Pair] = []
    differences: list[Difference] = []
    for size, found in by_size.items():
        pairs += mcnemar_pairs(size, found) if metric is None else []  # McNemar's test compares accuracies
        differences += all_differences(
            size, found, margin=options.margin, draws=draws, metric=metric, test=test
        )  # fmt: skip
    rows = [
        cell.row.model_copy(
            update={
                "at_floor": floor is not None and cell.row.error is None and cell.row.low <= floor,
                "label_cost": None if price is None else cell.row.labels * price,
            }
        )
        for cell in cells
    ]
    name = metric_name(metric)
    recommendation = recommend(rows, pairs, differences, margin=options.margin, metric=name)
    if held:  # the evidence does not cover the variation of these seeds
        said = f"only one seed of {' and '.join(held)} was used, other seeds may give a different result"
        recommendation = recommendation.model_copy(update={"evidence": f"{recommendation.evidence}; {said}"})
    return Results(
        task=task,
        leaked_test_rows=leaked,
        floor=floor or 0.0,
        metric=name,
        data=data,
        prices=options.prices,
        rows=rows,
        pairs=pairs,
        differences=differences,
        recommendation=recommendation,
        provenance=dict(provenance or {}),
    )


def recommend(
    rows: Sequence[Row],
    pairs: Sequence[Pair],
    differences: Sequence[Difference] = (),
    *,
    level: float = 0.05,
    margin: float = 0.01,
    metric: str = "",
) -> Recommendation:
    """Recommend the cheapest strategy at the largest pool that is not shown to be worse than the best one.

    With one seed and answers that are right or wrong, the exact McNemar test decides, otherwise the paired bootstrap
    over seeds and items. Tests of several seeds are never pooled, because items that were answered by the same trained
    model are not independent evidence about training. Holm's correction is applied over the competitors. A strategy is
    shown to be worse if its corrected test is significant and its interval excludes differences within the margin. It
    is shown to be equivalent if two one-sided tests of the bootstrap exclude differences of the margin or more, also
    with Holm's correction.

    Args:
        rows: All rows.
        pairs: Tests within a seed.
        differences: Differences over the seeds.
        level: Significance level of the corrected p-values.
        margin: The difference of scores that does not matter, such as 0.01 for one point of accuracy.
        metric: Name of the set-level metric that the scores are; empty for means.

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
    said = [_described(best, means[best], by_strategy, metric)]
    against = {
        next(name for name in (each.a, each.b) if name != best): each
        for each in differences
        if each.size == size and best in {each.a, each.b}
    }
    tests = tests_of_best(best, by_strategy, pairs, against, level, margin)
    found = Recommendation(
        strategy=None, evidence="", best=best, margin=margin, significant=tests.significant, test=tests.test,
        corrected=dict(tests.corrected), equivalence=dict(tests.equivalence), detectable=tests.detectable,
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
            f"{chosen} ({_number(means[chosen], metric)}) is the cheapest that is not shown to be worse by more than "
            f"{points(margin)}, and takes {share} less {less} per prediction"
        )
        if needed is not None:
            said.append(f"about {needed:,} test rows would tell {chosen} and {best} apart")
    evidence = "; ".join([*said, *tests.evidence, *_failures(rows, size)])
    return found.model_copy(
        update={
            "strategy": chosen, "evidence": evidence, "saving": saving, "saved": saved, "rows_needed": needed,
            "equivalent": tests.equivalence[chosen] < level if chosen in tests.equivalence else None,
        }
    )  # fmt: skip


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


def _number(score: float, metric: str) -> str:
    """Format a score: as a percentage if it is a mean."""
    return f"{score:.3f}" if metric else f"{score:.1%}"


def _described(best: str, mean: float, by_strategy: Mapping[str, Sequence[Row]], metric: str) -> str:
    """Describe the score of the best strategy."""
    own = by_strategy[best]
    scored = f"answered {mean:.1%} of {own[0].n} test rows correctly"
    if metric:
        article = "an" if metric == "mcc" else "a"
        scored = f"had {article} {set_title(metric)} of {mean:.3f} on {own[0].n} test rows"
    elif any(row.correct != int(row.correct) for rows in by_strategy.values() for row in rows):  # partial scores
        scored = f"had a mean score of {mean:.3f} on {own[0].n} test rows"
    worst = min(row.score for row in own)
    over = "" if len(own) == 1 else f" (mean of {len(own)} seeds; worst seed {_number(worst, metric)})"
    pool = f" with a pool of {own[0].size} examples" if own[0].size else ""  # result files of other programs have none
    return f"{best} {scored}{over}{pool}"
