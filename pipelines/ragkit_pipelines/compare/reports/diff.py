"""Differences between two comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.results import Results
from ragkit_pipelines.compare.statistics.bootstrap import PairedBootstrap
from ragkit_pipelines.compare.statistics.published import PublishedResult, judge_means


class Change(BaseModel):
    """One strategy at one size, before and after: mean scores over the seeds, None if it was not run or failed.

    ``compared`` is ``"paired"`` if test rows and seeds are the same, ``"unpaired"`` if only the means are comparable,
    ``"only before"`` or ``"only after"``; ``change`` has a 95 % interval.
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
    """Compare the comparisons in two folders: strategies and sizes in the order of the first, then of the second."""
    Results.load(before)
    Results.load(after)
    first, second = Items.load(before), Items.load(after)
    same = (first.inputs, first.expected) == (second.inputs, second.expected)
    old, new = first.scores(), second.scores()
    return [_change(key, old.get(key), new.get(key), same=same) for key in dict.fromkeys([*old, *new])]


def _change(
    key: tuple[str, int],
    old: Mapping[int, Sequence[float]] | None,
    new: Mapping[int, Sequence[float]] | None,
    *,
    same: bool,
) -> Change:
    strategy, size = key
    if old is None or new is None:
        return Change(
            strategy=strategy,
            size=size,
            before=None if old is None else _mean(old),
            after=None if new is None else _mean(new),
            compared="only after" if old is None else "only before",
        )
    seeds = sorted(set(old) & set(new))
    if same and seeds:
        scores = np.array([[given[seed] for seed in seeds] for given in (new, old)])
        found = PairedBootstrap(scores).difference(0, 1)
        gap, low, high, p = found.estimate, found.low, found.high, found.p
        old, new = ({seed: given[seed] for seed in seeds} for given in (old, new))
    else:
        judged = judge_means(_published(strategy, size, new), _published(strategy, size, old))
        gap, low, high, p = judged.difference, judged.low, judged.high, judged.p
    return Change(
        strategy=strategy,
        size=size,
        before=_mean(old),
        after=_mean(new),
        change=gap,
        low=low,
        high=high,
        p=p,
        compared="paired" if same and seeds else "unpaired",
    )


def _mean(scores: Mapping[int, Sequence[float]]) -> float:
    return float(np.mean([np.mean(each) for each in scores.values()]))


def _published(strategy: str, size: int, scores: Mapping[int, Sequence[float]]) -> PublishedResult:
    return PublishedResult("task", strategy, size, len(next(iter(scores.values()))), _mean(scores))
