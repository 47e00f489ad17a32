"""A model, its adapters and OpenAI's protocol before them: `Server`, and ``ragkit serve`` on the command line."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from ragkit.errors import InvalidInputError, RagkitWarning
from ragkit.extras import require

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from uvicorn import Server as UvicornServer

    from ragkit.models.adapters import AdapterSet
    from ragkit.protocols import LanguageModel

__all__ = ["Server"]


class Server:
    r"""Serve a model and its adapters over HTTP, as OpenAI's chat and completions.

    Requests that come within a few milliseconds or while a batch is running go to a local model in one batch, those
    for different adapters too. A field that is not supported is refused with status 400 and never passed over. Where a
    request names no temperature, the likeliest token is taken, as everywhere in ragkit.

    In a ``with`` block the server runs on a thread of its own; `run` serves until a signal ends it.

    Attributes:
        url: What clients take as ``base_url``.
        models: Names of the models that are served.

    Examples:
        >>> from ragkit import load_model
        >>> prompt = "Input: dim the lamp\nOutput: fade lamp\n\nInput: dim the fan\nOutput:"
        >>> with Server("tiny") as server:
        ...     model = load_model("openai:tiny", base_url=server.url)
        ...     model.generate(prompt, max_tokens=2).text
        ' fade fan'
    """

    def __init__(
        self,
        model: str | LanguageModel | AdapterSet,
        *,
        adapters: Mapping[str, str | Path] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        batch_size: int | None = None,
        gather: float = 0.005,
        most_waiting: int = 256,
        max_tokens: int = 256,
        grace: int = 30,
    ) -> None:
        """Load what is to be served and take the port.

        Args:
            model: A spec, any language model, or an `AdapterSet`.
            adapters: Folders of adapters by name, which become names of models; they go with the spec of their base.
            host: Address to listen at; others than this machine can reach it only where it is another one.
            port: Port to listen at; a free one if 0.
            token: What every request must carry as bearer token; None to answer all.
            batch_size: Prompts that go to a local model together; 16 if None. For a model that is asked over a
                network, calls under way at once.
            gather: Seconds that a request waits for others to go with it.
            most_waiting: Requests that may wait; one more is told to come back (status 503).
            max_tokens: Tokens written at the most where a request does not say.
            grace: Seconds that requests under way are given when the server is stopped.

        Raises:
            InvalidInputError: If an argument makes no sense, or the port is taken.
        """
        require("starlette", "uvicorn")
        from ragkit_pipelines.serving.backends import backend_of

        _check(host, port, token, gather, most_waiting)
        backend = backend_of(model, adapters or {}, batch_size=batch_size, max_tokens=max_tokens)
        from ragkit_pipelines.serving.app import Routes

        self.models = tuple(backend.models)
        app = Routes(backend, token=token, gather=gather, most_waiting=most_waiting).app
        self._socket = _listening(host, port)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}/v1"
        self._uvicorn = _uvicorn(app, grace)
        self._thread: Thread | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; what is under way is answered first."""
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


def _check(host: str, port: int, token: str | None, gather: float, most_waiting: int) -> None:
    if token is not None and not token.strip():
        raise InvalidInputError("`token` is empty; give a secret, or None to answer all")
    if not 0 <= gather <= 1:
        raise InvalidInputError(f"`gather` must be between 0 and 1 second, got {gather!r}")
    if not 0 <= port < 2**16:
        raise InvalidInputError(f"`port` must be between 0 and 65535, got {port!r}")
    if most_waiting < 1:
        raise InvalidInputError(f"`most_waiting` must be at least 1, got {most_waiting!r}")
    if token is None and not _is_this_machine(host):
        warnings.warn(f"whoever reaches {host} can use the model; give a token", RagkitWarning, stacklevel=3)


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections, which wait until the server runs."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InvalidInputError(
            f"cannot listen at {host}, port {port} ({error}); give another port, 0 for a free one"
        ) from error


def _uvicorn(app: Starlette, grace: int) -> UvicornServer:
    import uvicorn

    return uvicorn.Server(uvicorn.Config(app, lifespan="on", ws="none", log_level="warning", access_log=False,
                                         server_header=False, timeout_graceful_shutdown=grace))  # fmt: skip
