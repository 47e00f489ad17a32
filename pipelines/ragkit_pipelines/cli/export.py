"""The command line for other servers: ``ragkit export`` and ``ragkit parity``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

from ragkit.errors import InvalidInputError
from ragkit.finetuning.exporting import export_merged
from ragkit.models import load_model
from ragkit.progress import progress
from ragkit_pipelines.parity import Parity
from ragkit_pipelines.parity import parity as compare_backends
from ragkit_pipelines.prompt_files import read_prompts

_Text = Optional[str]  # noqa: UP045


def export(
    merged: Annotated[Path, typer.Option(help="Folder for the merged model, new or empty.")],
    model: Annotated[str, typer.Option(help="What to export, such as hf:runs/banking.")] = "tiny",
    adapter: Annotated[_Text, typer.Option(help="Folder of a PEFT adapter to merge.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Merge an adapter into its base, for vLLM, transformers and others.

    Example: ragkit export --model hf:runs/banking --merged runs/banking-merged
    """
    with progress("merging", None):
        made = export_merged(model, merged, adapter=adapter)
    if as_json:
        typer.echo(json.dumps(asdict(made), default=str, indent=1))
        return
    typer.echo(f"written to {made.folder}; serve it with:\n{made.serve_merged}")
    if made.serve_adapter is not None:
        typer.echo(f"or the base with the adapter beside it:\n{made.serve_adapter}")


def parity(
    prompts: Annotated[Path, typer.Option(help='JSON lines such as {"prompt": "…"}.')],
    model: Annotated[str, typer.Option(help="One model.")],
    other: Annotated[str, typer.Option(help="The other one, such as openai:<name> with --base-url.")],
    adapter: Annotated[_Text, typer.Option(help="Folder of a PEFT adapter for --model.")] = None,
    base_url: Annotated[_Text, typer.Option(help="Address of the server of --other.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of an answer.")] = 64,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask two backends the same and show the first difference; exit code 1 where there is one.

    Example: ragkit parity --prompts p.jsonl --model tiny --other openai:tiny --base-url http://127.0.0.1:8000/v1
    """
    _check_different(model, other, adapter=adapter, base_url=base_url)
    asked = read_prompts(prompts)
    found = compare_backends(
        load_model(model, adapter=adapter),
        load_model(other, base_url=base_url),
        asked.prompts,
        max_tokens=max_tokens,
        stop=asked.stop,
    )
    typer.echo(json.dumps(asdict(found), ensure_ascii=False, indent=1) if as_json else _said(found))
    if found.first is not None:
        sys.exit(1)


def _check_different(model: str, other: str, *, adapter: str | None, base_url: str | None) -> None:
    if model == other and adapter is None and base_url is None:
        raise InvalidInputError("--model and --other are the same; give another model, or a server with --base-url")


def _said(found: Parity) -> str:
    lines = [f"{found.equal} of {found.prompts} answers are equal"]
    if (first := found.first) is not None:
        token = "" if first.token is None else f", token {first.token}"
        lines.append(f"the first difference is in prompt {first.place}, at character {first.character}{token}")
        lines.append(f"prompt: {first.prompt!r}")
        for name, text, read, reason in zip(
            found.models, first.texts, first.prompt_tokens, first.finish_reasons, strict=True
        ):
            lines.append(f"{name} ({read} tokens read, end: {reason}): {text!r}")
    return "\n".join(lines)
