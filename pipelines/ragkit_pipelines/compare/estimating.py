"""Estimate the time, the calls and the cost of a comparison from a few rows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from ragkit._progress import progress
from ragkit._stages import duration
from ragkit.errors import InvalidInputError
from ragkit.models._results import price_of
from ragkit.records import Usage
from ragkit_pipelines.compare.jobs import Job, described
from ragkit_pipelines.compare.measuring import FEW, Measured, measure, same_calls, training_steps
from ragkit_pipelines.compare.options import CompareOptions, refuse_moved_keywords
from ragkit_pipelines.compare.planning import planned
from ragkit_pipelines.compare.reports.escaping import markdown_table
from ragkit_pipelines.compare.sampling import Seconds
from ragkit_pipelines.compare.strategies.base import Setting, Strategy, Trained
from ragkit_pipelines.compare.strategies.timing import TimedEmbedder

if TYPE_CHECKING:
    from ragkit.models._budget import Budget
    from ragkit.protocols import Embedder, LanguageModel
    from ragkit.tasks import Task
    from ragkit_pipelines.compare.statistics.prices import PriceRange


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

    @property
    def summary(self) -> str:
        """The total in one sentence."""
        total = self.total
        parts = [duration(total.fit_seconds + total.seconds)]
        if total.calls:
            parts.append(f"{total.calls:,} calls with {total.prompt_tokens:,} prompt tokens")
            parts.append(f"{total.completion_tokens:,} completion tokens")
        if total.cost != 0:
            parts.append("an unknown cost" if total.cost is None else f"${total.cost:.4f}")
        return f"Expected in total: {', '.join(parts)}; loading models and importing libraries is not included"

    def table(self) -> list[list[str]]:
        """Return the headings, a line per strategy and pool size, and the total; columns of zeros are left out."""
        known = [each for each in self.strategies if each.error is None]
        columns = zip(_HEADINGS, *map(_line, [*known, self.total]), strict=True)
        shown = [column for column in columns if column[0] in _ALWAYS or column[-1] not in {"0", "0.0000"}]
        return [list(line) for line in zip(*shown, strict=True)]

    def failures(self) -> list[str]:
        """Describe the strategies that failed, one line for all pool sizes with the same error."""
        sizes: dict[tuple[str, str | None], list[str]] = {}
        for each in self.failed:
            sizes.setdefault((each.strategy, each.error), []).append(f"{each.size:,}")
        return [f"failed: {name}, pool {', '.join(own)}: {error}" for (name, error), own in sizes.items()]

    def __str__(self) -> str:
        headings, *lines = self.table()
        return "\n".join([markdown_table(headings, lines), *self.failures(), self.summary])


_ALWAYS = ("strategy", "pool", "runs", "fitting", "prediction")
_HEADINGS = (*_ALWAYS, "steps", "calls", "prompt tokens", "completion tokens", "cost ($)")


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
    if rows < FEW + 1:
        raise InvalidInputError(f"`rows` must be at least {FEW + 1}, got {rows}")
    with planned(
        task, strategies, model=model, embedder=embedder, sizes=sizes, seeds=seeds, budget=budget, out=None,
        options=options,
    ) as plan:  # fmt: skip
        known: dict[str, Measured | Exception] = {}
        run = _Run(options.prices)
        with progress("trying strategies", len({job.strategy.name for job in plan.jobs})) as stage:
            for job in plan.jobs:
                if job.strategy.name not in known:
                    largest = max(
                        (each for each in plan.jobs if each.strategy.name == job.strategy.name),
                        key=lambda each: len(each.setting.pool),
                    )
                    known[job.strategy.name] = _tried(largest, rows)
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


def _tried(job: Job, rows: int) -> Measured | Exception:
    """Try the strategy of a job; return the error if it fails."""
    try:
        return measure(job.strategy, job.setting, rows)
    except Exception as failure:  # noqa: BLE001 - the other strategies are still estimated
        return failure


class _Run:
    """Adds up the time and the calls of a comparison, run by run in its order."""

    def __init__(self, prices: PriceRange | None) -> None:
        self._prices = prices
        self._embedded: dict[str, set[str]] = {"pool": set(), "test": set()}
        self._called: dict[str, list[Setting]] = {}

    def of(self, job: Job, measured: Measured | Exception) -> StrategyEstimate:
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
            completion_tokens=usage.completion_tokens, steps=training_steps(measured.strategy, size, setting.trials),
            cost=self._cost(setting, measured, usage, share),
        )  # fmt: skip

    def _is_cached(self, setting: Setting, measured: Measured) -> bool:
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
        return same is not None and same_calls(measured.strategy, same, setting)

    def _embedding(self, setting: Setting, what: Literal["pool", "test"], measured: Measured) -> Seconds:
        """The time of embedding the texts that no earlier run has embedded."""
        embedder, embeds = setting.embedder, measured.many.embeds[what == "test"]
        if not embeds or not isinstance(embedder, TimedEmbedder) or not embedder.texts:
            return Seconds()
        texts = {row.text() for row in (setting.pool if what == "pool" else setting.task.test)}
        count = len(texts - self._embedded[what])
        self._embedded[what] |= texts
        return Seconds(embedder.seconds, embedder.cpu_seconds) * (count / embedder.texts)

    def _cost(self, setting: Setting, measured: Measured, usage: Usage, share: float) -> float | None:
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
