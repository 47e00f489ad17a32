"""Estimate the time, the calls and the cost of a comparison from a few rows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from ragkit._progress import progress
from ragkit._stages import duration
from ragkit.errors import InvalidInputError
from ragkit.models._results import price_of
from ragkit.records import Example, Usage
from ragkit_pipelines.compare.jobs import Job, described
from ragkit_pipelines.compare.options import CompareOptions, refuse_moved_keywords
from ragkit_pipelines.compare.planning import planned
from ragkit_pipelines.compare.reports.escaping import markdown_table
from ragkit_pipelines.compare.sampling import Sample, Seconds, try_on
from ragkit_pipelines.compare.strategies.base import CallsInFitting, Setting, Strategy, Trained
from ragkit_pipelines.compare.strategies.timing import TimedEmbedder
from ragkit_pipelines.compare.strategies.training import Tuning

if TYPE_CHECKING:
    from ragkit.models._budget import Budget
    from ragkit.protocols import Embedder, LanguageModel
    from ragkit.tasks import Task
    from ragkit_pipelines.compare.statistics.prices import PriceRange

_POOL = 256  # rows of the pool on which a strategy is tried that does not train in steps
_STEPPED = 96  # rows on which training in steps is tried
_FEW = 2  # test rows of the second measurement, which tells the constant part of the time from that of each row
_SEARCHED = 20  # rows on which strategies are tried that call a model in fitting
_LEAST = 0.2  # share of the measured time of prediction that is at least proportional to the rows
_MEASURABLE = 0.005  # seconds
_SHORT = 0.5  # seconds: a strategy that fits faster is tried on a larger pool


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyEstimate:
    """The expected usage of one strategy at one pool size, for all seeds together.

    Cached responses and embeddings that the comparison has already computed for another strategy, size or seed cost
    nothing.

    Attributes:
        strategy: Name of the strategy.
        size: Size of the pool.
        runs: Number of runs, one per seed.
        fit_seconds: Wall seconds of fitting: training, tuning, embedding and indexing.
        seconds: Wall seconds of prediction.
        cpu_seconds: CPU seconds of this process, for both.
        calls: Number of model calls.
        prompt_tokens: Prompt tokens of these calls.
        completion_tokens: Completion tokens of these calls.
        steps: Number of training steps.
        cost: Cost of the calls in US dollars, or None if the price is unknown.
        error: Why the strategy failed on the sample, or None.
    """

    strategy: str
    size: int
    runs: int
    fit_seconds: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    steps: int = 0
    cost: float | None = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Estimate:
    """The expected usage of a comparison; ``print`` shows it as a table.

    Attributes:
        strategies: One entry per strategy and pool size, in the order of the comparison.
        rows: Number of test rows on which each strategy was tried.
    """

    strategies: tuple[StrategyEstimate, ...]
    rows: int

    @property
    def total(self) -> StrategyEstimate:
        """The sum over all strategies that did not fail; its cost is None if one of them is unknown."""
        done = [each for each in self.strategies if each.error is None]
        costs = [each.cost for each in done if each.cost is not None]
        names = ("runs", "calls", "prompt_tokens", "completion_tokens", "steps")
        counts = {name: sum(getattr(each, name) for each in done) for name in names}
        return StrategyEstimate(
            strategy="total", size=max((each.size for each in done), default=0), **counts,
            fit_seconds=sum(each.fit_seconds for each in done), seconds=sum(each.seconds for each in done),
            cpu_seconds=sum(each.cpu_seconds for each in done), cost=sum(costs) if len(costs) == len(done) else None,
        )  # fmt: skip

    @property
    def failed(self) -> tuple[StrategyEstimate, ...]:
        """The strategies that failed on the sample; the total does not contain them."""
        return tuple(each for each in self.strategies if each.error is not None)

    @staticmethod
    def headings() -> list[str]:
        """Return the headings of the table."""
        return ["strategy", "pool", "runs", "fitting", "prediction", "steps", "calls", "prompt tokens",
                "completion tokens", "cost ($)"]  # fmt: skip

    def lines(self) -> list[list[str]]:
        """Return the rows of the table, with the total at the end."""
        known = [each for each in self.strategies if each.error is None]
        return [_line(each) for each in known] + [_line(self.total)]

    def __str__(self) -> str:
        failed = [f"failed: {each.strategy}, pool {each.size}: {each.error}" for each in self.failed]
        return "\n".join([markdown_table(self.headings(), self.lines()), *failed])


def _line(each: StrategyEstimate) -> list[str]:
    counts = [f"{count:,}" for count in (each.steps, each.calls, each.prompt_tokens, each.completion_tokens)]
    cost = "unknown" if each.cost is None else f"{each.cost:.4f}"
    size = "" if each.strategy == "total" else f"{each.size:,}"
    return [each.strategy, size, str(each.runs), duration(each.fit_seconds), duration(each.seconds), *counts, cost]


@refuse_moved_keywords
def estimate(
    task: Task,
    strategies: Sequence[str | Strategy] | None = None,
    *,
    model: str | LanguageModel | None = None,
    embedder: str | Embedder = "minilm",
    sizes: Sequence[int | None] = (None,),
    seeds: Sequence[int] = (0,),
    budget: Budget | None = None,
    options: CompareOptions | None = None,
    rows: int = 8,
) -> Estimate:
    """Estimate the time, the calls and the cost of `compare` with the same arguments, before it is run.

    Each strategy is tried on a few test rows and a small part of the pool, in a temporary folder. The time of fitting
    is measured on pools of two sizes, or for a few training steps, and extrapolated to the pools of the comparison. The
    time of loading models and importing libraries is not included.

    Args:
        task: The task.
        strategies: As for `compare`.
        model: As for `compare`.
        embedder: As for `compare`.
        sizes: As for `compare`.
        seeds: As for `compare`.
        budget: Limits of the model calls that the estimate itself makes.
        options: As for `compare`; with ``workers``, the seconds are those of a single process. If ``prices`` are given,
            costs are computed from the highest of them.
        rows: Number of test rows on which each strategy is tried.

    Returns:
        The estimate. A strategy that fails on the sample has an error, as it does in a comparison.

    Raises:
        InvalidInputError: If an argument is not valid.
    """
    options = options or CompareOptions()
    if rows < _FEW + 1:
        raise InvalidInputError(f"`rows` must be at least {_FEW + 1}, got {rows}")
    with planned(
        task, strategies, model=model, embedder=embedder, sizes=sizes, seeds=seeds, budget=budget, out=None,
        options=options,
    ) as plan:  # fmt: skip
        known: dict[str, _Measured | Exception] = {}
        run = _Run(options.prices)
        with progress("trying strategies", len({job.strategy.name for job in plan.jobs})) as stage:
            for job in plan.jobs:
                if job.strategy.name not in known:
                    largest = max(
                        (each for each in plan.jobs if each.strategy.name == job.strategy.name),
                        key=lambda each: len(each.setting.pool),
                    )
                    known[job.strategy.name] = _measured(largest, rows)
                    stage(1)
        return Estimate(_by_size([run.of(job, known[job.strategy.name]) for job in plan.jobs]), rows)


def _by_size(found: Sequence[StrategyEstimate]) -> tuple[StrategyEstimate, ...]:
    """Add up the seeds of each strategy and size."""
    places = {key: place for place, key in reversed(list(enumerate((each.strategy, each.size) for each in found)))}
    ordered = sorted(found, key=lambda each: places[each.strategy, each.size])
    together = []
    for _, some in groupby(ordered, key=lambda each: (each.strategy, each.size)):
        parts = list(some)
        broken = next((each for each in parts if each.error), None)
        whole = Estimate(tuple(parts), 0).total
        together.append(broken or replace(whole, strategy=parts[0].strategy, size=parts[0].size))
    return tuple(together)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A strategy on a few test rows, on more, and on a smaller pool (None if its training counts steps)."""

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
        steps = many.step * _steps(self.strategy, size, trials) + many.call * _calls(self.strategy, size, trials)
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


def _measured(job: Job, rows: int) -> _Measured | Exception:
    """Try the strategy of a job; return the error if it fails."""
    setting, strategy = job.setting, job.strategy
    if isinstance(strategy, Tuning):
        strategy = strategy.chosen(setting.model)
    try:
        tried = strategy.shortened() if isinstance(strategy, Trained) else strategy
        test = _spread(setting.task.test, rows)
        middle = test[(len(test) - _FEW) // 2 :][:_FEW]
        most = _STEPPED if _steps(strategy, _STEPPED, 0) else _SEARCHED if _calls(strategy, _SEARCHED, 0) else _POOL
        pool = _drawn(setting, most)
        few = try_on(tried, setting, pool, middle)  # also imports what the strategy needs
        if most != _POOL:
            return _Measured(strategy, few, try_on(tried, setting, pool, test), None)
        smaller = try_on(tried, setting, _drawn(setting, len(pool) // 2 or 1), middle)
        many = try_on(tried, setting, pool, test)
        while len(pool) < len(setting.pool) and not many.answered.calls and many.fit.wall < _SHORT:
            pool = _drawn(setting, 4 * len(pool))
            smaller, many = many, try_on(tried, setting, pool, test)
        return _Measured(strategy, few, many, smaller)
    except Exception as failure:  # noqa: BLE001 - the other strategies are still estimated
        return failure


def _steps(strategy: Strategy, rows: int, trials: int) -> int:
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


class _Run:
    """Adds up the time and the calls of a comparison, run by run in its order."""

    def __init__(self, prices: PriceRange | None) -> None:
        self._prices = prices
        self._embedded: dict[str, set[str]] = {"pool": set(), "test": set()}
        self._called: dict[str, list[Setting]] = {}

    def of(self, job: Job, measured: _Measured | Exception) -> StrategyEstimate:
        """Estimate one run."""
        setting, size = job.setting, len(job.setting.pool)
        if isinstance(measured, Exception):
            return StrategyEstimate(strategy=job.strategy.name, size=size, runs=1, error=described(measured))
        fresh = 0.0 if self._is_cached(setting, measured) else 1.0
        rows, calls = len(setting.task.test), measured.calls(setting) * fresh
        per_call = measured.many.answered.usage
        share = calls / max(1, measured.fresh_calls)
        usage = Usage(
            prompt_tokens=round(per_call.prompt_tokens * share),
            completion_tokens=round(per_call.completion_tokens * share),
        )
        fit = measured.fit(setting) + self._embedding(setting, "pool", measured)
        predict = measured.predict(rows) * (fresh if measured.many.answered.calls else 1.0) + measured.many.rest
        predict += self._embedding(setting, "test", measured)
        return StrategyEstimate(
            strategy=job.strategy.name, size=size, runs=1, fit_seconds=fit.wall, seconds=predict.wall,
            cpu_seconds=fit.cpu + predict.cpu, calls=round(calls), prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens, steps=_steps(measured.strategy, size, setting.trials),
            cost=self._cost(setting, measured, usage, share),
        )  # fmt: skip

    def _is_cached(self, setting: Setting, measured: _Measured) -> bool:
        """Whether the calls of a run are those of an earlier run of the same strategy."""
        if isinstance(measured.strategy, Trained) or not measured.many.answered.calls:
            return False
        earlier = self._called.setdefault(measured.strategy.name, [])
        earlier.append(setting)
        if len(earlier) == 1:
            return False
        if measured.many.outcome.labels == 0:  # prompts do not depend on the pool
            return True
        same = next((each for each in earlier[:-1] if each.pool == setting.pool), None)
        return same is not None and _same_calls(measured, same, setting)

    def _embedding(self, setting: Setting, what: Literal["pool", "test"], measured: _Measured) -> Seconds:
        """The time of embedding the texts that no earlier run has embedded."""
        embedder, embeds = setting.embedder, measured.many.embeds[what == "test"]
        if not embeds or not isinstance(embedder, TimedEmbedder) or not embedder.texts:
            return Seconds()
        texts = {row.text() for row in (setting.pool if what == "pool" else setting.task.test)}
        count = len(texts - self._embedded[what])
        self._embedded[what] |= texts
        return Seconds(embedder.seconds, embedder.cpu_seconds) * (count / embedder.texts)

    def _cost(self, setting: Setting, measured: _Measured, usage: Usage, share: float) -> float | None:
        """The cost of calls: at the highest of the given prices, at that of the model, or as in the sample."""
        if not share:
            return 0.0
        if self._prices is not None:
            prices = self._prices.tuned if isinstance(measured.strategy, Trained) else ()
            return max(price.cost(usage) for price in prices or self._prices.base)
        outcome = measured.many.outcome
        if outcome.cost is not None and outcome.fit_cost is not None:
            return (outcome.cost + outcome.fit_cost) * share
        return None if setting.model is None else price_of(setting.model, usage)


def _same_calls(measured: _Measured, one: Setting, other: Setting) -> bool:
    """Whether a strategy makes the same calls with two seeds on the same pool, on a few rows."""
    pool, test = one.pool, _spread(one.task.test, _FEW)
    with TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.sqlite"
        found = [try_on(measured.strategy, each, pool, test, answers).answered for each in (one, other)]
    return found[1].cached == found[1].calls
