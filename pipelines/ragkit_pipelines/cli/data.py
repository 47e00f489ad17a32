"""The command ``ragkit data check``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ragkit._files import write_atomic
from ragkit._progress import progress
from ragkit.errors import InvalidInputError
from ragkit.records import Example
from ragkit.tasks import Task
from ragkit_pipelines.cli.common import InputField, Json, OutputField, console, input_of, print_json
from ragkit_pipelines.data_quality.data_check import DataCheck, check_data, clean_data

data_app = typer.Typer(help="Check task data for duplicates, leaks and label noise.", no_args_is_help=True)


@data_app.callback()
def _group() -> None:
    """Make this a group: without a callback, typer would run its only command as ``ragkit data``."""


@data_app.command()
def check(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines, CSV, Excel or Parquet file, the folder of a dataset, or hub:<id>.")
    ],
    near: Annotated[float, typer.Option(help="Jaccard similarity of near-duplicates.")] = 0.9,
    show: Annotated[int, typer.Option(help="Number of suspicious labels to print.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the folds, and of the split if the file has none.")] = 0,
    fields: InputField = "input",
    output: OutputField = "output",
    clean: Annotated[Path | None, typer.Option(help="Write the cleaned data to this JSON Lines file.")] = None,
    *,
    noise: Annotated[
        bool, typer.Option("--noise", help="With --clean, also remove rows that are probably mislabelled.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find duplicates, contradictions, leaked test rows and suspicious labels.

    Example: ragkit data check banking77.jsonl --clean banking77-clean.jsonl
    """
    if clean is not None and clean.exists():
        raise InvalidInputError(f"{clean} already exists; give --clean a new file")
    with progress(f"reading {file.name}", None):
        task = Task.from_path(file, input=input_of(fields), output=output, seed=seed)
    with progress("checking", None):
        found = check_data(task, near=near, seed=seed)
    if clean is not None:
        kept = clean_data(task, found, noise=noise)
        write_atomic(clean, "".join([*_lines(kept.examples, "train"), *_lines(kept.test, "test")]))
    if as_json:
        print_json(asdict(found))
        return
    _show(task, found, show)
    if clean is not None:
        console().print(escape(f"Cleaned data, without dev rows, written to {clean}"))


def _show(task: Task, found: DataCheck, show: int) -> None:
    shown = console()
    shown.print(escape(f"{task.name}: {len(task.examples)} rows in the pool, {len(task.test)} test rows"))
    for finding in found.findings:
        shown.print(escape(f"- {finding}"))
    if not found.findings:
        shown.print("No problems were found.")
    for suspect in found.noise.suspects[:show] if found.noise else ():
        text = task.examples[suspect.index].text()
        given = f"{suspect.given!r} ({suspect.confidence:.1%})"
        shown.print(
            escape(f"  {text[:80]!r}: {given}, predicted {suspect.predicted!r} ({suspect.predicted_confidence:.1%})")
        )


def _lines(rows: Sequence[Example], split: str) -> list[str]:
    lines = []
    for row in rows:
        given = row.input if isinstance(row.input, str) else dict(row.input)
        facts = {**(row.metadata or {}), "input": given, "output": row.output, "split": split}
        facts |= {} if row.id is None else {"id": row.id}
        lines.append(json.dumps(facts, ensure_ascii=False) + "\n")
    return lines
