"""An HTTP server on loopback that sends given replies, one for each request, for tests of how replies are read."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


class Reply(NamedTuple):
    """A reply: its body as JSON, or the bytes of an event stream."""

    body: dict[str, Any] | bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class ScriptedServer:
    """Sends replies while the block lasts; the last one is repeated.

    Attributes:
        requests: The bodies of the requests so far.
    """

    def __init__(self, *replies: Reply) -> None:
        self.requests: list[dict[str, Any]] = []
        script = list(replies)
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                body, status, headers = script.pop(0) if len(script) > 1 else script[0]
                kind = "text/event-stream" if isinstance(body, bytes) else "application/json"
                sent = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response_only(status)
                for name, value in (("content-type", kind), ("content-length", str(len(sent))), *headers):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(sent)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> ScriptedServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def whole(
    text: str | None = "hi", *, finish: str | None = "stop", refusal: str | None = None, **top: Any
) -> dict[str, Any]:
    """A chat completion of OpenAI's protocol."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    head = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice], "usage": USAGE, **top}


def streamed(
    *texts: str, finish: str | None = "stop", usages: Sequence[dict[str, int]] = (), last: Any = None
) -> bytes:
    """An event stream: a chunk for each text, each with its usage, then the finish reason and a last event."""
    deltas = [({"role": "assistant", "content": text}, None) for text in texts]
    deltas += [({}, finish)] if finish else []
    events: list[Any] = []
    for place, (delta, reason) in enumerate(deltas):
        usage = {"usage": usages[place]} if place < len(usages) else {}
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        events.append({**head, "choices": [choice], **usage})
    events += [last] if last else []
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def failed(message: str = "no", **fields: Any) -> dict[str, Any]:
    """An error object of OpenAI's protocol."""
    return {"error": {"message": message, **fields}}
