"""A comparison that the command line requests: its options, as ``run.json`` stores them, and how it is run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from itertools import count
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from ragkit._text import read_json
from ragkit.errors import DataFileError, InvalidInputError
from ragkit.models import load_model
from ragkit.models._budget import Budget
from ragkit.models._reasoning import ReasoningLevel
from ragkit.tasks import Task
from ragkit_pipelines.cli.common import check_out, echo, given_model, input_of

if TYPE_CHECKING:
    from ragkit.protocols import LanguageModel
    from ragkit.workers import WorkerPool
    from ragkit_pipelines.compare import CompareOptions, Comparison, Estimate, Strategy


class Request(BaseModel):
    """The options of the command line, stored in ``run.json`` to resume the comparison."""

    model_config = ConfigDict(extra="forbid")

    data: Path
    input: str = "input"
    output: str = "output"
    strategies: str | None
    sizes: str | None
    seeds: str
    model: str | None
    embedder: str
    instruction: str
    metric: str | None = None
    trials: int = 0
    docs: Path | None = None
    checks: Literal["report", "clean", "off"] = "report"
    label_price: float | None = None
    prices: Path | None = None
    vary: str = "data,model,order"
    base_url: str | None = None
    api_key_env: str | None = None
    reasoning: ReasoningLevel | None = None
    max_reasoning_tokens: int | None = None
    limit: int | None = None
    k: int | None = None
    samples: int | None = None
    epochs: int | None = None
    max_tokens: int | None = None
    margin: float = 0.01
    budget_calls: int | None = None
    budget_tokens: int | None = None
    budget_money: float | None = None
    normalise_labels: bool = False
    batch: bool = False
    poll_seconds: float = 30.0
    tracker: str | None = None


def read_request(folder: Path) -> Request:
    """Read the request that the folder of a comparison stores.

    Raises:
        DataFileError: If the folder contains none.
    """
    from ragkit_pipelines.compare.stored_files import read_limited

    path = folder / "run.json"
    try:
        stored: Any = read_json(read_limited(path))
        return Request.model_validate_json(stored["request"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = "expected the options of `ragkit compare`; run `ragkit compare --data … --out` with this folder"
        raise DataFileError(path, 0, problem) from error


def run_request(request: Request, out: Path | None, workers: WorkerPool | None) -> Comparison:
    """Run a requested comparison; ``out`` is `default_folder` if None."""
    from ragkit_pipelines.compare import compare
    from ragkit_pipelines.compare.planning import stored_data

    if out is not None:
        check_out(out)
    task, notes = _task(request)
    seeds = _numbers("--seeds", request.seeds)
    strategies, options = _strategies(request, task), _options(request, workers, notes)
    model, budget = _model(request, workers), _budget(request)
    if out is None:
        out = default_folder(task, request.checks, date.today())
        echo(f"output folder: {out}", err=True)
    if (out / "run.json").is_file() and stored_data(out) == _compared(task, request.checks):
        echo(f"resuming in {out}: finished strategies and cached responses are not repeated", err=True)
    return compare(
        task, strategies, model=model, embedder=request.embedder, sizes=_sizes(request.sizes, task), seeds=seeds,
        budget=budget, out=out, options=options, tracker=request.tracker,
    )  # fmt: skip


def estimate_request(request: Request) -> Estimate:
    """Estimate a requested comparison without running it; in batch mode, the model is not called."""
    from ragkit_pipelines.compare import estimate
    from ragkit_pipelines.compare.rehearsal import Rehearsal

    task, notes = _task(request)
    model = _model(request, None)
    if request.batch and model is not None and not isinstance(model, str):
        model = Rehearsal(model)
    return estimate(
        task, _strategies(request, task), model=model, embedder=request.embedder,
        sizes=_sizes(request.sizes, task), seeds=_numbers("--seeds", request.seeds), budget=_budget(request),
        options=_options(request, None, notes),
    )  # fmt: skip


def _task(request: Request) -> tuple[Task, dict[str, str]]:
    """Read the task of a request, limited to its number of test rows; also return the notes about it."""
    from ragkit_pipelines.compare.private import refuse_secrets

    refuse_secrets({name: str(value) for name, value in request.model_dump().items()})
    seeds = _numbers("--seeds", request.seeds)
    given = Task.from_path(
        request.data, input=input_of(request.input), output=request.output, instruction=request.instruction,
        metric=request.metric, normalise_labels=request.normalise_labels,
    )  # fmt: skip
    _refuse_one_output(given, request)
    task = _limited(given, request.limit, seeds[0])
    notes = {}
    if len(task.test) < len(given.test):
        notes["test_rows"] = f"{len(task.test)} of {len(given.test)}, drawn with seed {seeds[0]}"
        echo(f"test rows: {notes['test_rows']} (--limit)", err=True)
    return task, notes


def default_folder(task: Task, checks: Literal["report", "clean", "off"], day: date) -> Path:
    """Return the output folder of a comparison if none is given: ``runs/<name of the data file>-<date>``.

    Returns:
        The first of the folders without a number and with ``-2``, ``-3``, …, that does not exist yet or contains a
        comparison on the same data.
    """
    from ragkit_pipelines.compare.planning import stored_data

    compared = _compared(task, checks)
    first = Path("runs") / f"{task.name}-{day.isoformat()}"
    folders = (first if number == 1 else Path(f"{first}-{number}") for number in count(1))
    return next(folder for folder in folders if not folder.exists() or stored_data(folder) == compared)


def _compared(task: Task, checks: Literal["report", "clean", "off"]) -> str:
    """Return the fingerprint of the task that is compared, without the rows that checks exclude."""
    from ragkit_pipelines.compare.data_checks import check_task

    with warnings.catch_warnings():  # the comparison repeats them
        warnings.simplefilter("ignore")
        # Only cleaning changes the data.
        return check_task(task, "clean" if checks == "clean" else "off")[0].fingerprint


def _refuse_one_output(task: Task, request: Request) -> None:
    """Raise an error if all rows have the same output, so that every strategy could only answer correctly."""
    outputs = {row.output for row in (*task.examples, *task.test)}
    if len(outputs) == 1:
        raise DataFileError(
            request.data, 0, f"all rows have the output {outputs.pop()[:80]!r}, so there is nothing to compare; "
            f"expected at least two different values in {request.output!r}, or another field with --output",
        )  # fmt: skip


def _limited(task: Task, limit: int | None, seed: int) -> Task:
    """Return the task with at most ``limit`` of its test rows, in their order."""
    if limit is None or limit >= len(task.test):
        return task
    drawn = sorted(Random(f"limit {seed}").sample(range(len(task.test)), limit))
    return replace(task, test=[task.test[index] for index in drawn])


def _model(request: Request, workers: WorkerPool | None) -> str | LanguageModel | None:
    """Return the spec of the model, or the model at the address, with the key or in the mode that were given."""
    options = (request.base_url, request.api_key_env, request.reasoning, request.max_reasoning_tokens)
    if request.batch:
        if workers is not None:
            raise InvalidInputError("--batch cannot be combined with --engine; omit one of them")
        if request.model is None:
            raise InvalidInputError("--batch requires --model, such as --model openai:<name>")
        return load_model(
            request.model, base_url=request.base_url, api_key_env=request.api_key_env, reasoning=request.reasoning,
            max_reasoning_tokens=request.max_reasoning_tokens, batch=True, poll_seconds=request.poll_seconds,
        )  # fmt: skip
    if workers is not None and any(value is not None for value in options):
        raise InvalidInputError(
            "--base-url, --api-key-env, --reasoning and --max-reasoning-tokens cannot be combined with --engine; omit "
            "--engine"
        )
    return given_model(request.model, *options)


def _budget(request: Request) -> Budget | None:
    limits = (request.budget_calls, request.budget_tokens, request.budget_money)
    if limits == (None, None, None):
        return None
    return Budget(calls=request.budget_calls, tokens=request.budget_tokens, money=request.budget_money)


def _strategies(request: Request, task: Task) -> list[Strategy]:
    """Load the strategies with the settings that the options give to all of them."""
    from ragkit_pipelines.compare.planning import default_strategies
    from ragkit_pipelines.compare.strategies.named import load_strategy

    listed = request.strategies
    names = default_strategies(task, request.docs) if listed is None else _names("--strategies", listed)
    every = {name: getattr(request, name) for name in ("k", "samples", "epochs", "max_tokens")}
    settings = {name: value for name, value in every.items() if value is not None}
    loaded = [load_strategy(name, settings) for name in names]
    for name, value in settings.items():
        if not any(getattr(strategy, name, None) == value for strategy in loaded):
            raise InvalidInputError(
                f"--{name.replace('_', '-')} does not apply to any of the strategies {', '.join(names)}; omit it"
            )
    return loaded


def _options(request: Request, workers: WorkerPool | None, notes: Mapping[str, str]) -> CompareOptions:
    from ragkit_pipelines.compare import CompareOptions, PriceRange

    paths = {name: path.resolve() for name in ("data", "docs", "prices") if (path := getattr(request, name))}
    stored = request.model_copy(update=paths)
    return CompareOptions(
        vary=_names("--vary", request.vary),  # type: ignore[arg-type]  # checked by the options
        trials=request.trials, documents=request.docs, checks=request.checks, label_price=request.label_price,
        prices=None if request.prices is None else PriceRange.load(request.prices), workers=workers,
        margin=request.margin, notes={"request": stored.model_dump_json(), **notes},
    )  # fmt: skip


def _sizes(text: str | None, task: Task) -> list[int | None]:
    if text is None:
        per_label = [len(task.labels) * each for each in (1, 10)] if task.labels else []
        return [*(size for size in per_label if size < len(task.examples)), None]
    return [None if part.strip() == "all" else _numbers("--sizes", part)[0] for part in text.split(",")]


def _names(option: str, text: str) -> list[str]:
    names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise InvalidInputError(f"{option} must be names separated by commas, got {text!r}")
    return names


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidInputError(f"{option} must be integers separated by commas, got {text!r}") from error
