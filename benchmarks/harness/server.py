"""A model behind HTTP that takes a fixed time for each answer and counts what it is asked.

``python server.py SECONDS`` prints its address. ``GET /asked`` gives how often each prompt was asked and answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections import Counter

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 0.05
asked: Counter[str] = Counter()
answered: Counter[str] = Counter()


async def answer(request: Request) -> JSONResponse:
    body = await request.json()
    prompt = body["messages"][-1]["content"]
    asked[prompt] += 1
    await asyncio.sleep(SECONDS)
    answered[prompt] += 1
    # Right in about half of the cases, and the same in every run.
    text = "odd" if hashlib.sha256(prompt.encode()).digest()[0] % 2 else "even"
    if "response_format" in body:
        text = json.dumps({"answer": text})
    message = {"role": "assistant", "content": text}
    words = len(prompt.split())
    return JSONResponse({
        "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": words, "completion_tokens": 1, "total_tokens": words + 1},
    })  # fmt: skip


async def counts(_: Request) -> JSONResponse:
    return JSONResponse({"asked": asked, "answered": answered})


async def forget(_: Request) -> JSONResponse:
    asked.clear()
    answered.clear()
    return JSONResponse({})


class Announced(uvicorn.Server):
    """Says where it listens once it does."""

    async def startup(self, sockets: list[object] | None = None) -> None:
        await super().startup(sockets)  # type: ignore[arg-type]
        port = self.servers[0].sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{port}", flush=True)


if __name__ == "__main__":
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", answer, methods=["POST"]),
            Route("/asked", counts),
            Route("/forget", forget, methods=["POST"]),
        ]
    )
    Announced(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", ws="none", lifespan="off")).run()
