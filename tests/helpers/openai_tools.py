"""A server that speaks OpenAI's protocol and calls the first tool of a request, for tests over HTTP."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ToolServer:
    """Answers the result of a tool if there is one; otherwise calls the first tool, twice if it is asked for two.

    Attributes:
        requests: The bodies of the requests so far.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.requests.append(body)
                data = json.dumps(_reply(body)).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> ToolServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _reply(body: dict[str, Any]) -> dict[str, Any]:
    last = body["messages"][-1]
    if last["role"] == "tool" or not body.get("tools"):
        message: dict[str, Any] = {"role": "assistant", "content": last["content"]}
    else:
        function = {"name": body["tools"][0]["function"]["name"], "arguments": json.dumps({"city": "Paris"})}
        calls = [{"id": f"call_{n}", "type": "function", "function": function} for n in (1, 2)]
        message = {"role": "assistant", "content": None, "tool_calls": calls[: 1 + (last["content"] == "two")]}
    reason = "tool_calls" if "tool_calls" in message else "stop"
    return {
        "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
        "choices": [{"index": 0, "finish_reason": reason, "message": message}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }  # fmt: skip
