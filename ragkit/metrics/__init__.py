"""Metrics, which compare an answer with the expected text and return a score from 0 to 1.

A metric is a registered name, a function, a `RowMetric`, or a `SetMetric` such as macro-F1, whose score is that of all
answers together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from statistics import fmean
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from ragkit.errors import MetricError, RagkitError, UnknownSpecError
from ragkit.records import Example
from ragkit.registry import create, specs
from ragkit.registry import name_of as registered_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

__all__ = ["Metric", "RowMetric", "SetMetric", "load_metric", "overall_score", "score_answers"]

Metric: TypeAlias = Callable[[str, str], float]


@runtime_checkable
class RowMetric(Protocol):
    """A metric that uses more of a row than its output, or that scores many answers together."""

    @property
    def name(self) -> str:
        """The name of the metric in reports."""
        ...

    def score_rows(self, answers: Sequence[str], rows: Sequence[Example]) -> Sequence[float]:
        """Return a score from 0 to 1 for each answer."""
        ...


@runtime_checkable
class SetMetric(RowMetric, Protocol):
    """A metric of all answers together, such as macro-F1, which is a function of sums over the rows.

    The score of a comparison is `of_sums` of the sums over all test rows, and its interval comes from resampled rows.
    The scores of single rows (`score_rows`) only show which answers are right.
    """

    @property
    def lowest(self) -> float:
        """The lowest possible score, 0 or -1; the highest is 1."""
        ...

    def row_sums(self, answers: Sequence[str], rows: Sequence[Example]) -> NDArray[np.float32] | csr_array:
        """Return what each row adds to the sums, f32[rows, s], dense or sparse; s depends only on the rows."""
        ...

    def of_sums(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score for each vector of sums, f64[..., s] to f64[...]."""
        ...


AnyMetric: TypeAlias = str | Metric | RowMetric


def load_metric(metric: AnyMetric) -> Metric | RowMetric:
    """Return the metric that a spec describes; a function or a `RowMetric` is returned unchanged.

    Args:
        metric: The spec of a registered metric, such as ``"accuracy"``, ``"sql:<database file>"`` or
            ``"judge:<model>"``, a function of answer and expected text, or a `RowMetric`.

    Returns:
        The metric.

    Raises:
        UnknownSpecError: If no metric has this name, or the object is not a metric.
    """
    if not isinstance(metric, str):
        if callable(metric) or isinstance(metric, RowMetric):
            return metric
        raise UnknownSpecError("metric", repr(metric), specs("metric"), hint="A function of two texts is a metric too.")
    loaded: Metric | RowMetric = create("metric", metric)
    return loaded


def fingerprint_of(metric: AnyMetric) -> str:
    """Return the fingerprint or name of a metric; a function has only a name, as its code cannot be hashed reliably."""
    if isinstance(metric, str) and ":" not in metric:
        return metric
    loaded = load_metric(metric)
    given = getattr(loaded, "fingerprint", None) or getattr(loaded, "name", None)
    return str(given or getattr(loaded, "__qualname__", type(loaded).__qualname__))


def score_answers(metric: Metric | RowMetric, answers: Sequence[str], rows: Sequence[Example]) -> list[float]:
    """Score one answer for each row.

    Args:
        metric: The metric.
        answers: The answers, in the order of the rows.
        rows: The rows with inputs and expected outputs.

    Returns:
        Scores from 0 to 1.

    Raises:
        MetricError: If the metric raises an error or does not return numbers from 0 to 1; the message names the row.
        RagkitError: If a row lacks data that the metric needs, or the model of a judge cannot be called.
    """
    if not isinstance(metric, RowMetric):
        pairs = zip(answers, rows, strict=True)
        return [_score_of_one(metric, place, answer, row) for place, (answer, row) in enumerate(pairs)]
    try:
        scores = list(metric.score_rows(answers, rows))
    except RagkitError:
        raise  # such as a judge without budget or a row without options; the message names the problem
    except Exception as error:  # a custom metric may raise anything
        raise MetricError(name_of(metric), None, None, error) from error
    if len(scores) != len(rows):
        problem = TypeError(f"{len(scores)} scores for {len(rows)} answers")
        raise MetricError(name_of(metric), None, None, problem)
    return [_checked(metric, place, score, row) for place, (score, row) in enumerate(zip(scores, rows, strict=True))]


def overall_score(metric: Metric | RowMetric, answers: Sequence[str], rows: Sequence[Example]) -> float:
    """Score all answers together.

    Args:
        metric: The metric.
        answers: The answers, in the order of the rows.
        rows: The rows with inputs and expected outputs; at least one.

    Returns:
        The score of a `SetMetric`; for other metrics, the mean of `score_answers`.

    Raises:
        MetricError: If the metric raises an error or returns an invalid score.
        RagkitError: As for `score_answers`.
    """
    if not isinstance(metric, SetMetric):
        return fmean(score_answers(metric, answers, rows))
    try:
        score = float(metric.of_sums(metric.row_sums(answers, rows).sum(axis=0, dtype="float64")))
    except RagkitError:
        raise
    except Exception as error:  # a custom metric may raise anything
        raise MetricError(name_of(metric), None, None, error) from error
    if not metric.lowest <= score <= 1:
        problem = TypeError(f"gave {score!r}; expected a number from {metric.lowest:g} to 1")
        raise MetricError(name_of(metric), None, None, problem)
    return score


def name_of(metric: Metric | RowMetric) -> str:
    """Return the name of a metric in the registry, its attribute ``name``, or the name of the function or class."""
    listed = registered_name("metric", metric)
    return listed or str(getattr(metric, "name", getattr(metric, "__qualname__", type(metric).__qualname__)))


def _score_of_one(metric: Metric, place: int, answer: str, row: Example) -> float:
    try:
        score = metric(answer, row.output)
    except Exception as error:  # a custom metric may raise anything
        raise MetricError(name_of(metric), place, row, error) from error
    return _checked(metric, place, score, row)


def _checked(metric: Metric | RowMetric, place: int, score: object, row: Example) -> float:
    """Return the score as a float; NumPy numbers and booleans are also accepted."""
    try:
        value = float(score)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = nan
    if not 0 <= value <= 1:
        problem = TypeError(f"gave {score!r}; expected a number from 0 to 1")
        raise MetricError(name_of(metric), place, row, problem)
    return value
