"""What counts as right: functions of answer and expected text to a score from 0 to 1, by name or your own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from ragkit.errors import MetricError, RagkitError, UnknownSpecError
from ragkit.records import Example
from ragkit.registry import create, specs
from ragkit.registry import name_of as registered_name

__all__ = ["Metric", "RowMetric", "load_metric", "score_answers"]

Metric: TypeAlias = Callable[[str, str], float]


@runtime_checkable
class RowMetric(Protocol):
    """A metric that looks at more of a row than its output, or that judges many answers together."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    def score_rows(self, answers: Sequence[str], rows: Sequence[Example]) -> Sequence[float]:
        """A score from 0 to 1 for each answer."""
        ...


AnyMetric: TypeAlias = str | Metric | RowMetric


def load_metric(metric: AnyMetric) -> Metric | RowMetric:
    """Return the metric that a name stands for; a function or an object is its own.

    Args:
        metric: The spec of a registered metric, such as ``"accuracy"``, ``"sql:<database file>"`` or
            ``"judge:<model>"``, a function of answer and expected text, or a `RowMetric`.

    Returns:
        The metric.

    Raises:
        UnknownSpecError: If no metric has this name.
    """
    if not isinstance(metric, str):
        if callable(metric) or isinstance(metric, RowMetric):
            return metric
        raise UnknownSpecError("metric", repr(metric), specs("metric"), hint="A function of two texts is a metric too.")
    loaded: Metric | RowMetric = create("metric", metric)
    return loaded


def fingerprint_of(metric: AnyMetric) -> str:
    """What tells one metric from another in a hash.

    Returns:
        A text; for a function its name, since its code cannot be hashed soundly.
    """
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
        rows: What was asked and what is right.

    Returns:
        Scores from 0 to 1.

    Raises:
        MetricError: If the metric raises, or gives something else than a number from 0 to 1; names the row.
        RagkitError: If a row lacks what the metric looks at, or a judge cannot be asked.
    """
    if not isinstance(metric, RowMetric):
        pairs = zip(answers, rows, strict=True)
        return [_score_of_one(metric, place, answer, row) for place, (answer, row) in enumerate(pairs)]
    try:
        scores = list(metric.score_rows(answers, rows))
    except RagkitError:
        raise  # a judge without budget, a row without options: it says what and where
    except Exception as error:  # whatever a user's own metric raises
        raise MetricError(name_of(metric), None, None, error) from error
    if len(scores) != len(rows):
        problem = TypeError(f"{len(scores)} scores for {len(rows)} answers")
        raise MetricError(name_of(metric), None, None, problem)
    return [_checked(metric, place, score, row) for place, (score, row) in enumerate(zip(scores, rows, strict=True))]


def name_of(metric: Metric | RowMetric) -> str:
    """What a metric is called in messages.

    Returns:
        Its name in the registry, its own, or that of the function.
    """
    listed = registered_name("metric", metric)
    return listed or str(getattr(metric, "name", getattr(metric, "__qualname__", type(metric).__qualname__)))


def _score_of_one(metric: Metric, place: int, answer: str, row: Example) -> float:
    try:
        score = metric(answer, row.output)
    except Exception as error:  # whatever a user's own metric raises
        raise MetricError(name_of(metric), place, row, error) from error
    return _checked(metric, place, score, row)


def _checked(metric: Metric | RowMetric, place: int, score: object, row: Example) -> float:
    """The score as a float; numbers of numpy and booleans are numbers too."""
    try:
        value = float(score)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        problem = TypeError(f"gave {score!r}; expected a number from 0 to 1")
        raise MetricError(name_of(metric), place, row, problem) from error
    if not 0 <= value <= 1:
        problem = TypeError(f"gave {score!r}; expected a number from 0 to 1")
        raise MetricError(name_of(metric), place, row, problem)
    return value
