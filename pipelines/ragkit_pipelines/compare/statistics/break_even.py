"""Volumes from which a trained strategy is cheaper than a prompted one, from their usage in a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import TYPE_CHECKING

from ragkit.records import Usage
from ragkit_pipelines.compare.statistics.costs import VolumeRange, break_even, range_of
from ragkit_pipelines.compare.strategies.base import mean_known

if TYPE_CHECKING:
    from ragkit.models._prices import Price
    from ragkit_pipelines.compare.results import Row
    from ragkit_pipelines.compare.statistics.prices import PriceRange

LEAST_PREFIX = 1024  # shortest prefix that providers cache, in tokens


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Number of predictions from which a trained strategy is cheaper than a prompted one; None if costs are unknown.

    In money and in FLOPs (``operations``), also for the case that the common prefix of all prompts is cached.
    """

    tuned: str
    prompted: str
    money: VolumeRange | None
    money_cached: VolumeRange | None
    operations: VolumeRange | None
    operations_cached: VolumeRange | None


def break_even_of(tuned: Sequence[Row], prompted: Sequence[Row], prices: PriceRange | None) -> BreakEven:
    """Compute break-even volumes from the usage of two strategies at one pool size, from their rows of all seeds.

    The upfront cost of a strategy consists of labels, training, and the calls that tried settings, which are priced
    like predictions.

    Returns:
        The volumes.
    """
    money, cached = (
        None if prices is None else _money(tuned, prompted, prices, prompt_cache=prompt_cache)
        for prompt_cache in (False, True)
    )
    return BreakEven(
        tuned=tuned[0].strategy,
        prompted=prompted[0].strategy,
        money=money,
        money_cached=cached,
        operations=_operations(tuned, prompted, "flops"),
        operations_cached=_operations(tuned, prompted, "cached_flops"),
    )


def _money(tuned: Sequence[Row], prompted: Sequence[Row], prices: PriceRange, *, prompt_cache: bool) -> VolumeRange:
    found = []
    for base, own, hosting in product(prices.base, prices.tuned or prices.base, prices.hosting):
        each_before = fmean([_answer(row, base, prompt_cache=prompt_cache) for row in prompted])
        each_after = fmean([_answer(row, own, prompt_cache=prompt_cache) for row in tuned])
        before = fmean([_upfront(row, base) for row in prompted])
        after = fmean([_upfront(row, own) for row in tuned]) + hosting
        found.append(break_even(after - before, each_before, each_after))
    return range_of(found)


def _answer(row: Row, price: Price, *, prompt_cache: bool) -> float:
    """US dollars per prediction."""
    cached = row.shared_tokens * row.n if prompt_cache and row.shared_tokens >= LEAST_PREFIX else 0
    usage = Usage(
        prompt_tokens=row.prompt_tokens,
        cached_tokens=min(cached, row.prompt_tokens),
        completion_tokens=row.completion_tokens,
    )
    return price.cost(usage) / row.n


def _upfront(row: Row, price: Price) -> float:
    """US dollars before the first prediction."""
    asked = row.prompt_tokens + row.completion_tokens
    tried = row.fit_tokens - row.trained_tokens
    calls = _answer(row, price, prompt_cache=False) * row.n * tried / asked if asked else 0.0
    return calls + row.trained_tokens * (price.training or 0.0) / 1e6 + (row.label_cost or 0.0)


def _operations(tuned: Sequence[Row], prompted: Sequence[Row], field: str) -> VolumeRange | None:
    fits, each = [], []
    for rows in (prompted, tuned):
        fit = mean_known([row.fit_flops for row in rows])
        one = mean_known([None if getattr(row, field) is None else getattr(row, field) / row.n for row in rows])
        if fit is None or one is None:
            return None
        fits.append(fit)
        each.append(one)
    return range_of([break_even(fits[1] - fits[0], *each)])
