"""An OpenAI-compatible embedding server on loopback that embeds with `HashingEmbedder` and makes trouble."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from ragkit.embedders import HashingEmbedder


class EmbeddingServer:
    """Serves ``/v1/embeddings`` while the block lasts; the vectors have length 3.

    Attributes:
        requests: The bodies of the requests so far.
        keys: Their Authorization headers.
        trouble: What befalls the next requests, one each: a status, ``"html"``, ``"fewer"`` (a vector is missing) or
            ``"empty"`` (all of them); ``None`` for an answer.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.trouble: list[int | str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.requests.append(body)
                server.keys.append(self.headers["authorization"])
                status, kind, sent = server.reply(body, server.trouble.pop(0) if server.trouble else None)
                self.send_response_only(status)
                headers = {"content-type": kind, "content-length": str(len(sent)), "retry-after": "0"}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(sent)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def reply(self, body: dict[str, Any], trouble: int | str | None) -> tuple[int, str, bytes]:
        if trouble == "html":
            return 200, "text/html", b"<html>Welcome</html>"
        if isinstance(trouble, int):
            said = f"trouble: {self.keys[-1]}"
            return trouble, "application/json", json.dumps({"error": {"message": said, "type": "x"}}).encode()
        if body["model"] == "missing":
            error = {"message": "the model 'missing' does not exist", "code": "model_not_found"}
            return 404, "application/json", json.dumps({"error": error}).encode()
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vectors = 3 * HashingEmbedder(body.get("dimensions", 64)).embed_documents(texts)
        kept = {"fewer": vectors[:-1], "empty": vectors[:0]}.get(str(trouble), vectors)
        data = [{"object": "embedding", "index": n, "embedding": _coded(row, body)} for n, row in enumerate(kept)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        whole = {"object": "list", "data": data, "model": body["model"], "usage": usage}
        return 200, "application/json", json.dumps(whole).encode()

    def __enter__(self) -> EmbeddingServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _coded(row: np.ndarray, body: dict[str, Any]) -> object:
    if body.get("encoding_format") == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return row.tolist()
