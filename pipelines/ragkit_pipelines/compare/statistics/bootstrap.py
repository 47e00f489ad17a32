"""Differences between strategies over several seeds: a paired bootstrap over items, and Student's t over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ragkit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

_POWER = 0.8  # probability with which a detectable difference is shown
_CHUNK = 300_000  # numbers drawn at once, which fit into the CPU cache


@dataclass(frozen=True)
class Interval:
    """An estimated difference of two mean scores, with its interval.

    Attributes:
        estimate: Mean score of the first minus that of the second, over seeds and items.
        low: Lower bound of the interval.
        high: Upper bound.
        p: Two-sided p-value of the hypothesis of no difference; at least 2 divided by the number of draws.
        standard_error: Standard error of the estimate, over items and seeds.
        detectable: Minimum detectable difference: such a comparison detects it with a probability of 80 % with one seed
            or many, and of about 65 % with two or three seeds, whose variance is poorly known.
        seeds: Number of seeds. With one seed, the interval describes the models of this seed, not retraining.
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

    Scores vary over seeds (data drawn, training, order) and over items. Items are resampled with replacement, jointly
    for all strategies and seeds, because a hard item is hard for all of them. There are few seeds, and resampling them
    gives intervals that are far too narrow. The seed level is therefore drawn from Student's t with seeds - 1 degrees
    of freedom, scaled by the standard error of the means of the seeds. The sum of both has a Behrens-Fisher
    distribution, which is conservative, because the noise of single answers is part of both levels. The item level is
    widened for few items, and smoothed by one pseudo-item (Agresti and Min, 2005), which gives an interval even to
    strategies that never differ. ``benchmarks/statistics`` measures the coverage.

    Args:
        scores: f64[strategies, seeds, items], each score from 0 to 1.
        draws: Number of bootstrap samples.
        seed: Seed of the samples.

    Raises:
        InvalidInputError: If the shape, a score or the number of draws is not valid.
    """

    def __init__(self, scores: ArrayLike, *, draws: int = 10_000, seed: int = 0) -> None:
        """Draw the samples, which all pairs share."""
        given = np.asarray(scores, dtype=np.float64)
        if given.ndim != 3 or 0 in given.shape:
            raise InvalidInputError(
                f"`scores` must be a non-empty array [strategies, seeds, items], got shape {given.shape}"
            )
        if not (np.isfinite(given).all() and given.min() >= 0 and given.max() <= 1):
            raise InvalidInputError("`scores` must be between 0 and 1")
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
            a: Index of the first.
            b: Index of the second.
            level: Confidence level of the interval.

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
        # Percentile interval: scores are bounded, and the tail towards the bound is the shorter one. The p-value
        # corresponds to the same interval.
        beyond = min(float(np.mean(error <= -estimate)), float(np.mean(error >= -estimate)))
        return Interval(
            estimate=estimate,
            low=max(-1.0, estimate + float(low)),
            high=min(1.0, estimate + float(high)),
            p=min(1.0, 2 * max(beyond, 1 / len(error))),
            standard_error=(seed_error**2 + item_error**2) ** 0.5,
            # Half the interval plus the 80 % quantile of the error of the estimate.
            detectable=min(1.0, float(max(-low, high) + likely)),
            seeds=self._seeds,
        )


def item_weights(rng: np.random.Generator, draws: int, items: int) -> Iterator[NDArray[np.float64]]:
    """Draw bootstrap weights in chunks, f64[rows, items], ``draws`` rows in total: item shares in each resample."""
    step = max(1, _CHUNK // items)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        places = rng.integers(0, items, (rows, items))
        places += (np.arange(rows) * items)[:, None]
        yield np.bincount(places.ravel(), minlength=rows * items).reshape(rows, items) / items


def student(draws: int, freedom: int) -> NDArray[np.float64]:
    """Return evenly spaced quantiles of Student's t, f64[draws]; they have heavy tails without sampling noise."""
    from scipy.stats import t

    return np.asarray(t.ppf((np.arange(draws) + 0.5) / draws, freedom), dtype=np.float64)


def _few_items(items: int) -> float:
    """Return the factor that widens a percentile interval for few items (Hesterberg, 2015)."""
    from scipy.stats import norm, t

    if items == 1:
        return 1.0
    return float((items / (items - 1)) ** 0.5 * t.ppf(0.975, items - 1) / norm.ppf(0.975))
