"""The command line: ``ragkit demo`` and what the modules beside it add."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, NoReturn

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not spin; read when torch is loaded

import typer
from rich.markup import escape

import ragkit
from ragkit.errors import RagkitError
from ragkit_pipelines.cli.advise import advise
from ragkit_pipelines.cli.ask import ask
from ragkit_pipelines.cli.compare import check_out, compare_app, show_comparison
from ragkit_pipelines.cli.components import ListingCommand, list_components
from ragkit_pipelines.cli.data import data_app
from ragkit_pipelines.cli.eval import evaluate
from ragkit_pipelines.cli.export import export, parity
from ragkit_pipelines.cli.finetune import finetune
from ragkit_pipelines.cli.generate import generate
from ragkit_pipelines.cli.index import index_app
from ragkit_pipelines.cli.models import models
from ragkit_pipelines.cli.pearl import pearl_app
from ragkit_pipelines.cli.retriever import finetune_embedder, finetune_reranker
from ragkit_pipelines.cli.select import console_of_width, pool_app, select
from ragkit_pipelines.cli.serve import serve

if TYPE_CHECKING:
    from ragkit.tasks import Task

app = typer.Typer(help="One task through prompting, example selection and fine-tuning, measured.", no_args_is_help=True,
                  pretty_exceptions_enable=False, add_completion=True)  # fmt: skip


@app.callback(invoke_without_command=True)
def _top(*, version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(ragkit.__version__)
        raise typer.Exit


_DEMO = ("zero-shot", "few-shot:random", "few-shot:embedding", "score:embedding+batch", "vote:embedding", "lora")
_DEMO_POOL, _DEMO_TEST = 240, 60


@app.command()
def demo(
    *,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Spec of the model; smollm2 if it is installed.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the rows drawn.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("runs/demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of a table.")] = False,
) -> None:
    """Compare prompting, selected examples, scoring and LoRA on customer support requests, offline.

    With --model tiny, the task is device commands, and it takes half a minute.

    Example: ragkit demo
    """
    from ragkit.models import default_model
    from ragkit_pipelines.compare import compare as run

    check_out(out)
    spec = model or default_model()
    task = _demo_task(spec, seed)
    console = console_of_width(stderr=as_json)
    console.print(
        f"Model: [bold]{escape(spec)}[/]. Example of the task: {escape(task.test[0].text()[:100])} "
        f"-> [bold]{escape(task.test[0].output)}[/]"
    )
    strategies = None if spec == "tiny" else _DEMO
    show_comparison(run(task, strategies, model=spec, seeds=[seed], out=out), as_json=as_json)


def _demo_task(spec: str, seed: int) -> Task:
    if spec == "tiny":
        from ragkit.tiny.domains import HOME, task_of

        return task_of(HOME, Random(seed), pool=200, test=60, name="device commands")
    from ragkit_pipelines.datasets import support_requests

    task = support_requests()
    test = Random(seed).sample(list(task.test), _DEMO_TEST)
    return replace(task, examples=task.draw(_DEMO_POOL, seed), test=test, name="support requests")


app.add_typer(compare_app, name="compare")
app.command()(export)
app.command(cls=ListingCommand)(advise)
app.command("components")(list_components)
app.command()(finetune)
app.command(cls=ListingCommand)(finetune_embedder)
app.command(cls=ListingCommand)(finetune_reranker)
app.command()(generate)
app.command()(models)
app.command()(parity)
app.command(cls=ListingCommand)(select)
app.command(cls=ListingCommand)(ask)
app.command("eval", cls=ListingCommand)(evaluate)
app.command()(serve)
app.add_typer(data_app, name="data")
app.add_typer(pool_app, name="pool")
app.add_typer(index_app, name="index")
app.add_typer(pearl_app, name="pearl")


# What the command line itself refuses. Typer names only this member of the family, whose module moved between versions.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_STOPPED = 130  # what shells expect of a command that Ctrl-C ended


def main() -> None:
    """Run the command line; a user's mistake ends with one clear line and exit code 2."""
    # Warnings of ours are one line for a reader of a terminal, not a place in a source file.
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)  # noqa: T201
    try:
        code = app(prog_name="ragkit", standalone_mode=False)
    except RagkitError as error:
        _fail(str(error))
    except _UsageError as error:
        _refuse(error)
    except OSError as error:
        if error.filename is None:  # no file of the user's
            raise
        _fail(f"{error.filename}: {error.strerror}")
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    if code == _STOPPED:
        typer.echo("stopped; run the same command again to go on", err=True)
    sys.exit(code or 0)


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    sys.exit(2)


def _refuse(error: Exception) -> NoReturn:
    """Say in one line what the command line got wrong; no arguments at all are answered with the help."""
    message, context = error.format_message(), getattr(error, "ctx", None)  # type: ignore[attr-defined]
    if "\n" in message or not message:
        error.show()  # type: ignore[attr-defined]
        sys.exit(2)
    help_of = "" if context is None else f"; see `{context.command_path} --help`"
    if message.startswith("No such command") and getattr(context, "command_path", "") == "ragkit compare":
        message += " Rows are given with --data FILE"
    if message.endswith("?"):
        help_of = help_of.replace("; see", " See")
    _fail(message.rstrip(".") + help_of)
