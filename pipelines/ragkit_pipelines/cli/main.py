"""The entry point of the command line, the command ``ragkit demo``, and the handling of errors."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, NoReturn

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not spin; read when torch is loaded

import typer
from rich.markup import escape
from typer.core import TyperCommand

import ragkit
from ragkit.errors import RagkitError
from ragkit_pipelines.cli.advise import advise
from ragkit_pipelines.cli.ask import ask
from ragkit_pipelines.cli.common import (
    ApiKeyEnv,
    BaseUrl,
    Json,
    MaxReasoningTokens,
    Reasoning,
    check_out,
    console,
    echo,
    given_model,
)
from ragkit_pipelines.cli.compare import compare_app, show_comparison
from ragkit_pipelines.cli.components import ListingCommand, list_components
from ragkit_pipelines.cli.data import data_app
from ragkit_pipelines.cli.eval import evaluate
from ragkit_pipelines.cli.export import export, parity
from ragkit_pipelines.cli.finetune import finetune
from ragkit_pipelines.cli.generate import generate
from ragkit_pipelines.cli.index import index_app
from ragkit_pipelines.cli.init import init
from ragkit_pipelines.cli.models import models
from ragkit_pipelines.cli.pearl import pearl_app
from ragkit_pipelines.cli.retriever import finetune_embedder, finetune_reranker
from ragkit_pipelines.cli.select import pool_app, select
from ragkit_pipelines.cli.serve import serve

if TYPE_CHECKING:
    from ragkit.tasks import Task

app = typer.Typer(
    help="Compare prompting, example selection, retrieval, plans and fine-tuning on one task, and use each of them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},  # all commands inherit it
    pretty_exceptions_enable=False,
)

_DEMO = ("zero-shot", "few-shot:random", "few-shot:embedding", "score:embedding+batch", "vote:embedding", "lora")
_DEMO_POOL, _DEMO_TEST = 240, 60
_INTERRUPTED = 130  # the exit code that shells expect after Ctrl-C
# Errors in the command line itself. Typer exports only this subclass, and its base class moved between versions.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


@app.callback(invoke_without_command=True)
def _top(*, version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        echo(ragkit.__version__)
        raise typer.Exit


@app.command()
def demo(
    *,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Language model; smollm2 if installed.")] = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    reasoning: Reasoning = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    seed: Annotated[int, typer.Option(help="Seed of the examples and test rows.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results.")] = Path("runs/demo"),
    as_json: Json = False,
) -> None:
    """Compare prompting, selected examples, scoring and LoRA on customer support requests, offline.

    With --model tiny, the task is to recognise device commands, and the comparison takes half a minute.

    Example: ragkit demo
    """
    from ragkit.models import default_model
    from ragkit_pipelines.compare import compare as run

    check_out(out)
    spec = model or default_model()
    task = _demo_task(spec, seed)
    console(stderr=as_json).print(
        f"Model: [bold]{escape(spec)}[/]. Example of the task: {escape(task.test[0].text()[:100])} "
        f"-> [bold]{escape(task.test[0].output)}[/]"
    )
    loaded = given_model(model, base_url, api_key_env, reasoning, max_reasoning_tokens) or spec
    strategies = None if spec == "tiny" else _DEMO
    show_comparison(run(task, strategies, model=loaded, seeds=[seed], out=out), as_json=as_json)


def _demo_task(spec: str, seed: int) -> Task:
    if spec == "tiny":
        from ragkit.tiny.domains import HOME, task_of

        return task_of(HOME, Random(seed), pool=200, test=60, name="device commands")
    from ragkit_pipelines.datasets import support_requests

    task = support_requests()
    test = Random(seed).sample(list(task.test), _DEMO_TEST)
    return replace(task, examples=task.draw(_DEMO_POOL, seed), test=test, name="support requests")


_COMMANDS: dict[str, Callable[..., None]] = {
    "advise": advise, "ask": ask, "generate": generate, "models": models, "select": select, "finetune": finetune,
    "finetune-embedder": finetune_embedder, "finetune-reranker": finetune_reranker, "eval": evaluate,
    "export": export, "parity": parity, "serve": serve, "components": list_components,
}  # fmt: skip
_GROUPS = {"compare": compare_app, "data": data_app, "pool": pool_app, "index": index_app, "pearl": pearl_app}
for _name, _command in _COMMANDS.items():
    app.command(_name, cls=ListingCommand)(_command)
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)
for _typer in (app, *_GROUPS.values()):
    for _info in _typer.registered_commands:
        if _info.cls in {None, TyperCommand}:
            _info.cls = ListingCommand
app.command("init")(init)  # reads no settings file, so that a broken one does not prevent it


def main() -> None:
    """Run the command line; an error of the user is reported in one line, with exit code 2."""
    # On a terminal, our warnings are one line without the line of code that caused them.
    warnings.showwarning = lambda message, *_: echo(f"warning: {message}", err=True)
    try:
        code = app(prog_name="ragkit", standalone_mode=False)
    except RagkitError as error:
        _fail(str(error))
    except _UsageError as error:
        _report_usage(error)
    except OSError as error:
        if error.filename is None:  # not caused by a file of the user
            raise
        _fail(f"{error.filename}: {error.strerror}")
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        echo("interrupted; rerun the command to resume", err=True)
    sys.exit(code or 0)


def _fail(message: str) -> NoReturn:
    echo(f"error: {message}", err=True)
    sys.exit(2)


def _report_usage(error: Exception) -> NoReturn:
    """Report an error in the command line in one line, or print the help if there are no arguments at all."""
    message, context = error.format_message(), getattr(error, "ctx", None)  # type: ignore[attr-defined]
    if "\n" in message or not message:
        error.show()  # type: ignore[attr-defined]
        sys.exit(2)
    path = getattr(context, "command_path", "")
    if message.startswith("No such command") and path == "ragkit compare":
        message += " Pass rows with --data FILE"
    if not path:
        _fail(message)
    _fail(f"{message} See `{path} --help`" if message.endswith("?") else f"{message.rstrip('.')}; see `{path} --help`")
