"""Differences between strategies over several seeds: a paired bootstrap over items, and Student's t over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare.statistics.run_scores import MeanScores, RunScores, SetScores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

_POWER = 0.8  # probability with which a detectable difference is shown
_CHUNK = 300_000  # numbers drawn at once, which fit into the CPU cache


@dataclass(frozen=True)
class Interval:
    """An estimated difference of two scores, with its interval.

    Attributes:
        estimate: Score of the first minus that of the second; both are means over the seeds.
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

    A set-level metric such as macro-F1 is recomputed for every resample of the items. The errors of the resamples are
    measured from their mean, because a resample is biased like the score itself, and a pseudo-item weighs as much as
    one wrong answer in a perfect run.

    Args:
        scores: f64[strategies, seeds, items], each score from 0 to 1, or `SetScores` for a set-level metric.
        draws: Number of bootstrap samples.
        seed: Seed of the samples.

    Raises:
        InvalidInputError: If the shape, a score or the number of draws is not valid.
    """

    def __init__(self, scores: ArrayLike | MeanScores | SetScores, *, draws: int = 10_000, seed: int = 0) -> None:
        """Draw the samples, which all pairs share."""
        given: RunScores = scores if isinstance(scores, MeanScores | SetScores) else MeanScores(scores)
        if draws < 100:
            raise InvalidInputError(f"`draws` must be 100 or more, got {draws}")
        rng = np.random.default_rng(seed)
        self._given = given
        _, self._seeds, items = given.shape
        drawn = np.concatenate([given.resampled(weights) for weights in item_weights(rng, draws, items)])
        self._drawn: NDArray[np.float64] = drawn - given.centre(drawn)
        self._widen = _few_items(items)
        self._doubt = rng.standard_normal(draws) * given.one_item
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
        estimate, span = self._estimate(a, b), self._given.span
        error = self._errors(a, b)
        low, high, likely = np.quantile(error, [(1 - level) / 2, (1 + level) / 2, _POWER])
        # Percentile interval: scores are bounded, and the tail towards the bound is the shorter one. The p-value
        # corresponds to the same interval.
        beyond = min(float(np.mean(error <= -estimate)), float(np.mean(error >= -estimate)))
        variance = self._seed_error(a, b) ** 2 + self._given.item_variance(a, b, self._drawn)
        return Interval(
            estimate=estimate,
            low=max(-span, estimate + float(low)),
            high=min(span, estimate + float(high)),
            p=min(1.0, 2 * max(beyond, 1 / len(error))),
            standard_error=variance**0.5,
            # Half the interval plus the 80 % quantile of the error of the estimate.
            detectable=min(span, float(max(-low, high) + likely)),
            seeds=self._seeds,
        )

    def not_worse(self, a: int, b: int, margin: float) -> float:
        """Test that one strategy is not worse than another one by more than a margin (non-inferiority).

        The test is that of the one-sided interval: at the level of 5 %, it rejects if the lower bound of the one-sided
        95 % interval of ``a - b`` is above ``-margin``. Two strategies are equivalent within the margin if neither is
        worse by more, so the p-value of equivalence is the larger one of both directions (TOST; Schuirmann, 1987).

        Args:
            a: Index of the strategy.
            b: Index of the one that it is compared with.
            margin: The difference of the scores that does not matter, above 0.

        Returns:
            One-sided p-value of the hypothesis that ``a`` is worse than ``b`` by the margin or more; at least 1 divided
            by the number of draws.

        Raises:
            InvalidInputError: If the margin is not above 0.
        """
        if not margin > 0:
            raise InvalidInputError(f"`margin` must be above 0, got {margin}; without a margin, nothing is equivalent")
        error = self._errors(a, b)
        return max(float(np.mean(error <= -margin - self._estimate(a, b))), 1 / len(error))

    def _estimate(self, a: int, b: int) -> float:
        return float((self._given.by_seed[a] - self._given.by_seed[b]).mean())

    def _seed_error(self, a: int, b: int) -> float:
        of_seeds = self._given.by_seed[a] - self._given.by_seed[b]
        return float(of_seeds.std(ddof=1)) / self._seeds**0.5 if self._seeds > 1 else 0.0

    def _errors(self, a: int, b: int) -> NDArray[np.float64]:
        """Return resampled errors of the difference, f64[draws]."""
        of_items = (self._drawn[:, a] - self._drawn[:, b]) * self._widen + self._doubt
        return np.asarray(of_items + self._seed_error(a, b) * self._t, dtype=np.float64)


def score_interval(scores: RunScores, *, draws: int = 2000, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Return the bootstrap interval of the score of a single run over its items."""
    rng = np.random.default_rng(seed)
    items = scores.shape[2]
    drawn = np.concatenate([scores.resampled(weights) for weights in item_weights(rng, draws, items)])
    error = (drawn - scores.centre(drawn))[:, 0] * _few_items(items) + rng.standard_normal(draws) * scores.one_item
    estimate = float(scores.by_seed[0, 0])
    low, high = np.quantile(error, [(1 - level) / 2, (1 + level) / 2])
    return max(1.0 - scores.span, estimate + float(low)), min(1.0, estimate + float(high))


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
