"""The pool size at which one strategy overtakes another, such as training in-context examples, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare.statistics.item_scores import item_scores, sizes_of
from ragkit_pipelines.compare.statistics.learning_curves import drawn_scores

if TYPE_CHECKING:
    from ragkit.metrics import SetMetric
    from ragkit_pipelines.compare.predictions import Items
    from ragkit_pipelines.compare.statistics.run_scores import RunScores


@dataclass(frozen=True, slots=True)
class Crossover:
    """The pool size from which on one strategy scores higher than another.

    Attributes:
        strategy: The strategy that overtakes.
        other: The strategy that is overtaken.
        size: The pool size; the smallest one if the strategy is ahead at all sizes, infinite if it is not ahead at the
            largest one.
        low: Lower bound of the 95 % interval, likewise.
        high: Upper bound.
        smallest: The smallest pool size at which both strategies were run.
        largest: The largest one.
    """

    strategy: str
    other: str
    size: float
    low: float
    high: float
    smallest: int
    largest: int

    def __str__(self) -> str:
        interval = f"[{self._bound(self.low)}, {self._bound(self.high)}]"
        return f"{self._bound(self.size)} examples {interval}"

    def _bound(self, size: float) -> str:
        if size <= self.smallest:
            return f"at most {self.smallest:,}"
        return f"{size:,.0f}" if size <= self.largest else f"more than {self.largest:,}"


def crossover(
    items: Items, strategy: str, other: str, *, metric: SetMetric | None = None, draws: int = 2000, seed: int = 0
) -> Crossover:
    """Compute the pool size from which on a strategy scores higher than another one.

    The curves are interpolated linearly in the logarithm of the pool size. If they cross more than once, the last
    crossing counts. The interval covers the random variation of items and seeds; both curves are measured on the same
    resampled items. It does not extrapolate beyond the sizes that were run.

    Args:
        items: The test rows with all answers.
        strategy: The strategy that may overtake.
        other: The strategy that may be overtaken.
        metric: The set-level metric of the comparison; None for means of the scores.
        draws: Number of bootstrap samples.
        seed: Seed of the samples.

    Returns:
        The crossover.

    Raises:
        InvalidInputError: If the strategies do not have at least two pool sizes and one seed in common.
    """
    sizes = sizes_of(items, strategy, other)
    if len(sizes) < 2:
        raise InvalidInputError(
            f"a crossover needs at least two pool sizes at which both {strategy!r} and {other!r} finished, got {sizes}"
            "; compare with more `sizes`"
        )
    runs = item_scores(items, [(name, size) for name in (strategy, other) for size in sizes], metric)
    size, low, high = crossing_of(sizes, runs, draws=draws, seed=seed)
    return Crossover(strategy, other, size, low, high, sizes[0], sizes[-1])


def crossing_of(sizes: Sequence[int], runs: RunScores, *, draws: int, seed: int) -> tuple[float, float, float]:
    """Return the size of the crossing with its interval, from the runs of the first strategy, then of the second."""
    means, drawn = runs.by_seed.mean(axis=1)[None, :], drawn_scores(runs, draws, seed)
    (size,) = _crossings(sizes, means[:, : len(sizes)] - means[:, len(sizes) :])
    found = _crossings(sizes, drawn[:, : len(sizes)] - drawn[:, len(sizes) :])
    low, high = np.quantile(found, [0.025, 0.975], method="nearest")
    return float(size), min(float(low), float(size)), max(float(high), float(size))


def _crossings(sizes: Sequence[int], ahead: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sizes from which on curves f64[n, sizes] are above 0."""
    logs, count = np.log(np.array(sizes, dtype=np.float64)), len(sizes)
    behind = ahead <= 0
    last = count - 1 - np.argmax(behind[:, ::-1], axis=1)  # the last size at which a curve is not above 0
    at = np.minimum(last, count - 2)
    rows = np.arange(len(ahead))
    before, after = ahead[rows, at], ahead[rows, at + 1]
    rise = np.where(after > before, after - before, 1.0)
    crossed = np.exp(logs[at] + np.clip(-before / rise, 0.0, 1.0) * (logs[at + 1] - logs[at]))
    crossed = np.where(last == count - 1, np.inf, crossed)
    return np.where(behind.any(axis=1), crossed, float(sizes[0]))
