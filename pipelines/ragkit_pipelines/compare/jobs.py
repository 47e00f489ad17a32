"""One cell of a comparison: one strategy at one pool size and seed, run or loaded from its stored result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix
from pathlib import Path
from time import perf_counter
from traceback import extract_tb
from typing import Any

from ragkit._files import make_folder
from ragkit.errors import RagkitError
from ragkit.finetuning._manifest import run_hash
from ragkit.protocols import LanguageModel
from ragkit.tasks import Task
from ragkit_pipelines.compare.private import file_name, without_secrets
from ragkit_pipelines.compare.results import Cell, make_row, read_cell, write_cell
from ragkit_pipelines.compare.statistics.bootstrap import score_interval
from ragkit_pipelines.compare.statistics.calibration import calibrated
from ragkit_pipelines.compare.statistics.costs import size_of
from ragkit_pipelines.compare.statistics.run_scores import SetScores
from ragkit_pipelines.compare.statistics.set_metrics import set_metric
from ragkit_pipelines.compare.strategies.base import VARIED, Outcome, Retrieving, Setting, Strategy, sum_known
from ragkit_pipelines.compare.strategies.timing import warm_up

# What a row takes from the outcome of its strategy as it is.
_FROM_OUTCOME = (
    "prompt_tokens", "completion_tokens", "seconds", "fit_seconds", "cost", "cached_tokens", "fit_tokens", "fit_cost",
    "trials", "note", "trained_tokens", "unreadable", "confidence_kind",
)  # fmt: skip


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
    """One strategy at one size (as requested; None: the whole pool) and seed; ``key`` is the hash of its setting."""

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
        name = file_name(self.strategy.name.replace(":", "-").replace("/", "-"))
        return self.setting.folder / "kept" / self.key / f"{name}.json"

    @property
    def identity(self) -> tuple[str, str]:
        """Equal for equal jobs, such as those of two sizes that both use the whole pool."""
        return self.key, self.strategy.name

    @property
    def cell_key(self) -> str:
        """Hash of everything that determines its cell."""
        strategy, setting = self.strategy, self.setting
        if isinstance(strategy, Retrieving) and strategy.needs_documents(setting.task):
            return run_hash(setting=self.key, strategy=repr(strategy), documents=repr(setting.documents))
        return run_hash(setting=self.key, strategy=repr(strategy))

    def finished(self) -> Cell | None:
        """Load its stored cell, or return None if there is none."""
        cell, setting = read_cell(self.file, self.cell_key), self.setting
        expected = (self.strategy.name, len(setting.pool), setting.seed, len(setting.task.test))
        if cell is None or (cell.row.strategy, cell.row.size, cell.row.seed, cell.row.n) != expected:
            return None
        return cell


def jobs_on(setting: Setting, size: int | None, strategies: Sequence[Strategy]) -> list[Job]:
    """Return one job per strategy in a setting whose pool has the requested size."""
    key = setting_key(setting)
    return [Job(strategy, size, setting, key) for strategy in strategies]


def run_job(job: Job) -> Cell:
    """Run one strategy, or load its stored result; if the strategy fails, the cell contains the error."""
    stored = job.finished()
    if stored is not None:
        return stored
    # Strategies of one name can differ in their settings, such as the number of epochs.
    setting = replace(job.setting, folder=job.file.parent / "models" / job.cell_key)
    make_folder(job.file.parent)
    started = perf_counter()
    try:
        if setting.budget is not None:
            setting.budget.reserve(calls=0, tokens=0, money=0.0)  # starts the time limit, or raises if it has passed
        warm_up(setting.model)
        outcome = job.strategy.run(setting)
        cell = _cell(job, outcome, setting.task.score_all(outcome.answers))
    except Exception as failure:  # noqa: BLE001 - the other strategies must still run
        return _cell(job, Outcome([], seconds=perf_counter() - started), [], error=described(failure))
    write_cell(job.file, cell)
    return cell


def _cell(job: Job, outcome: Outcome, scores: list[float], *, error: str | None = None) -> Cell:
    setting = job.setting
    own = {} if error else _set_score(setting.task, outcome.answers)
    return Cell(
        key=job.cell_key,
        row=make_row(
            strategy=job.strategy.name,
            model=setting.model.name if setting.model else setting.embedder.name,
            size=len(setting.pool),
            seed=setting.seed,
            n=len(setting.task.test),
            correct=sum(scores),
            error=error,
            labels=len(setting.pool) if outcome.labels is None else outcome.labels,
            calibration=calibrated(outcome.confidence, scores) if len(outcome.confidence) else None,
            **{name: getattr(outcome, name) for name in _FROM_OUTCOME},
            **{f"{what}_seed": setting.seed_of(what) for what in VARIED},
            **_flops(outcome, setting.model),
            **own,
        ),
        answers=list(outcome.answers),
        scores=scores,
        prompts=list(outcome.prompts),
        confidence=list(outcome.confidence),
        unreadable_rows=list(outcome.unreadable_rows),
    )


def _set_score(task: Task, answers: Sequence[str]) -> dict[str, Any]:
    """Return the score with its interval if the metric of the task is a set-level one; otherwise nothing."""
    metric = set_metric(task.metric)
    if metric is None:
        return {}
    low, high = score_interval(SetScores(metric, task.test, [[answers]]))
    score = task.overall_score(answers)
    return {"score": score, "low": min(score, low), "high": max(score, high)}


def _flops(outcome: Outcome, model: LanguageModel | None) -> dict[str, Any]:
    """Compute the length of the common prefix of all prompts, and the FLOPs of prediction and fitting."""
    if not outcome.prompts or model is None:
        return {}
    # All prompts of a single row would be its common prefix, but no other prompt shares it.
    shared = model.count_tokens(commonprefix(outcome.prompts) if len(outcome.prompts) > 1 else "")  # noqa: RUF071
    size, rows = size_of(model), len(outcome.answers)
    if size is None:
        return {"shared_tokens": shared}
    calls = rows * outcome.samples
    length = (outcome.prompt_tokens + outcome.completion_tokens) / calls
    tried = size.forward(outcome.fit_tokens - outcome.trained_tokens, context=length)
    again = size.forward(max(0.0, length - shared), context=length) * calls + size.forward(shared)
    return {
        "shared_tokens": shared,
        "flops": size.forward(length) * calls,
        "cached_flops": min(again, size.forward(length) * calls),
        "fit_flops": sum_known([outcome.trained_flops, tried]),
    }


def described(failure: Exception) -> str:
    """Describe an error without secrets, and with its location unless it is a ragkit error."""
    said = without_secrets(f"{type(failure).__name__}: {failure}")
    if isinstance(failure, RagkitError):
        return said
    last = extract_tb(failure.__traceback__)[-1]
    return f"{said} ({Path(last.filename).name}, line {last.lineno})"
