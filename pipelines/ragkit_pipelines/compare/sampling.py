"""Try a strategy on a few rows, and measure its time and its calls."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, process_time

from ragkit._progress import recorded
from ragkit._stages import Stage
from ragkit.models._call_progress import Answered
from ragkit.records import Example
from ragkit_pipelines.compare.strategies.base import Outcome, Setting, Strategy
from ragkit_pipelines.compare.strategies.calls import CallCounter
from ragkit_pipelines.compare.strategies.timing import TimedEmbedder, warm_up


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall seconds, and CPU seconds of this process."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Seconds) -> Seconds:
        return self + other * -1

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(self.wall * factor, self.cpu * factor)

    def at_least(self, other: Seconds | None = None) -> Seconds:
        """The larger of both on either clock; at least 0 by default."""
        least = other or Seconds()
        return Seconds(max(self.wall, least.wall), max(self.cpu, least.cpu))

    def at_most(self, other: Seconds) -> Seconds:
        """The smaller of both on either clock."""
        return Seconds(min(self.wall, other.wall), min(self.cpu, other.cpu))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The time and the calls of a strategy on some rows of the pool and of the test.

    Attributes:
        pool: Number of rows of the pool.
        rows: Number of test rows.
        fit: Fitting, without embedding the pool and without the following two.
        embedding: Embedding of the training rows outside the embedder that strategies share.
        steps: Number of training steps.
        step: One training step, except the first.
        predict: Prediction, without embedding the test rows.
        rest: What is neither fitting nor prediction, such as loading a trained model.
        embeds: Whether the pool, and whether the test rows are embedded by the shared embedder.
        answered: The model calls.
        call: One call.
        outcome: The outcome.
    """

    pool: int
    rows: int
    fit: Seconds
    embedding: Seconds
    steps: int
    step: Seconds
    predict: Seconds
    rest: Seconds
    embeds: tuple[bool, bool]
    answered: Answered
    call: Seconds
    outcome: Outcome


def try_on(
    strategy: Strategy, setting: Setting, pool: Sequence[Example], test: Sequence[Example], *,
    answers: Path | None = None, models: Path | None = None, trained: Sample | None = None,
) -> Sample:  # fmt: skip
    """Run a strategy on some rows.

    Args:
        strategy: The strategy.
        setting: Its setting in the comparison.
        pool: The rows of the pool.
        test: The test rows.
        answers: File of the cached responses; a temporary one if None.
        models: Folder for trained models; a temporary one if None.
        trained: An earlier sample that has trained the model in ``models``, which is only loaded this time.

    Returns:
        The time and the calls.
    """
    counter, embedder = CallCounter(), setting.embedder
    with tempfile.TemporaryDirectory() as scratch, recorded() as stages:
        inner = replace(
            setting.on(pool, test), folder=models or Path(scratch), answers=answers or Path(scratch) / "answers.sqlite",
            trials=0, calls=counter,
        )  # fmt: skip
        warm_up(inner.model)
        before = _embedded(embedder)
        wall, cpu = perf_counter(), process_time()
        outcome = strategy.run(inner)
        inner.task.score_all(outcome.answers)
        spent = Seconds(perf_counter() - wall, process_time() - cpu)
        documents, queries, embedded = (
            after - earlier for after, earlier in zip(_embedded(embedder), before, strict=True)
        )
    # The parts are measured by the wall clock; each is taken to use the processor as much as the whole.
    share = Seconds(1.0, spent.cpu / max(spent.wall, 1e-9))
    steps, step = _steps(stages)
    own = max(0.0, sum(_wall(each) for each in stages if each.description == "embedding") - embedded)
    fit = max(0.0, outcome.fit_seconds - documents)
    predict = max(0.0, outcome.seconds - queries)
    found = Sample(
        pool=len(pool), rows=len(test),
        fit=(share * (fit - own) - step * steps).at_least(), embedding=share * own,
        steps=steps, step=step, predict=share * predict,
        rest=share * max(0.0, spent.wall - embedded - predict - (0.0 if trained else fit)),
        embeds=(documents > 0, queries > 0), answered=counter.total,
        call=share * (counter.seconds / max(1, counter.total.calls)), outcome=outcome,
    )  # fmt: skip
    if trained is None:
        return found
    return replace(
        found, fit=trained.fit, embedding=trained.embedding, steps=trained.steps, step=trained.step,
        rest=found.rest.at_most(trained.rest),
    )  # fmt: skip


def _embedded(embedder: object) -> tuple[float, float, float]:
    """Seconds that the shared embedder has charged for documents and for queries, and those that it took."""
    if not isinstance(embedder, TimedEmbedder):
        return 0.0, 0.0, 0.0
    return embedder.charged["documents"], embedder.charged["queries"], embedder.seconds


def _steps(stages: Sequence[Stage]) -> tuple[int, Seconds]:
    """Return the number of training steps, and the seconds of one; the first step also prepares the others."""
    steps, found = 0, Seconds()
    for stage in stages:
        if stage.unit == "steps" and stage.first and stage.last:
            steps += stage.done
            begun, ended = stage.first, stage.last
            found += Seconds(ended[1] - begun[1], ended[2] - begun[2]) * (stage.done / max(1, ended[0] - begun[0]))
    return steps, found * (1 / max(1, steps))


def _wall(stage: Stage) -> float:
    return stage.last[1] - stage.began if stage.last else 0.0
