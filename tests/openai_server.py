"""A small OpenAI-compatible server on loopback that runs a model of ragkit, for tests over real HTTP."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from ragkit.protocols import LanguageModel


class OpenAIServer:
    """Serves ``/v1/chat/completions`` on a free port while the block lasts.

    Attributes:
        requests: The bodies of the requests so far.
        keys: Their Authorization headers.
        trouble: None for answers, ``"500"``, ``"401"`` (which says the key back), ``"not json"`` or ``"empty"``.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.trouble: str | None = None
        app = Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> OpenAIServer:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the test server did not start")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    @property
    def url(self) -> str:
        """The address to give as `base_url`."""
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/v1"

    async def _answer(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("authorization"))
        if self.trouble == "500":
            return JSONResponse({"error": {"message": "the server is on fire"}}, status_code=500)
        if self.trouble == "401":
            return JSONResponse({"error": {"message": f"wrong key: {self.keys[-1]}"}}, status_code=401)
        if self.trouble == "not json":
            return PlainTextResponse("<html>hello</html>")
        if self.trouble == "empty":
            return JSONResponse({"id": "1", "object": "chat.completion", "created": 0, "model": "tiny", "choices": []})
        completion = await run_in_threadpool(
            self.model.generate,
            body["messages"][-1]["content"],
            max_tokens=body.get("max_completion_tokens") or body.get("max_tokens") or 16,
            temperature=body.get("temperature") or 0.0,
            stop=tuple(body.get("stop") or ()),
            seed=body.get("seed") or 0,
        )
        usage = completion.usage
        message = {"role": "assistant", "content": completion.text}
        return JSONResponse(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": completion.finish_reason}],
                "usage": {
                    "prompt_tokens": usage.prompt_tokens,
                    "completion_tokens": usage.completion_tokens,
                    "total_tokens": usage.prompt_tokens + usage.completion_tokens,
                },
            }
        )
