"""The command ``ragkit data check``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from ragkit.errors import InvalidInputError
from ragkit.files import write_atomic
from ragkit.progress import progress
from ragkit.records import Example
from ragkit.tasks import Task
from ragkit_pipelines.cli.select import console_of_width
from ragkit_pipelines.data_quality.data_check import DataCheck, check_data, clean_data

InputField = Annotated[str, typer.Option("--input", help="Field of the input, or several separated by commas.")]
OutputField = Annotated[str, typer.Option(help="Field of the output.")]

data_app = typer.Typer(help="Check task data for duplicates, leaks and label noise.", no_args_is_help=True)


@data_app.callback()
def _group() -> None:
    """Typer would otherwise run `check`, the only command, as ``ragkit data``."""


@data_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="JSON Lines or CSV file, or the folder of a dataset.")],
    near: Annotated[float, typer.Option(help="Jaccard similarity of near-duplicates.")] = 0.9,
    show: Annotated[int, typer.Option(help="Number of probably wrong labels to print.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the folds, and of the split if the file has none.")] = 0,
    fields: InputField = "input",
    output: OutputField = "output",
    clean: Annotated[Optional[Path], typer.Option(help="Write the cleaned data to this JSON Lines file.")] = None,  # noqa: UP045
    *,
    noise: Annotated[
        bool, typer.Option("--noise", help="With --clean: also remove rows whose label is probably wrong.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Find duplicates, contradictions, leaked test rows and labels that are probably wrong.

    Example: ragkit data check banking77.jsonl --clean banking77-clean.jsonl
    """
    if clean is not None:
        _refuse_existing(clean)
    task = Task.from_path(file, input=input_of(fields), output=output, seed=seed)
    with progress("checking", None):
        found = check_data(task, near=near, seed=seed)
    if clean is not None:
        kept = clean_data(task, found, noise=noise)
        write_atomic(clean, "".join([*_lines(kept.examples, "train"), *_lines(kept.test, "test")]))
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False, indent=1))
        return
    _show(task, found, show)
    if clean is not None:
        console_of_width().print(escape(f"Cleaned data, without dev rows, written to {clean}"))


def input_of(fields: str) -> str | list[str]:
    """Parse the value of ``--input``.

    Args:
        fields: A field, or several separated by commas.

    Returns:
        The field, or a list of fields.
    """
    return [part.strip() for part in fields.split(",")] if "," in fields else fields


def _show(task: Task, found: DataCheck, show: int) -> None:
    console = console_of_width()
    console.print(escape(f"{task.name}: {len(task.examples)} rows in the pool, {len(task.test)} test rows"))
    for finding in found.findings:
        console.print(escape(f"- {finding}"))
    if not found.findings:
        console.print("No problems were found.")
    for suspect in found.noise.suspects[:show] if found.noise else ():
        text = task.examples[suspect.index].text()
        console.print(escape(f"  {text[:80]!r} has the label {suspect.given!r}, predicted {suspect.predicted!r}"))


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise InvalidInputError(f"{path} already exists; give --clean a new file")


def _lines(rows: Sequence[Example], split: str) -> list[str]:
    lines = []
    for row in rows:
        given = row.input if isinstance(row.input, str) else dict(row.input)
        facts = {**(row.metadata or {}), "input": given, "output": row.output, "split": split}
        facts |= {} if row.id is None else {"id": row.id}
        lines.append(json.dumps(facts, ensure_ascii=False) + "\n")
    return lines
