"""Options, input and output that several commands share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from typing_extensions import override

from ragkit._text import read_json
from ragkit.errors import InvalidInputError
from ragkit.ingest._loading import Unread
from ragkit.models import load_model
from ragkit.models._reasoning import ReasoningLevel
from ragkit.workers import WorkerPool
from ragkit_pipelines.printable import printable, printable_json

if TYPE_CHECKING:
    from ragkit.protocols import LanguageModel

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Embedder = Annotated[str, typer.Option(help="Embedder: {embedder}.")]  # of commands whose help lists components
BaseUrl = Annotated[str | None, typer.Option(help="Base URL of an OpenAI-compatible server.")]
ApiKeyEnv = Annotated[
    str | None, typer.Option(help="Name of the environment variable with the API key; by default the provider's.")
]
Reasoning = Annotated[ReasoningLevel | None, typer.Option(help="How much a reasoning model reasons before it answers.")]
MaxReasoningTokens = Annotated[int | None, typer.Option(min=0, help="Maximum number of tokens of the reasoning.")]
Adapter = Annotated[str | None, typer.Option(help="Folder of a PEFT adapter.")]
Where = Annotated[str | None, typer.Option(help='Metadata filter as JSON, such as {"lang": "en"}.')]
InputField = Annotated[str, typer.Option("--input", help="Field of the input, or several separated by commas.")]
OutputField = Annotated[str, typer.Option(help="Field of the output.")]
Engine = Annotated[str, typer.Option(help="Where the work runs: inline, process or ray.")]
Workers = Annotated[int, typer.Option(help="Number of workers, if the engine is process or ray.")]
MaxCalls = Annotated[
    int | None, typer.Option("--budget-calls", "--max-calls", help="Maximum number of model calls in total.")
]
MaxTokens = Annotated[int | None, typer.Option("--budget-tokens", help="Maximum number of tokens in total.")]
MaxMoney = Annotated[
    float | None, typer.Option("--budget-money", "--max-money", help="Maximum cost in total, in US dollars.")
]


def given_model(
    model: str | None,
    base_url: str | None,
    api_key_env: str | None,
    reasoning: ReasoningLevel | None = None,
    max_reasoning_tokens: int | None = None,
) -> str | LanguageModel | None:
    """Return the spec of a model, or the model itself if other options say how to reach it or how it reasons."""
    given = {
        "base_url": base_url, "api_key_env": api_key_env, "reasoning": reasoning,
        "max_reasoning_tokens": max_reasoning_tokens,
    }  # fmt: skip
    options = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if not options:
        return model
    if model is None:
        raise InvalidInputError(f"pass --model with {' and '.join(options)}, such as --model openai:<name>")
    return load_model(
        model, base_url=base_url, api_key_env=api_key_env, reasoning=reasoning,
        max_reasoning_tokens=max_reasoning_tokens,
    )  # fmt: skip


def worker_pool(engine: str, workers: int) -> WorkerPool | None:
    """Return the pool that ``--engine`` and ``--workers`` describe; None if the work runs in this process."""
    return None if engine == "inline" else WorkerPool(engine, workers=workers)  # type: ignore[arg-type]


def input_of(fields: str) -> str | list[str]:
    """Parse the value of ``--input``: one field, or several separated by commas."""
    return [part.strip() for part in fields.split(",")] if "," in fields else fields


def json_object(option: str, text: str, example: str) -> dict[str, Any]:
    """Parse the value of an option that takes a JSON object."""
    expected = f"{option} must be a JSON object such as {example}"
    try:
        value = read_json(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{expected}, got {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInputError(f"{expected}, got {text!r}")
    return value


def read_filter(text: str | None) -> dict[str, Any] | None:
    """Parse the value of ``--where``."""
    return None if text is None else json_object("--where", text, '{"lang": "en"}')


def check_out(folder: Path) -> None:
    """Reject an output folder that is a file, or that is not empty and contains no comparison."""
    if folder.is_dir():
        # An interrupted run may have left an index of documents, which is written before run.json.
        foreign = any(not each.name.startswith("documents-") for each in folder.iterdir())
        if foreign and not (folder / "run.json").is_file():
            raise InvalidInputError(f"{folder} is not empty and contains no comparison; give --out another folder")
    elif folder.exists():
        raise InvalidInputError(f"{folder} is not a directory; give --out a folder")


# -- printing: all commands print through these functions, which show control characters escaped ---------------------


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text, with control characters escaped."""
    typer.echo(printable(text), err=err, nl=nl)


def echo_json(text: str) -> None:
    """Print JSON, with control characters in its strings escaped."""
    typer.echo(printable_json(text))


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    echo_json(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, stderr: bool = False) -> None:
    """Print a table; without columns it has no header. Cells are printed verbatim, never read as markup."""
    table = Table(*columns, show_header=bool(columns))
    for row in rows:
        table.add_row(*map(escape, row))
    console(stderr=stderr).print(table)


def report_unread(unread: Iterable[Unread]) -> None:
    """Report the files that could not be read on standard error."""
    for each in unread:
        echo(f"not read: {each.source}: {each.reason}", err=True)


def console(*, stderr: bool = False) -> Console:
    """Return a console that escapes control characters, and does not wrap tables if the output is not a terminal."""
    shown = Console(stderr=stderr)
    if not shown.is_terminal:
        shown = Console(stderr=stderr, width=500)
    shown.push_render_hook(_EscapeControls())
    return shown


class _EscapeControls(RenderHook):
    """Escapes control characters in everything that a console prints, and removes links."""

    @override
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(each) for each in renderables]


@dataclass(frozen=True)
class _Escaped:
    renderable: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for text, style, control in console.render(self.renderable, options):
            if control:
                yield Segment(text, style, control)
            else:
                yield Segment(printable(text), style.update_link(None) if style else None)
