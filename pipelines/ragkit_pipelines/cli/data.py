"""The commands ``ragkit data check`` and ``ragkit data questions``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ragkit._files import write_atomic
from ragkit._progress import progress
from ragkit.errors import InvalidInputError, UnreadFileWarning
from ragkit.ingest import load_documents
from ragkit.models import AnswerCache, default_model, load_model
from ragkit.records import Example
from ragkit.tasks import Task
from ragkit_pipelines.cli.common import (
    ApiKeyEnv,
    BaseUrl,
    InputField,
    Json,
    MaxReasoningTokens,
    OutputField,
    Reasoning,
    console,
    echo,
    given_model,
    input_of,
    print_json,
    report_unread,
)
from ragkit_pipelines.data_quality.data_check import DataCheck, check_data, clean_data
from ragkit_pipelines.rag_evaluation import generate_questions, write_questions

data_app = typer.Typer(help="Check task data, and generate test questions from documents.", no_args_is_help=True)


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


@data_app.command()
def questions(
    docs: Annotated[Path, typer.Argument(help="A folder of documents, or one document.")],
    *,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Language model; smollm2 if installed.")] = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    reasoning: Reasoning = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    n: Annotated[int, typer.Option(min=1, help="Maximum number of questions.")] = 50,
    chunker: Annotated[str, typer.Option(help="Chunker of the passages: {chunker}.")] = "markdown:1200",
    seed: Annotated[int, typer.Option(help="Seed of the order of the passages.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON Lines file to write.")] = Path("questions.jsonl"),
    as_json: Json = False,
) -> None:
    """Generate test questions from documents, each with its answer and the place of the answer.

    A question is kept only if its answer occurs in the passage and the model finds it there again. The responses of the
    model are stored next to the output until the command is complete, so that an interrupted run resumes.

    Example: ragkit data questions docs/ --model openai:gpt-5-mini --n 100 --out questions.jsonl
    """
    if out.exists():
        raise InvalidInputError(f"{out} already exists; give --out a new file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadFileWarning)  # reported below
        documents = load_documents(docs)
    report_unread(documents.unread)
    given = given_model(model, base_url, api_key_env, reasoning, max_reasoning_tokens) or default_model()
    responses = out.with_name(f"{out.name}.responses")
    with closing(AnswerCache(responses)) as cache:
        found = generate_questions(documents, load_model(given, cache=cache), n, chunker=chunker, seed=seed)
        write_questions(out, found)
    responses.unlink(missing_ok=True)
    if as_json:
        print_json({"questions": len(found), "passages": found.passages, "rejected": found.rejected, "out": str(out)})
        return
    for question in found[:5]:
        echo(f"{question.text} -> {question.answers[0]} ({question.source})")
    echo(f"{found}\nWritten to {out}")


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
