"""A small OpenAI-compatible server on loopback that runs a model of ragkit and makes trouble, for tests over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from ragkit.protocols import LanguageModel
    from ragkit.records import Completion


class OpenAIServer:
    """Serves ``/v1/chat/completions`` on a free port while the block lasts.

    Attributes:
        requests: The bodies of the requests so far.
        keys: Their Authorization headers.
        answered: How often each prompt was answered well.
        trouble: None for answers; a status such as ``"429"``, ``"429 soon"`` (come back at once), ``"401"`` (which says
            the key back), ``"not json"``, ``"half json"``, ``"empty"``, ``"hang"``, ``"cut"``, ``"wrong usage"``; or a
            function from the prompt to one of these.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answered: Counter[str] = Counter()
        self.trouble: str | Callable[[str], str | None] | None = None
        app = Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", ws="none", lifespan="off")
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
        prompt = body["messages"][-1]["content"]
        trouble = self.trouble(prompt) if callable(self.trouble) else self.trouble
        if trouble and trouble != "wrong usage":
            return await self._trouble(trouble)
        completion = await run_in_threadpool(
            self.model.generate,
            prompt,
            max_tokens=body.get("max_completion_tokens") or body.get("max_tokens") or 16,
            temperature=body.get("temperature") or 0.0,
            stop=tuple(body.get("stop") or ()),
            seed=body.get("seed") or 0,
        )
        self.answered[prompt] += 1
        if body.get("stream"):
            return StreamingResponse(_events(completion, body["model"]), media_type="text/event-stream")
        message = {"role": "assistant", "content": completion.text}
        usage = _usage(completion) if trouble is None else {"prompt_tokens": -5, "completion_tokens": 10**12}
        choice = {"index": 0, "message": message, "finish_reason": completion.finish_reason}
        return JSONResponse({**_head(body["model"]), "choices": [choice], "usage": usage})

    async def _trouble(self, trouble: str) -> Response:
        if trouble == "hang":
            await asyncio.sleep(6)  # past every timeout that a test gives
            return PlainTextResponse("too late")
        if trouble == "cut":
            return StreamingResponse(_cut_off(), media_type="application/json", headers={"content-length": "1000"})
        if trouble == "not json":
            return PlainTextResponse("<html>hello</html>")
        if trouble == "half json":
            return Response('{"id": "1", "object": "chat.comp', media_type="application/json")
        if trouble == "empty":
            return JSONResponse({**_head("tiny"), "choices": []})
        said = f"wrong key: {self.keys[-1]}" if trouble == "401" else "the server is on fire"
        headers = {"retry-after": "0"} if trouble == "429 soon" else {}
        return JSONResponse({"error": {"message": said}}, status_code=int(trouble[:3]), headers=headers)


def _head(model: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": model}


def _usage(completion: Completion) -> dict[str, int]:
    read, written = completion.usage.prompt_tokens, completion.usage.completion_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


async def _events(completion: Completion, model: str) -> AsyncIterator[str]:
    """The answer in pieces of three characters, then the reason, then the usage."""
    head = {**_head(model), "object": "chat.completion.chunk"}
    pieces = [completion.text[start : start + 3] for start in range(0, len(completion.text), 3)]
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": piece}, None) for piece in pieces]
    deltas.append(({}, completion.finish_reason))
    for delta, reason in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        yield f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"
    yield f"data: {json.dumps({**head, 'choices': [], 'usage': _usage(completion)})}\n\n"
    yield "data: [DONE]\n\n"


async def _cut_off() -> AsyncIterator[bytes]:
    yield b'{"id": "1"'
    raise ConnectionResetError("cut on purpose")
