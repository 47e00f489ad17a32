"""Differences between two comparisons."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.results import Results
from ragkit_pipelines.compare.statistics.bootstrap import PairedBootstrap
from ragkit_pipelines.compare.statistics.item_scores import item_scores
from ragkit_pipelines.compare.statistics.published import PublishedResult, judge_means
from ragkit_pipelines.compare.statistics.set_metrics import stored_metric


class Change(BaseModel):
    """One strategy at one size, before and after: mean scores over the seeds, None if it was not run or failed.

    ``compared`` is ``"paired"`` if test rows and seeds are the same, ``"unpaired"`` if only the means are comparable,
    ``"only before"`` or ``"only after"``; ``change`` has a 95 % interval, except for unpaired set-level metrics.
    """

    model_config = ConfigDict(extra="forbid")

    strategy: str
    size: int
    before: float | None
    after: float | None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    compared: str


def changes(before: str | Path, after: str | Path) -> list[Change]:
    """Compare the comparisons in two folders: strategies and sizes in the order of the first, then of the second.

    Returns:
        One change per strategy and size.

    Raises:
        DataFileError: If a folder has no readable results.
        InvalidInputError: If the comparisons were decided by different metrics.
    """
    results = [Results.load(before), Results.load(after)]
    first, second = Items.load(before), Items.load(after)
    if results[0].metric != results[1].metric:
        named = [each.metric or "a mean of the scores of the rows" for each in results]
        raise InvalidInputError(
            f"the comparisons were decided by different metrics, {named[0]} and {named[1]}, whose scores cannot be "
            "compared; rerun one of them with the metric of the other"
        )
    same = (first.inputs, first.expected) == (second.inputs, second.expected)
    keys = dict.fromkeys((each.strategy, each.size) for items in (first, second) for each in items.answers)
    return [_change(key, first, second, same=same, metric=results[0].metric) for key in keys]


def _change(key: tuple[str, int], first: Items, second: Items, *, same: bool, metric: str) -> Change:
    strategy, size = key
    old, new = (_only(each, strategy, size) for each in (first, second))
    scores = [_score(each, metric) if each.answers else None for each in (old, new)]
    if scores[0] is None or scores[1] is None:
        compared = "only after" if scores[0] is None else "only before"
        return Change(strategy=strategy, size=size, before=scores[0], after=scores[1], compared=compared)
    seeds = {each.seed for each in old.answers} & {each.seed for each in new.answers}
    change: dict[str, float] = {"change": scores[1] - scores[0]}
    if same and seeds:
        old, new = (_named(each, name, seeds) for each, name in ((old, "old"), (new, "new")))
        both = old.model_copy(update={"answers": [*new.answers, *old.answers]})
        found = PairedBootstrap(item_scores(both, [("new", size), ("old", size)], stored_metric(metric)))
        gap = found.difference(0, 1)
        scores = [_score(each, metric) for each in (old, new)]
        change = {"change": gap.estimate, "low": gap.low, "high": gap.high, "p": gap.p}
    elif not metric:
        judged = judge_means(*(_published(strategy, size, each) for each in (new, old)))
        change = {"change": judged.difference, "low": judged.low, "high": judged.high, "p": judged.p}
    return Change(
        strategy=strategy, size=size, before=scores[0], after=scores[1], **change,
        compared="paired" if same and seeds else "unpaired",
    )  # fmt: skip


def _only(items: Items, strategy: str, size: int) -> Items:
    return items.model_copy(
        update={"answers": [each for each in items.answers if (each.strategy, each.size) == (strategy, size)]}
    )


def _named(items: Items, name: str, seeds: set[int]) -> Items:
    """Return the answers of some seeds, under another name."""
    chosen = [each.model_copy(update={"strategy": name}) for each in items.answers if each.seed in seeds]
    return items.model_copy(update={"answers": chosen})


def _score(items: Items, metric: str) -> float:
    first = items.answers[0]
    return float(item_scores(items, [(first.strategy, first.size)], stored_metric(metric)).by_seed.mean())


def _published(strategy: str, size: int, items: Items) -> PublishedResult:
    return PublishedResult("task", strategy, size, len(items.expected), _score(items, ""))
