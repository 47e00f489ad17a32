"""The requests that a chat model would send: they are collected for a batch, and answered with the replies of one.

The chat model, with all its settings, builds each request twice: the first time it is collected instead of sent, and
the second time the chat model receives the reply of the batch. So the requests of a batch are those of single calls,
and their replies, also errors, are read by the same code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextvars import ContextVar
from importlib import import_module
from typing import Any, TypeVar

from ragkit.errors import UnsupportedError
from ragkit.models._batch_providers import Reply, Row

_T = TypeVar("_T")


class Collected(BaseException):
    """Ends a call whose request has no reply yet. No handler of errors on the way catches it.

    Attributes:
        row: The request.
    """

    def __init__(self, row: Row) -> None:
        """Create it from the request."""
        super().__init__(row.id)
        self.row = row


class BatchRequests:
    """The requests of one call of a model, and their replies.

    Attributes:
        replies: Replies by the identifier of the request.
        last: Identifier of the request that was answered last.
    """

    def __init__(self, fingerprint: str) -> None:
        """Begin without replies, for the model with this fingerprint."""
        self._fingerprint = fingerprint
        self._salt: object = None
        self.replies: dict[str, Reply] = {}
        self.last = ""

    def run(self, work: Callable[[], _T], salt: object) -> _T:
        """Call a function whose requests are answered from the replies.

        Args:
            work: The function.
            salt: Tells its requests apart from equal ones of other functions, such as other samples of a prompt.

        Returns:
            The result of the function.

        Raises:
            Collected: If a request has no reply yet.
        """
        self._salt = salt
        token = _CURRENT.set(self)
        try:
            return work()
        finally:
            _CURRENT.reset(token)

    def reply(self, path: str, body: bytes, beta: str) -> Reply:
        """Return the reply to a request, or raise `Collected`."""
        content = json.loads(body)
        if not content.get("stream"):
            content.pop("stream", None)  # batches have no such parameter
        facts = json.dumps([[self._fingerprint, self._salt], path, _unmarked(content)], sort_keys=True)
        row = Row(hashlib.sha256(facts.encode()).hexdigest()[:32], path, content, beta)
        if row.id not in self.replies:
            raise Collected(row)
        self.last = row.id
        return self.replies[row.id]


def _unmarked(content: Any) -> Any:
    """Return the content of a request without marks for the prompt cache.

    The marks depend on the other requests of a call. A call that is repeated after an interruption may have fewer of
    them, and must find its requests nevertheless.
    """
    if isinstance(content, dict):
        return {name: _unmarked(value) for name, value in content.items() if name != "cache_control"}
    if not isinstance(content, list):
        return content
    parts = [_unmarked(part) for part in content]
    single = len(parts) == 1 and isinstance(parts[0], dict) and parts[0].keys() == {"type", "text"}
    return parts[0]["text"] if single else parts  # a mark needs a block, a text without one is a string


_CURRENT: ContextVar[BatchRequests | None] = ContextVar("requests of the current batch", default=None)


def collect_requests(client: Any) -> Any:
    """Return a copy of a client of OpenAI's or Anthropic's package whose requests are collected.

    Requests with other methods than POST, such as the list of models, are still sent.

    Raises:
        UnsupportedError: If the package uses an HTTP client that ragkit does not know.
    """
    sender = client._client
    module = next((kind.__module__ for kind in type(sender).__mro__ if kind.__name__ == "Client"), "")
    library = module.partition(".")[0]
    if library not in {"httpx", "httpx2"}:
        raise UnsupportedError(f"batches need a package that sends requests with httpx, got {type(sender).__name__}")
    http: Any = import_module(library)
    prefix = str(client.base_url.path).rstrip("/")

    def handle(request: Any) -> Any:
        current = _CURRENT.get()
        if current is None or request.method != "POST":
            return sender.send(request)
        path = "/v1/" + str(request.url.path).removeprefix(prefix).lstrip("/").removeprefix("v1/")
        reply = current.reply(path, request.read(), request.headers.get("anthropic-beta", ""))
        return http.Response(reply.status, json=reply.body, request=request)

    return client.with_options(http_client=http.Client(transport=http.MockTransport(handle)), max_retries=0)
