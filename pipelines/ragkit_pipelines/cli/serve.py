"""The command line of the server: ``ragkit serve``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from ragkit.errors import InvalidInputError
from ragkit.progress import progress


def serve(
    base: Annotated[str, typer.Option(help="What to serve, such as smollm2, gguf:<file> or hf:<folder>.")] = "tiny",
    adapter: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="An adapter over the base, as name=folder; give it several times for several."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 for a free one.")] = 8000,
    token_env: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Environment variable with the bearer token that requests must carry."),
    ] = None,
    batch_size: Annotated[Optional[int], typer.Option(help="Prompts of a batch; 16 if not given.")] = None,  # noqa: UP045
    gather_ms: Annotated[float, typer.Option(help="Milliseconds that a request waits for others.")] = 5.0,
    most_waiting: Annotated[int, typer.Option(help="Requests that may wait; one more gets status 503.")] = 256,
    max_tokens: Annotated[int, typer.Option(help="Tokens written where a request does not say.")] = 256,
) -> None:
    """Serve a model and its adapters as OpenAI's chat and completions.

    Example: ragkit serve --base tiny --adapter home=runs/home --port 8000
    """
    from ragkit_pipelines.serving import Server

    with progress(f"loading {base}", None):
        server = Server(
            base,
            adapters=adapters_of(adapter or ()),
            host=host,
            port=port,
            token=None if token_env is None else _token(token_env),
            batch_size=batch_size,
            gather=gather_ms / 1000,
            most_waiting=most_waiting,
            max_tokens=max_tokens,
        )
    typer.echo(f"serving {', '.join(server.models)} at {server.url}")
    server.run()


def adapters_of(given: Sequence[str]) -> dict[str, Path]:
    """Read what ``--adapter`` was given.

    Args:
        given: Texts such as ``"home=runs/home"``.

    Returns:
        Folders by name.

    Raises:
        InvalidInputError: If one is no name and folder, or a name stands twice.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise InvalidInputError(f"--adapter takes name=folder, got {text!r}")
        if name in found:
            raise InvalidInputError(f"--adapter names {name!r} twice; give each adapter a name of its own")
        found[name] = Path(folder)
    return found


def _token(variable: str) -> str:
    token = os.environ.get(variable, "").strip()
    if not token:
        raise InvalidInputError(f"--token-env names {variable}, which is not set or empty; put the token into it")
    return token
