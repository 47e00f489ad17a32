"""Scores per test row from result files: comparisons of ragkit, lm-evaluation-harness and promptfoo."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ragkit._text import read_json
from ragkit.errors import DataFileError, InvalidInputError
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.results import Results
from ragkit_pipelines.compare.stored_files import read_limited

_KNOWN = (
    "the folder of a comparison of ragkit, a file samples_<task>_<date>.jsonl of lm-evaluation-harness, or a JSON file "
    "of results of promptfoo"
)
_LM_EVAL = "a file that lm-evaluation-harness 0.4.7 or later writes with --log_samples"
_PROMPTFOO = "results of promptfoo in version 3 of their format, which `promptfoo eval --output results.json` writes"
_ERROR = 2  # promptfoo's reason of a failure if the provider did not answer
_Model = TypeVar("_Model", bound=BaseModel)


class ScoredRun(BaseModel):
    """The scores of one model, prompt or strategy in a result file.

    Attributes:
        file: The file or folder.
        name: Name of the run within the file.
        metric: What the scores measure.
        scores: Score of each row from 0 to 1, by what identifies the row in other files of the same program.
        seed: Seed of the run.
        cost: Cost of the run in US dollars; None if it is unknown.
    """

    model_config = ConfigDict(frozen=True)

    file: Path
    name: str
    metric: str
    scores: dict[str, float]
    seed: int = 0
    cost: float | None = None


def read_scores(path: Path, metric: str | None) -> list[ScoredRun]:
    """Read the runs of a result file, or those of a comparison at its largest pool.

    Args:
        path: A file or a folder; see `judge_files`.
        metric: The metric, if the file contains several.

    Returns:
        The runs. Rows with the same content count as one row, with their mean score.

    Raises:
        DataFileError: If the file cannot be read, or has another format or version.
        InvalidInputError: If the file has several metrics and none was chosen, or not the chosen one.
    """
    if path.is_dir():
        return _of_comparison(path, metric)
    try:
        text = read_limited(path).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataFileError(path, 0, f"expected {_KNOWN}: {error}") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if lines and "doc_id" in _object(lines[0][1]):
        return [_of_lm_eval(path, lines, metric)]
    content = _object(text)
    if isinstance(content.get("results"), Mapping) and "version" in content["results"]:
        return _of_promptfoo(path, content["results"], metric)
    raise DataFileError(path, 0, f"{_hint(content)}expected {_KNOWN}")


def _object(text: str) -> Mapping[str, Any]:
    """Return the JSON object of a text; empty if it is something else."""
    try:
        value = read_json(text)
    except InvalidInputError:
        return {}
    return value if isinstance(value, dict) else {}


def _hint(content: Mapping[str, Any]) -> str:
    if "schema_version" in content:
        return "this is one of the files of a comparison, pass its folder; "
    if "lm_eval_version" in content or {"results", "configs"} <= content.keys():
        return "this file contains means only, run lm-evaluation-harness with --log_samples to get scores per row; "
    return f"found JSON with the fields {', '.join(map(repr, list(content)[:8]))}; " if content else ""


# -- ragkit ------------------------------------------------------------------------------------------------------------


def _of_comparison(folder: Path, metric: str | None) -> list[ScoredRun]:
    results, items = Results.load(folder), Items.load(folder)
    measured = results.provenance.get("metric", "score")
    chosen = _chosen(folder, [measured], metric)
    costs = {(row.strategy, row.size, row.seed): row.cost for row in results.rows}
    rows = [_key(pair) for pair in zip(items.inputs, items.expected, strict=True)]
    size = max((each.size for each in items.answers), default=0)
    return [
        ScoredRun(
            file=folder,
            name=each.strategy,
            metric=chosen,
            scores=_means(zip(rows, each.scores, strict=True)),
            seed=each.seed,
            cost=costs.get((each.strategy, each.size, each.seed)),
        )
        for each in items.answers
        if each.size == size
    ]


# -- lm-evaluation-harness ---------------------------------------------------------------------------------------------


class _Sample(BaseModel):
    """One row of lm-evaluation-harness; the value of each metric is a field of its own."""

    model_config = ConfigDict(extra="allow")

    doc_id: int
    doc_hash: str
    filter: str
    metrics: list[str]


def _of_lm_eval(path: Path, lines: Sequence[tuple[int, str]], metric: str | None) -> ScoredRun:
    """Read one run. As in the harness, a metric is named with the filter of the answers: ``acc,none``."""
    found: dict[str, list[tuple[str, float]]] = {}
    for number, line in lines:
        sample = _validated(_Sample, _object(line), path, number, _LM_EVAL)
        for name in sample.metrics:
            value = (sample.model_extra or {}).get(name)
            if isinstance(value, bool | int | float):  # others are aggregated over the rows, such as BLEU
                found.setdefault(f"{name},{sample.filter}", []).append((sample.doc_hash, float(value)))
    chosen = _chosen(path, list(found), metric)
    scores = _means(found[chosen])
    _check(path, chosen, scores)
    return ScoredRun(file=path, name=path.resolve().parent.name, metric=chosen, scores=scores)


# -- promptfoo ---------------------------------------------------------------------------------------------------------


class _Labelled(BaseModel):
    id: str = ""
    label: str | None = None


class _Result(BaseModel):
    """One row of promptfoo: the answer of one provider to one prompt with the variables of one test."""

    column: int = Field(alias="promptIdx")
    success: bool
    score: float
    provider: _Labelled
    variables: dict[str, Any] = Field(alias="vars")
    named: dict[str, float] = Field(default={}, alias="namedScores")
    failure: int = Field(default=0, alias="failureReason")
    cost: float | None = None


def _of_promptfoo(path: Path, content: Mapping[str, Any], metric: str | None) -> list[ScoredRun]:
    """Read one run for each pair of a prompt and a provider, which promptfoo calls a column."""
    if content["version"] != 3 or not isinstance(content.get("results"), list):
        raise DataFileError(path, 0, f"expected {_PROMPTFOO}; found version {content['version']!r}")
    rows = [
        _validated(_Result, each, path, 0, _PROMPTFOO, f"results.{n}.") for n, each in enumerate(content["results"])
    ]
    failed = sum(row.failure == _ERROR for row in rows)
    if failed:
        raise DataFileError(
            path, 0, f"{failed} of {len(rows)} rows have no answer because the provider failed, and would count as "
            "wrong; repeat them with `promptfoo retry <id of the evaluation>`, and export the results again",
        )  # fmt: skip
    chosen = _chosen(
        path, ["score", "success", *dict.fromkeys(n for row in rows for n in row.named)], metric or "score"
    )
    columns: dict[int, list[_Result]] = defaultdict(list)
    for row in rows:
        columns[row.column].append(row)
    labels = {column: own[0].provider.label or own[0].provider.id for column, own in columns.items()}
    several = Counter(labels.values())
    runs = []
    for column, own in sorted(columns.items()):
        name = labels[column] if several[labels[column]] == 1 else f"{labels[column]}, column {column + 1}"
        scores = _means((_key(row.variables), _value(row, chosen)) for row in own)
        _check(path, chosen, scores)
        costs = [row.cost for row in own if row.cost is not None]
        cost = sum(costs) if len(costs) == len(own) else None
        runs.append(ScoredRun(file=path, name=name, metric=chosen, scores=scores, cost=cost))
    return runs


def _value(row: _Result, metric: str) -> float:
    """Return the score of a row by a metric; a row without this named score is NaN, which `_check` rejects."""
    if metric in row.named:
        return row.named[metric]
    return {"score": row.score, "success": float(row.success)}.get(metric, math.nan)


# -- all formats -------------------------------------------------------------------------------------------------------


def _validated(kind: type[_Model], value: object, path: Path, line: int, expected: str, where: str = "") -> _Model:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = where + ".".join(map(str, first["loc"]))
        raise DataFileError(
            path, line, f"`{field.strip('.')}`: {first['msg']}; expected {expected}; the file was written by another "
            "version of the program, or was modified",
        ) from error  # fmt: skip


def _chosen(path: Path, available: Sequence[str], metric: str | None) -> str:
    """Return the chosen metric, whose filter can be omitted, or the only one that is available."""
    found = [name for name in available if metric is None or name == metric or name.startswith(f"{metric},")]
    if len(found) == 1 or metric in found:
        return metric if metric in found else found[0]
    what = "has no metric with a score per row" if metric is None else f"has no metric {metric!r}"
    if found:
        what = f"has several metrics{'' if metric is None else f' {metric!r}'}"
    listed = f"; choose one with `metric` (--metric): {', '.join(map(repr, found or available))}" if available else ""
    raise InvalidInputError(f"{path} {what}{listed}")


def _means(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the mean score of each row."""
    found: dict[str, list[float]] = defaultdict(list)
    for row, score in pairs:
        found[row].append(score)
    return {row: math.fsum(scores) / len(scores) for row, scores in found.items()}


def _check(path: Path, metric: str, scores: Mapping[str, float]) -> None:
    wrong = next((score for score in scores.values() if not 0 <= score <= 1), None)
    if wrong is not None:
        raise InvalidInputError(
            f"{path}: the metric {metric!r} has the value {wrong:g}; expected a score from 0 to 1 for every row, "
            "higher is better; choose another metric with `metric` (--metric)"
        )


def _key(content: object) -> str:
    return json.dumps(content, sort_keys=True, ensure_ascii=False)
