"""The commands ``ragkit export`` and ``ragkit parity``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ragkit._progress import progress
from ragkit.errors import InvalidInputError
from ragkit.finetuning._exporting import export_merged
from ragkit.models import load_model
from ragkit_pipelines.cli.common import Adapter, ApiKeyEnv, Json, MaxReasoningTokens, Reasoning, echo, print_json
from ragkit_pipelines.parity import Parity
from ragkit_pipelines.parity import parity as compare_backends
from ragkit_pipelines.prompt_files import read_prompts


def export(
    merged: Annotated[Path, typer.Option(help="Folder for the merged model; new or empty.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Model to export, such as hf:runs/banking.")] = "tiny",
    adapter: Adapter = None,
    *,
    as_json: Json = False,
) -> None:
    """Merge an adapter into its base model, so that vLLM, transformers and other programs can load it.

    Example: ragkit export --model hf:runs/banking --merged runs/banking-merged
    """
    with progress("merging", None):
        made = export_merged(model, merged, adapter=adapter)
    if as_json:
        print_json(asdict(made))
        return
    echo(f"Written to {made.folder}. To serve it, run:\n{made.serve_merged}")
    if made.serve_adapter is not None:
        echo(f"To serve the base model with the adapter instead, run:\n{made.serve_adapter}")


def parity(
    prompts: Annotated[Path, typer.Option(help='JSON Lines file, such as {"prompt": "…"}.')],
    model: Annotated[str, typer.Option("--model", "-m", help="First model.")],
    other: Annotated[str, typer.Option(help="Second model, such as openai:<name> with --base-url.")],
    adapter: Annotated[str | None, typer.Option(help="Folder of a PEFT adapter for --model.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Base URL of the server of --other.")] = None,
    api_key_env: ApiKeyEnv = None,
    reasoning: Reasoning = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    max_tokens: Annotated[int, typer.Option(help="Maximum number of tokens per answer.")] = 64,
    *,
    as_json: Json = False,
) -> None:
    """Send the same prompts to two backends, and show the first difference between their answers.

    The exit code is 1 if any answers differ.

    Example: ragkit parity --prompts p.jsonl --model tiny --other openai:tiny --base-url http://127.0.0.1:8000/v1
    """
    if model == other and adapter is None and base_url is None and api_key_env is None:
        raise InvalidInputError("--model and --other are the same; pass another model, or a server with --base-url")
    read = read_prompts(prompts)
    found = compare_backends(
        load_model(model, adapter=adapter, reasoning=reasoning, max_reasoning_tokens=max_reasoning_tokens),
        load_model(
            other, base_url=base_url, api_key_env=api_key_env, reasoning=reasoning,
            max_reasoning_tokens=max_reasoning_tokens,
        ),
        read.prompts, max_tokens=max_tokens, stop=read.stop,
    )  # fmt: skip
    if as_json:
        print_json(asdict(found))
    else:
        _show(found)
    if found.first is not None:
        sys.exit(1)


def _show(found: Parity) -> None:
    echo(f"{found.equal} of {found.prompts} answers are equal")
    if (first := found.first) is None:
        return
    token = "" if first.token is None else f", token {first.token}"
    echo(f"first difference: prompt {first.index}, character {first.character}{token}")
    echo(f"prompt: {first.prompt!r}")
    answers = zip(found.models, first.texts, first.prompt_tokens, first.finish_reasons, strict=True)
    for name, text, tokens, reason in answers:
        echo(f"{name} ({tokens} prompt tokens, finish reason {reason}): {text!r}")
