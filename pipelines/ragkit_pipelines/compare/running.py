"""Run a job, which is one strategy at one pool size and seed, or load its stored result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from traceback import extract_tb
from typing import Any

from ragkit.errors import MetricError, RagkitError
from ragkit.files import make_folder
from ragkit.finetuning.manifest import run_hash
from ragkit.protocols import LanguageModel
from ragkit.tasks import Task
from ragkit_pipelines.compare.results import Cell, make_row, read_cell, write_cell
from ragkit_pipelines.compare.statistics.calibration import calibrated
from ragkit_pipelines.compare.statistics.costs import size_of
from ragkit_pipelines.compare.strategies.base import VARIED, Outcome, Setting, Strategy, sum_known


def majority_score(task: Task) -> float:
    """Score the most frequent output of the pool as the answer to every test row; 0 if the metric cannot score it."""
    if str(task.metric).startswith("judge:"):  # scoring would call a model
        return 0.0
    commonest = Counter(example.output for example in task.examples).most_common(1)[0][0]
    try:
        return sum(task.score_all([commonest] * len(task.test))) / len(task.test)
    except MetricError:
        return 0.0


def setting_key(setting: Setting) -> str:
    """Hash everything that determines the results in a setting, except the strategies."""
    return run_hash(
        task=setting.task.fingerprint,
        seed=[setting.seed_of(what) for what in VARIED] if setting.held else setting.seed,
        embedder=setting.embedder.fingerprint,
        pool=len(setting.pool),
        model=setting.model.fingerprint if setting.model else None,
        trials=setting.trials,
    )


@dataclass(frozen=True, slots=True)
class Job:
    """A unit of work of `compare`: one strategy at one size and seed.

    Attributes:
        strategy: The strategy.
        size: Requested size of the pool; None for the whole pool.
        setting: The setting of the strategy; results are stored in its folder.
        key: Hash of the setting.
    """

    strategy: Strategy
    size: int | None
    setting: Setting
    key: str

    @property
    def title(self) -> str:
        """A readable name."""
        return f"{self.strategy.name}, pool {len(self.setting.pool)}, seed {self.setting.seed}"

    @property
    def file(self) -> Path:
        """The file of its cell."""
        name = self.strategy.name.replace(":", "-").replace("/", "-")
        return self.setting.folder / "kept" / self.key / f"{name}.json"

    @property
    def identity(self) -> tuple[str, str]:
        """Equal for equal jobs, such as those of two sizes that both use the whole pool."""
        return self.key, self.strategy.name


def jobs_on(setting: Setting, size: int | None, strategies: Sequence[Strategy]) -> list[Job]:
    """Return the jobs of one setting.

    Args:
        setting: The setting of the strategies.
        size: Requested size of its pool.
        strategies: The strategies.

    Returns:
        One job per strategy.
    """
    key = setting_key(setting)
    return [Job(strategy, size, setting, key) for strategy in strategies]


def finished(job: Job) -> Cell | None:
    """Load the stored cell of a job, or return None if there is none."""
    return read_cell(job.file, _key_of(job))


def run_job(job: Job) -> Cell:
    """Run one strategy, or load its stored result.

    Args:
        job: The job.

    Returns:
        The cell; if the strategy fails, the cell contains the error and the other strategies still run.
    """
    stored = finished(job)
    if stored is not None:
        return stored
    strategy, setting = job.strategy, replace(job.setting, folder=job.file.parent / "models")
    make_folder(job.file.parent)
    seeds = {f"{what}_seed": setting.seed_of(what) for what in VARIED}
    started = perf_counter()
    error = calibration = None
    scores: list[float] = []
    try:
        if setting.budget is not None:
            setting.budget.reserve(calls=0, tokens=0, money=0.0)  # starts the time limit, or raises if it has passed
        outcome = strategy.run(setting)
        scores = setting.task.score_all(outcome.answers)
        calibration = calibrated(outcome.confidence, scores) if len(outcome.confidence) else None
    except Exception as failure:  # noqa: BLE001 - the other strategies must still run
        outcome, scores, error = Outcome([], seconds=perf_counter() - started), [], _described(failure)
    cell = Cell(
        key=_key_of(job),
        row=make_row(
            strategy=strategy.name,
            model=setting.model.name if setting.model else setting.embedder.name,
            size=len(setting.pool),
            seed=setting.seed,
            n=len(setting.task.test),
            correct=sum(scores),
            prompt_tokens=outcome.prompt_tokens,
            completion_tokens=outcome.completion_tokens,
            seconds=outcome.seconds,
            fit_seconds=outcome.fit_seconds,
            cost=outcome.cost,
            cached_tokens=outcome.cached_tokens,
            fit_tokens=outcome.fit_tokens,
            fit_cost=outcome.fit_cost,
            trials=outcome.trials,
            note=outcome.note,
            error=error,
            labels=len(setting.pool) if outcome.labels is None else outcome.labels,
            trained_tokens=outcome.trained_tokens,
            calibration=calibration,
            unreadable=outcome.unreadable,
            **seeds,
            **_flops(outcome, setting.model),
        ),
        answers=list(outcome.answers),
        scores=scores,
        prompts=list(outcome.prompts),
        confidence=list(outcome.confidence),
    )
    if error is None:
        write_cell(job.file, cell)
    return cell


def _key_of(job: Job) -> str:
    return run_hash(setting=job.key, strategy=repr(job.strategy))


def _flops(outcome: Outcome, model: LanguageModel | None) -> dict[str, Any]:
    """Compute the length of the common prefix of all prompts, and the FLOPs of prediction and fitting."""
    if not outcome.prompts or model is None:
        return {}
    shared = model.count_tokens(_common_prefix(outcome.prompts))
    size, rows = size_of(model), len(outcome.answers)
    if size is None:
        return {"shared_tokens": shared}
    length = (outcome.prompt_tokens + outcome.completion_tokens) / rows
    tried = size.forward(outcome.fit_tokens - outcome.trained_tokens, context=length)
    again = size.forward(max(0.0, length - shared), context=length) * rows + size.forward(shared)
    return {
        "shared_tokens": shared,
        "flops": size.forward(length) * rows,
        "cached_flops": min(again, size.forward(length) * rows),
        "fit_flops": sum_known([outcome.trained_flops, tried]),
    }


def _common_prefix(prompts: Sequence[str]) -> str:
    """Return the common prefix of all prompts; empty if there is only one."""
    first, last = min(prompts), max(prompts)  # the common prefix of the extremes is common to all
    same = next((index for index, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[:same] if len(prompts) > 1 else ""


def _described(failure: Exception) -> str:
    """Describe an error in one line, with its location unless it is a ragkit error."""
    said = f"{type(failure).__name__}: {failure}"
    if isinstance(failure, RagkitError):
        return said
    last = extract_tb(failure.__traceback__)[-1]
    return f"{said} ({Path(last.filename).name}, line {last.lineno})"
