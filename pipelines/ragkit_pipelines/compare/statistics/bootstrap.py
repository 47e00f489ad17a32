"""Differences between strategies over several seeds: a paired bootstrap of the items, Student's t for the seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ragkit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

_POWER = 0.8  # share of cases in which a difference that counts as detectable is shown
_CHUNK = 300_000  # numbers drawn at once; they stay in the cache


@dataclass(frozen=True)
class Interval:
    """What is known about a difference of two mean scores.

    Attributes:
        estimate: Mean score of the first minus that of the second, over seeds and items.
        low: Lower bound of the interval.
        high: Upper bound.
        p: Two-sided p-value of no difference; never below two in the number of draws.
        standard_error: Of the estimate; both levels together.
        detectable: The smallest true difference that such a comparison would likely show: in 80 of 100 cases with one
            seed or many, in about 65 with two or three, of which the spread is hardly known.
        seeds: Seeds it rests on. With one, the interval is about the models of that seed, not about training again.
    """

    estimate: float
    low: float
    high: float
    p: float
    standard_error: float
    detectable: float
    seeds: int


class PairedBootstrap:
    """Intervals of the differences between strategies that answered the same items in the same seeds.

    Two levels vary: the seeds (data drawn, training, order) and the items. Items are drawn with replacement, the
    same ones for every strategy and seed, because an item that is hard stays hard. Seeds are few: drawing among them
    gives intervals that are far too narrow. So the seed level is drawn from Student's t with seeds - 1 degrees of
    freedom, scaled by the standard error of the means of the seeds. The sum of both is the distribution of Behrens
    and Fisher, which errs on the wide side: noise of single answers is in both. The item level is widened for few
    items likewise, and smoothed by one item of doubt, as Agresti and Min (2005) do, so that strategies which never
    differ still get an interval. ``benchmarks/statistics`` has the coverage.

    Args:
        scores: f64[strategies, seeds, items], each score from 0 to 1.
        draws: Bootstrap draws.
        seed: Seed of the draws.

    Raises:
        InvalidInputError: If the shape, a score or the number of draws makes no sense.
    """

    def __init__(self, scores: ArrayLike, *, draws: int = 10_000, seed: int = 0) -> None:
        """Draw; all pairs share the draws."""
        given = np.asarray(scores, dtype=np.float64)
        if given.ndim != 3 or 0 in given.shape:
            raise InvalidInputError(f"`scores` must be [strategies, seeds, items], none empty; got shape {given.shape}")
        if not (np.isfinite(given).all() and given.min() >= 0 and given.max() <= 1):
            raise InvalidInputError("`scores` must lie between 0 and 1")
        if draws < 100:
            raise InvalidInputError(f"`draws` must be 100 or more, got {draws}")
        rng = np.random.default_rng(seed)
        _, self._seeds, self._items = given.shape
        self._by_item: NDArray[np.float64] = given.mean(axis=1)
        self._by_seed: NDArray[np.float64] = given.mean(axis=2)
        means = self._by_item.mean(axis=1)
        drawn = [weights @ self._by_item.T for weights in item_weights(rng, draws, self._items)]
        self._drawn: NDArray[np.float64] = np.concatenate(drawn) - means
        self._widen = _few_items(self._items)
        self._doubt = rng.standard_normal(draws) / self._items
        self._t = rng.permutation(student(draws, self._seeds - 1)) if self._seeds > 1 else np.zeros(draws)

    def difference(self, a: int, b: int, *, level: float = 0.95) -> Interval:
        """Compare two of the strategies.

        Args:
            a: Position of the first.
            b: Position of the second.
            level: Share of cases in which the interval is to hold the true difference.

        Returns:
            The difference ``a - b`` with its interval.
        """
        estimate = float((self._by_item[a] - self._by_item[b]).mean())
        of_seeds = self._by_seed[a] - self._by_seed[b]
        of_items = self._by_item[a] - self._by_item[b]
        seed_error = float(of_seeds.std(ddof=1)) / self._seeds**0.5 if self._seeds > 1 else 0.0
        item_error = ((float(of_items.var()) + 1 / self._items) / max(1, self._items - 1)) ** 0.5
        error = (self._drawn[:, a] - self._drawn[:, b]) * self._widen + self._doubt + seed_error * self._t
        low, high, likely = np.quantile(error, [(1 - level) / 2, (1 + level) / 2, _POWER])
        # The error is put on either side of the estimate as it fell (the percentile interval): scores are bounded,
        # and the tail towards the bound is the short one. The p-value is that of the same interval.
        beyond = min(float(np.mean(error <= -estimate)), float(np.mean(error >= -estimate)))
        return Interval(
            estimate=estimate,
            low=max(-1.0, estimate + float(low)),
            high=min(1.0, estimate + float(high)),
            p=min(1.0, 2 * max(beyond, 1 / len(error))),
            standard_error=(seed_error**2 + item_error**2) ** 0.5,
            # Half the interval, and once more what the estimate may fall short by: with few seeds both are wide.
            detectable=min(1.0, float(max(-low, high) + likely)),
            seeds=self._seeds,
        )


def item_weights(rng: np.random.Generator, draws: int, items: int) -> Iterator[NDArray[np.float64]]:
    """How often each item is drawn, as a share of all.

    Args:
        rng: Where chance comes from.
        draws: Number of draws.
        items: Number of items; each draw takes as many, with replacement.

    Yields:
        f64[some draws, items], in all ``draws`` rows.
    """
    step = max(1, _CHUNK // items)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        places = rng.integers(0, items, (rows, items))
        places += (np.arange(rows) * items)[:, None]
        yield np.bincount(places.ravel(), minlength=rows * items).reshape(rows, items) / items


def student(draws: int, freedom: int) -> NDArray[np.float64]:
    """Quantiles of Student's t in even steps: heavy tails without the luck of the draw.

    Args:
        draws: Number of quantiles.
        freedom: Degrees of freedom.

    Returns:
        f64[draws], rising.
    """
    from scipy.stats import t

    return np.asarray(t.ppf((np.arange(draws) + 0.5) / draws, freedom), dtype=np.float64)


def _few_items(items: int) -> float:
    """What a percentile interval must be widened by for few items (Hesterberg, 2015)."""
    from scipy.stats import norm, t

    if items == 1:
        return 1.0
    return float((items / (items - 1)) ** 0.5 * t.ppf(0.975, items - 1) / norm.ppf(0.975))
