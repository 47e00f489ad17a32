"""Learning curves: how many more examples a strategy would need, by extrapolating a power law."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.statistics.bootstrap import item_weights, student
from ragkit_pipelines.compare.statistics.run_scores import MeanScores, RunScores

# Predictions beyond this many times the largest pool are not reported.
FARTHEST = 10


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """Examples needed to reach a score.

    Attributes:
        target: The score.
        size: Number of examples at which the fitted curve reaches the score; infinite if it never does.
        low: Lower bound of the 95 % interval.
        high: Upper bound; infinite if the curve may never reach the score.
        exponent: Exponent of the power law by which the error falls with the size.
        missed_by: Error at the largest pool of a curve that was fitted without it (predicted minus measured score),
            which shows whether a power law fits. None with three sizes.
        largest: Size of the largest pool.
    """

    target: float
    size: float
    low: float
    high: float
    exponent: float
    missed_by: float | None
    largest: int

    def __str__(self) -> str:
        limit = FARTHEST * self.largest
        if self.size > limit:
            low = f"; at least {self.low:,.0f}" if self.low <= limit else ""
            return f"more than {limit:,} examples ({FARTHEST} times the pool) for a score of {self.target:.3f}{low}"
        high = f"more than {limit:,}" if self.high > limit else f"{self.high:,.0f}"
        return f"{self.size:,.0f} examples [{self.low:,.0f}, {high}] for a score of {self.target:.3f}"


def extrapolate(
    scores: Mapping[int, Mapping[int, Sequence[float]]], target: float, *, draws: int = 2000, seed: int = 0
) -> Extrapolation:
    """Fit a power law to the errors of one strategy (Hestness et al., 2017), and compute where it reaches a score.

    The model of the error is ``c * size ** -exponent``. The interval covers the random variation of items and seeds,
    but not the uncertainty about this model: curves flatten if labels are noisy. ``missed_by`` shows how well it fits.

    Args:
        scores: The scores of the items by pool size and seed; all sizes must have the same items and seeds.
        target: The score to reach, such as that of another strategy; below 1.
        draws: Number of bootstrap samples.
        seed: Seed of the samples.

    Returns:
        The extrapolation.

    Raises:
        InvalidInputError: If there are fewer than three sizes, seeds or items differ, or the target is not valid.
    """
    sizes = sorted(scores)
    _check(sizes, target)
    seeds = sorted(scores[sizes[0]])
    if any(sorted(scores[size]) != seeds for size in sizes):
        raise InvalidInputError("all pool sizes must have the same seeds")
    try:
        given = np.array([[scores[size][each] for each in seeds] for size in sizes], dtype=np.float64)
    except ValueError as error:
        raise InvalidInputError("all sizes and seeds must have scores of the same items") from error
    return extrapolate_runs(sizes, MeanScores(given), target, draws=draws, seed=seed)


def extrapolate_runs(
    sizes: Sequence[int], runs: RunScores, target: float, *, draws: int = 2000, seed: int = 0
) -> Extrapolation:
    """Extrapolate as `extrapolate` does, from the scores of one strategy at each size, also by a set-level metric."""
    _check(sizes, target)
    logs, items = np.log(np.array(sizes, dtype=np.float64)), runs.shape[2]
    measured = runs.by_seed.mean(axis=1)
    means = _log_errors(measured[None, :], items)
    slope, start = np.polyfit(logs, means.T, 1)
    drawn_slope, drawn_start = np.polyfit(logs, _log_errors(drawn_scores(runs, draws, seed), items).T, 1)
    low, high = np.quantile(_reach(drawn_slope, drawn_start, target), [0.025, 0.975], method="nearest")
    missed = None
    if len(sizes) > 3:
        short_slope, short_start = np.polyfit(logs[:-1], means[:, :-1].T, 1)
        predicted = 1 - float(np.exp(short_start + short_slope * logs[-1])[0])
        missed = predicted - float(measured[-1])
    return Extrapolation(
        target=target,
        size=float(_reach(slope, start, target)[0]),
        low=float(low),
        high=float(high),
        exponent=-float(slope[0]),
        missed_by=missed,
        largest=sizes[-1],
    )


def _check(sizes: Sequence[int], target: float) -> None:
    if len(sizes) < 3:
        raise InvalidInputError(
            f"a learning curve needs at least three pool sizes, got {list(sizes)}; compare with more `sizes`"
        )
    if not 0 < target < 1:
        raise InvalidInputError(f"`target` must be between 0 and 1, got {target}")


def highest_target(score: float, items: Items) -> float:
    """Limit a target score to an error of half an item, the smallest error that the items can show."""
    return min(score, 1 - 0.5 / len(items.expected))


def drawn_scores(runs: RunScores, draws: int, seed: int) -> NDArray[np.float64]:
    """Resample scores, f64[draws, runs]: items jointly for all runs, and seeds by Student's t, separately for each."""
    rng = np.random.default_rng(seed)
    _, seeds, items = runs.shape
    drawn = np.concatenate([runs.resampled(weights) for weights in item_weights(rng, draws, items)])
    scores = runs.by_seed.mean(axis=1) + drawn - runs.centre(drawn)
    if seeds > 1:
        spread = runs.by_seed.std(axis=1, ddof=1) / seeds**0.5
        quantiles = student(draws, seeds - 1)
        scores += spread * np.stack([rng.permutation(quantiles) for _ in spread], axis=1)
    return np.asarray(scores, dtype=np.float64)


def _log_errors(means: NDArray[np.float64], items: int) -> NDArray[np.float64]:
    # An error of half an item is the smallest that n items can show.
    return np.asarray(np.log(np.clip(1 - means, 0.5 / items, 1.0)), dtype=np.float64)


def _reach(slope: NDArray[np.float64], start: NDArray[np.float64], target: float) -> NDArray[np.float64]:
    """Return the sizes at which lines reach the error of the target; infinite for lines that do not fall."""
    falling = np.minimum(slope, -1e-9)
    reached = np.exp(np.minimum((np.log(1 - target) - start) / falling, 700.0))
    return np.where((slope < 0) & (reached < 1e300), reached, np.inf)
