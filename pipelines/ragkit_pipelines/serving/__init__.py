"""Serve a model and its adapters with OpenAI's HTTP API."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from ragkit._extras import require
from ragkit.errors import InvalidInputError, RagkitWarning
from ragkit_pipelines.serving.limits import Limits

if TYPE_CHECKING:
    from uvicorn import Server as UvicornServer

    from ragkit.models._adapters import AdapterSet
    from ragkit.models._reasoning import ReasoningLevel
    from ragkit.protocols import Embedder, LanguageModel
    from ragkit_pipelines.serving.access import Access

__all__ = ["Limits", "Server"]


class Server:
    r"""Serve a model and its adapters over HTTP with OpenAI's chat, completions and embeddings API.

    Requests to a local model that arrive within a few milliseconds, or while a batch is running, are processed as one
    batch, even if they use different adapters. An unsupported field is rejected with status 400 and never ignored. The
    default temperature is 0, as everywhere in ragkit.

    In a ``with`` block, the server runs in a background thread. `run` serves until the process receives SIGTERM or
    SIGINT.

    Attributes:
        url: The ``base_url`` for clients.
        models: Names of the served models, and of the embedder.

    Examples:
        >>> from ragkit import load_model
        >>> prompt = "Input: dim the lamp\nOutput: fade lamp\n\nInput: dim the fan\nOutput:"
        >>> with Server("tiny") as server:
        ...     model = load_model("openai:tiny", base_url=server.url)
        ...     model.generate(prompt, max_tokens=2).text
        ' fade fan'
    """

    def __init__(  # noqa: PLR0913
        self,
        model: str | LanguageModel | AdapterSet,
        *,
        adapters: Mapping[str, str | Path] | None = None,
        embedder: str | Embedder | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        batch_size: int | None = None,
        gather: float = 0.005,
        max_waiting: int = 256,
        max_tokens: int = 256,
        reasoning: ReasoningLevel | None = None,
        max_reasoning_tokens: int | None = None,
        grace: int = 30,
        allowed_hosts: Iterable[str] = (),
        limits: Limits | None = None,
    ) -> None:
        """Load the model and bind the port.

        Args:
            model: A spec, any language model, or an `AdapterSet`.
            adapters: Folders of adapters by name, which clients use as model names. Requires `model` to be a spec.
            embedder: An embedder or its spec, for requests of embeddings; None to serve none. Texts are embedded as
                documents.
            host: Address to listen on. By default, the server can only be reached from this machine.
            port: Port to listen on; any free port if 0.
            token: Bearer token that every request must contain; None to accept all requests.
            batch_size: Maximum number of prompts per batch of a local model, or of concurrent calls to an API model;
                16 if None.
            gather: Seconds for which a request waits for others to form a batch.
            max_waiting: Maximum number of waiting requests; more are rejected with status 503.
            max_tokens: Maximum number of tokens of a response if the request sets no limit.
            reasoning: How much the model reasons before its answers, see `ragkit.load_model`. The reasoning is in the
                field ``reasoning_content`` of a response that is not streamed.
            max_reasoning_tokens: Maximum number of reasoning tokens, in addition to the limit of each request.
            grace: Seconds that pending requests have to finish when the server is stopped.
            allowed_hosts: Names in the headers ``Host`` and ``Origin`` that are accepted without a token, besides IP
                addresses, ``localhost`` and `host`. This protects the server from web pages in the user's browser.
            limits: Limits on the size of requests, and on the time in which clients send them; `Limits()` if None.

        Raises:
            InvalidInputError: If an argument is invalid, or the port is in use.
        """
        require("starlette", "uvicorn")
        from ragkit.embedders import load_embedder
        from ragkit_pipelines.serving.backends import backend_of

        _check(host, port, token, gather, max_waiting)
        backend = backend_of(
            model, adapters or {}, batch_size=batch_size, max_tokens=max_tokens, reasoning=reasoning,
            max_reasoning_tokens=max_reasoning_tokens,
        )  # fmt: skip
        from ragkit_pipelines.serving.access import Access
        from ragkit_pipelines.serving.app import Routes

        limits = limits or Limits()
        served = None if embedder is None else load_embedder(embedder)
        if served is not None and served.name in backend.models:
            raise InvalidInputError(f"the model and the embedder are both named {served.name!r}; serve one of them")
        self.models = (*backend.models, *([] if served is None else [served.name]))
        routes = Routes(backend, gather=gather, max_waiting=max_waiting, limits=limits, embedder=served)
        app = Access(routes.app, token=token, hosts=[host, *allowed_hosts])
        self._socket = _bind(host, port)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}/v1"
        self._uvicorn = _uvicorn(app, grace, limits)
        self._thread: Thread | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, and finish pending requests before returning."""
        try:
            self._uvicorn.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def __enter__(self) -> Server:
        self._thread = Thread(target=self.run, name="ragkit-server", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._uvicorn.should_exit = True
        if self._thread is not None:
            self._thread.join()


def _check(host: str, port: int, token: str | None, gather: float, max_waiting: int) -> None:
    if token is not None and not token.strip():
        raise InvalidInputError("`token` is empty; pass a secret, or None to accept all requests")
    if not 0 <= gather <= 1:
        raise InvalidInputError(f"`gather` must be between 0 and 1 second, got {gather!r}")
    if not 0 <= port < 2**16:
        raise InvalidInputError(f"`port` must be between 0 and 65535, got {port!r}")
    if max_waiting < 1:
        raise InvalidInputError(f"`max_waiting` must be at least 1, got {max_waiting!r}")
    if token is None and not _is_loopback(host):
        warnings.warn(f"everyone who can reach {host} can use the model; pass a token", RagkitWarning, stacklevel=3)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a host name
        return host == "localhost"


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket that accepts connections, which wait until the server runs."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InvalidInputError(
            f"cannot listen on {host}, port {port} ({error}); pass another port, or 0 for any free port"
        ) from error


def _uvicorn(app: Access, grace: int, limits: Limits) -> UvicornServer:
    import uvicorn

    from ragkit_pipelines.serving.connections import TimedProtocol

    # The level "error" omits the warnings for each malformed request, with which anyone could fill the log.
    config = uvicorn.Config(
        app, http=partial(TimedProtocol, limits), loop="asyncio", lifespan="on", ws="none", log_level="error",  # type: ignore[arg-type]
        access_log=False, server_header=False, timeout_graceful_shutdown=grace,
    )  # fmt: skip
    return uvicorn.Server(config)
