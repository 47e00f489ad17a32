"""Try a strategy on a few rows, and extrapolate its time and its calls to a whole run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory

from ragkit.records import Example
from ragkit_pipelines.compare.sampling import Sample, Seconds, try_on
from ragkit_pipelines.compare.strategies.base import CallsInFitting, Setting, Strategy, Trained
from ragkit_pipelines.compare.strategies.training import Tuning

FEW = 2  # test rows of the second measurement, which tells the constant part of the time from that of each row
_POOL = 256  # rows of the pool on which a strategy is tried that does not train in steps
_STEPPED = 48  # rows on which training in steps is tried
_SEARCHED = 20  # rows on which strategies are tried that call a model in fitting
_STEPS = 3  # training steps that are tried at least: the first, which also compiles and allocates, and two others
_LEAST = 0.2  # share of the measured time of prediction that is at least proportional to the rows
_MEASURABLE = 0.005  # seconds
_SHORT = 0.5  # seconds: a strategy that fits faster is tried on a larger pool


@dataclass(frozen=True, slots=True)
class Measured:
    """A strategy on a few test rows, on more, and on a smaller pool (None if it trains in steps or calls a model)."""

    strategy: Strategy
    few: Sample
    many: Sample
    smaller: Sample | None

    @property
    def fresh_calls(self) -> int:
        """Number of calls on more rows that were not cached."""
        return self.many.answered.calls - self.many.answered.cached

    def calls(self, setting: Setting) -> float:
        """The number of calls of a run: in fitting, once, and for each test row."""
        per_row = (self.fresh_calls - self.few.answered.calls + self.few.answered.cached) / self._more_rows
        once = self.fresh_calls - per_row * self.many.rows - _calls(self.strategy, self.many.pool, 0)
        return _calls(self.strategy, len(setting.pool), setting.trials) + once + per_row * len(setting.task.test)

    def predict(self, rows: int) -> Seconds:
        """The time of prediction: a constant part, and one that is proportional to the number of rows."""
        many = self.many.predict
        few = (
            self.few.predict
            if self.smaller is None or self.smaller.rows == self.many.rows
            else (self.few.predict.at_most(self.smaller.predict))
        )
        mean = many * (1 / self.many.rows)
        per_row = ((many - few) * (1 / self._more_rows)).at_least(mean * _LEAST).at_most(mean)
        return per_row * rows + (many - per_row * self.many.rows).at_least()

    def fit(self, setting: Setting) -> Seconds:
        """The time of fitting, without embedding by the shared embedder."""
        size, trials, many = len(setting.pool), setting.trials, self.many
        calls = _calls(self.strategy, many.pool, 0)
        steps = many.step * training_steps(self.strategy, size, trials) + many.call * _calls(
            self.strategy, size, trials
        )
        embedding = many.embedding * (size / many.pool)
        constant = (many.fit - many.call * calls).at_least()
        return steps + embedding + constant * (1.0 if self.smaller is None else (size / many.pool) ** self._exponent)

    @property
    def _exponent(self) -> float:
        """The exponent with which the time of fitting grows with the pool."""
        smaller, many = self.smaller, self.many
        if smaller is None or smaller.pool == many.pool or min(smaller.fit.wall, many.fit.wall) < _MEASURABLE:
            return 1.0
        return min(1.5, max(0.0, log(many.fit.wall / smaller.fit.wall) / log(many.pool / smaller.pool)))

    @property
    def _more_rows(self) -> int:
        return max(1, self.many.rows - self.few.rows)


def measure(strategy: Strategy, setting: Setting, rows: int) -> Measured:
    """Try a strategy on some test rows; strategies that train in steps are trained once, for a few steps."""
    if isinstance(strategy, Tuning):
        strategy = strategy.chosen(setting.model)
    test = _spread(setting.task.test, rows)
    middle = test[(len(test) - FEW) // 2 :][:FEW]
    if not training_steps(strategy, _STEPPED, 0) and not _calls(strategy, _SEARCHED, 0):
        return _on_two_pools(strategy, setting, middle, test)
    pool = _drawn(setting, _SEARCHED if _calls(strategy, _SEARCHED, 0) else _STEPPED)
    tried = strategy.shortened(_STEPS, len(pool)) if isinstance(strategy, Trained) else strategy
    with TemporaryDirectory() as folder:
        few = try_on(tried, setting, pool, middle, models=Path(folder))  # also imports what the strategy needs
        trained = few if few.steps else None
        many = try_on(tried, setting, pool, test, models=Path(folder), trained=trained)
    return Measured(strategy, few, many, None)


def _on_two_pools(strategy: Strategy, setting: Setting, middle: Sequence[Example], test: Sequence[Example]) -> Measured:
    """Try a strategy on pools of two sizes, which are larger if it is fast."""
    pool = _drawn(setting, _POOL)
    few = try_on(strategy, setting, pool, middle)  # also imports what the strategy needs
    smaller = try_on(strategy, setting, _drawn(setting, len(pool) // 2 or 1), middle)
    many = try_on(strategy, setting, pool, test)
    while len(pool) < len(setting.pool) and not many.answered.calls and many.fit.wall < _SHORT:
        pool = _drawn(setting, 4 * len(pool))
        smaller, many = many, try_on(strategy, setting, pool, test)
    return Measured(strategy, few, many, smaller)


def same_calls(strategy: Strategy, one: Setting, other: Setting) -> bool:
    """Whether a strategy makes the same calls with two seeds on the same pool, on a few rows."""
    pool, test = one.pool, _spread(one.task.test, FEW)
    with TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.sqlite"
        found = [try_on(strategy, each, pool, test, answers=answers).answered for each in (one, other)]
    return found[1].cached == found[1].calls


def training_steps(strategy: Strategy, rows: int, trials: int) -> int:
    """Return the number of training steps of a strategy; 0 if it does not train in steps."""
    return strategy.training_steps(rows, trials) if isinstance(strategy, Trained) else 0


def _calls(strategy: Strategy, rows: int, trials: int) -> int:
    return strategy.fitting_calls(rows, trials) if isinstance(strategy, CallsInFitting) else 0


def _spread(test: Sequence[Example], rows: int) -> list[Example]:
    """Return test rows that are spread evenly over the lengths of the inputs, in the order of the lengths."""
    ordered = sorted(test, key=lambda row: len(row.text()))
    count = min(rows, len(ordered))
    return [ordered[(2 * number + 1) * len(ordered) // (2 * count)] for number in range(count)]


def _drawn(setting: Setting, rows: int) -> list[Example]:
    return replace(setting.task, examples=setting.pool).draw(min(rows, len(setting.pool)), 0)
