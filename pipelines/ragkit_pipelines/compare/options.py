"""The options of a comparison: everything beyond its task, strategies, models, sizes, seeds, budget and folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit_pipelines.compare.data_checks import CHECKS, Checks
from ragkit_pipelines.compare.strategies.base import VARIED, Varied

if TYPE_CHECKING:
    from ragkit.workers._pool import WorkerPool
    from ragkit_pipelines.compare.documents import AnyDocuments
    from ragkit_pipelines.compare.statistics.prices import PriceRange

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """What a comparison measures, how it runs, and what it reports.

    Attributes:
        vary: What varies with the seeds: the examples drawn from the pool (``"data"``), training and the search for
            prompts (``"model"``), and selectors that select at random (``"order"``). The others use the first seed in
            every run.
        trials: Number of settings that each tunable strategy tries on the same held-out examples of the pool: learning
            rates and epochs of fine-tuning, prompts of ``optimised-prompt``. Their cost counts as fitting. With 0,
            fine-tuning uses the default settings, and ``optimised-prompt`` its default number of trials.
        documents: The documents for ``rag`` and ``pearl``: a folder, a file, a list of passages, an `Index` or a
            retriever.
        checks: Handling of duplicates, contradictions and near-duplicates of test rows: ``"report"`` reports them,
            ``"clean"`` also removes them, ``"off"`` skips the checks.
        workers: Workers that run strategies in parallel, each with one size and seed at a time; only this process if
            None. The results are the same except for measured seconds. If no worker finishes a strategy, its row
            contains an error, ``quarantine.jsonl`` in the output folder lists it, and a warning is raised. Workers on
            several machines need the output folder on a shared disk.
        label_price: Price of one labelled example in US dollars, charged to every strategy that uses it.
        prices: Possible token prices for break-even volumes; if None, these are computed in FLOPs only.
        notes: Additional entries for the provenance of the results.
        margin: The difference of mean scores that does not matter: the recommendation is the cheapest strategy that is
            not shown to be worse than the best one by more.

    Raises:
        InvalidInputError: If ``vary``, ``trials``, ``label_price`` or ``margin`` is not valid.
        UnknownSpecError: If ``checks`` is not one of the three.
    """

    vary: Sequence[Varied] = VARIED
    trials: int = 0
    documents: AnyDocuments | None = None
    checks: Checks = "report"
    workers: WorkerPool | None = None
    label_price: float | None = None
    prices: PriceRange | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    margin: float = 0.01

    def __post_init__(self) -> None:
        if not self.vary or not set(self.vary) <= set(VARIED):
            raise InvalidInputError(f"`vary` must be a subset of {list(VARIED)}, and not empty; got {self.vary}")
        if self.trials < 0:
            raise InvalidInputError(f"`trials` must be at least 0, got {self.trials}")
        if self.checks not in CHECKS:
            raise UnknownSpecError("kind of checks", str(self.checks), CHECKS)
        if not 0 <= self.margin < 1:
            raise InvalidInputError(f"`margin` must be from 0 to 1, such as 0.01 for one point, got {self.margin!r}")
        if self.label_price is not None and not 0 <= self.label_price < float("inf"):
            raise InvalidInputError(f"`label_price` must be a price of at least 0, got {self.label_price!r}")


def refuse_moved_keywords(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a function with the parameter ``options`` reject keywords that are fields of `CompareOptions`."""
    moved = [each.name for each in fields(CompareOptions)]

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if given := [name for name in moved if name in kwargs]:
            spelling = ", ".join(f"{name}=…" for name in given)
            raise InvalidInputError(
                f"`{given[0]}` is not a parameter of {function.__name__}(), but one of its options; write "
                f"options=CompareOptions({spelling}), with `from ragkit_pipelines.compare import CompareOptions`"
            )
        return function(*args, **kwargs)

    return call
