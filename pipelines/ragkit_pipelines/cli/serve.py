"""The command ``ragkit serve``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ragkit._progress import progress
from ragkit.errors import InvalidInputError
from ragkit_pipelines.cli.common import MaxReasoningTokens, Reasoning, echo
from ragkit_pipelines.serving import Limits, Server


def serve(
    base: Annotated[str, typer.Option(help="Model to serve, such as smollm2, gguf:<file> or hf:<folder>.")] = "tiny",
    adapter: Annotated[list[str] | None, typer.Option(help="Adapter as name=folder; can be repeated.")] = None,
    embedder: Annotated[str | None, typer.Option(help="Embedder to serve as well, such as minilm.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free port.")] = 8000,
    token_env: Annotated[str | None, typer.Option(help="Environment variable with the bearer token.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Maximum number of prompts per batch; 16 by default.")] = None,
    gather_ms: Annotated[float, typer.Option(help="Milliseconds for which a request waits to be batched.")] = 5.0,
    max_waiting: Annotated[int, typer.Option(help="Maximum number of waiting requests.")] = 256,
    max_tokens: Annotated[int, typer.Option(help="Maximum number of tokens if a request sets no limit.")] = 256,
    reasoning: Reasoning = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    max_body_bytes: Annotated[int, typer.Option(help="Maximum size of a request in bytes.")] = Limits().body_bytes,
    allowed_host: Annotated[list[str] | None, typer.Option(help="Name of this server; can be repeated.")] = None,
) -> None:
    """Serve a model and its adapters over HTTP with OpenAI's chat, completions and embeddings API.

    Example: ragkit serve --base tiny --adapter home=runs/home --port 8000
    """
    with progress(f"loading {base}", None):
        server = Server(
            base, adapters=_adapters(adapter or ()), embedder=embedder, host=host, port=port,
            token=None if token_env is None else _token(token_env), batch_size=batch_size, gather=gather_ms / 1000,
            max_waiting=max_waiting, max_tokens=max_tokens, reasoning=reasoning,
            max_reasoning_tokens=max_reasoning_tokens, allowed_hosts=allowed_host or (),
            limits=Limits(body_bytes=max_body_bytes),
        )  # fmt: skip
    echo(f"serving {', '.join(server.models)} at {server.url}")
    server.run()


def _adapters(given: Sequence[str]) -> dict[str, Path]:
    """Parse the values of ``--adapter`` into folders by name."""
    found: dict[str, Path] = {}
    for text in given:
        name, _, folder = text.partition("=")
        if not (name and folder):
            raise InvalidInputError(f"--adapter must be name=folder, got {text!r}")
        if name in found:
            raise InvalidInputError(f"--adapter names {name!r} twice; give each adapter a different name")
        found[name] = Path(folder)
    return found


def _token(variable: str) -> str:
    token = os.environ.get(variable, "").strip()
    if not token:
        raise InvalidInputError(f"the environment variable {variable} of --token-env is not set or empty")
    return token
