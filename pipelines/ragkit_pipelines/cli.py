"""The command line: ``ragkit compare``, ``ragkit demo`` and what the modules beside it add."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from random import Random
from typing import Annotated, Optional

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not spin; read when torch is loaded

import typer
from rich.console import Console

import ragkit
from ragkit.errors import InvalidInputError, RagkitError
from ragkit.tasks import Task
from ragkit_pipelines.cli_advise import advise
from ragkit_pipelines.cli_data import data_app
from ragkit_pipelines.cli_finetune import finetune
from ragkit_pipelines.cli_index import index_app
from ragkit_pipelines.cli_pearl import pearl_app
from ragkit_pipelines.cli_select import pool_app, select

app = typer.Typer(help="One task through prompting, example selection and fine-tuning, measured.", no_args_is_help=True,
                  pretty_exceptions_enable=False, add_completion=True)  # fmt: skip


@app.callback(invoke_without_command=True)
def _top(*, version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(ragkit.__version__)
        raise typer.Exit


@app.command()
def compare(  # noqa: PLR0913 - the options of a command
    data: Annotated[Path, typer.Option(help="JSON lines or CSV with input, output, split; or a dataset's folder.")],
    strategies: Annotated[Optional[str], typer.Option(help="Names, separated by commas.")] = None,  # noqa: UP045
    sizes: Annotated[Optional[str], typer.Option(help="Pool sizes, such as 77,770,all.")] = None,  # noqa: UP045
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0",
    model: Annotated[Optional[str], typer.Option(help="Language model, such as tiny.")] = None,  # noqa: UP045
    embedder: Annotated[str, typer.Option(help="Embedder, such as minilm or hash:384.")] = "minilm",
    instruction: Annotated[str, typer.Option(help="What the model is told.")] = "",
    metric: Annotated[Optional[str], typer.Option(help="Such as f1, choice or sql:geo.sqlite.")] = None,  # noqa: UP045
    trials: Annotated[int, typer.Option(help="Settings that each strategy may try on held-out examples.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for results; a killed run goes on from it.")] = Path("runs/compare"),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of a table.")] = False,
) -> None:
    """Compare strategies on one task.

    Example: ragkit compare --data banking77.jsonl --strategies tfidf,vote:bm25 --sizes 77,770,all --out runs/banking
    """
    from ragkit_pipelines.compare import compare as run

    task = Task.from_path(data, instruction=instruction, metric=metric)
    asked = strategies.split(",") if strategies else None
    result = run(
        task,
        asked,
        model=model,
        embedder=embedder,
        sizes=_sizes(sizes, task),
        seeds=_numbers("--seeds", seeds),
        trials=trials,
        out=out,
    )
    _show(result, as_json=as_json)


@app.command()
def demo(
    *,
    seed: Annotated[int, typer.Option(help="Seed of the requests drawn.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("runs/demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of a table.")] = False,
) -> None:
    """Compare prompting, example selection and LoRA on device commands, offline.

    Example: ragkit demo
    """
    from ragkit.tiny.domains import HOME, task_of
    from ragkit_pipelines.compare import compare as run

    task = task_of(HOME, Random(seed), pool=200, test=60, name="device commands")
    console = Console(stderr=as_json)
    console.print(
        f"The task, which the model never saw: [bold]{task.test[0].text()}[/] -> [bold]{task.test[0].output}[/]"
    )
    _show(run(task, model="tiny", seeds=[seed], out=out), as_json=as_json)


app.command()(advise)
app.command()(finetune)
app.command()(select)
app.add_typer(data_app, name="data")
app.add_typer(pool_app, name="pool")
app.add_typer(index_app, name="index")
app.add_typer(pearl_app, name="pearl")


def _show(result: ragkit.Comparison, *, as_json: bool) -> None:
    if as_json:
        typer.echo(result.results.model_dump_json(indent=1))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(result.table())
    if result.results.leaked_test_rows:
        console.print(f"{result.results.leaked_test_rows} test rows stood in the pool and were removed.")
    for row in result.results.rows:
        if row.error:
            console.print(f"{row.strategy} failed at pool {row.size}, seed {row.seed}: {row.error}", markup=False)
    chosen = result.recommendation
    console.print(f"Recommendation: [bold]{chosen.strategy or 'none'}[/]. {chosen.evidence}.")
    if result.folder:
        console.print(f"Written to {result.folder / 'results.json'}")


def _sizes(text: str | None, task: Task) -> list[int | None]:
    if text is None:
        per_label = [len(task.labels) * each for each in (1, 10)] if task.labels else []
        return [*(size for size in per_label if size < len(task.examples)), None]
    return [None if part.strip() == "all" else _numbers("--sizes", part)[0] for part in text.split(",")]


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidInputError(f"{option} takes whole numbers separated by commas, got {text!r}") from error


def main() -> None:
    """Run the command line; a user's mistake ends with one clear line and exit code 2."""
    # Warnings of ours are one line for a reader of a terminal, not a place in a source file.
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)  # noqa: T201
    try:
        app()
    except RagkitError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("stopped; run the same command again to go on", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
