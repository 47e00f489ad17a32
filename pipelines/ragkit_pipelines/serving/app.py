"""The routes of the server: OpenAI's chat, completions and models, and ``/health``."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ragkit.errors import RagkitError
from ragkit.records import Completion
from ragkit_pipelines.serving.bodies import BadRequestError, ChatBody, CompletionBody, read_body
from ragkit_pipelines.serving.jobs import Backend, Job, Lane, Logprob, Result
from ragkit_pipelines.serving.replies import Reply, error_body, error_of, event

_MOST_BYTES = 16 * 2**20  # of a request's body
_LOG = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]
_Value = TypeVar("_Value")


class Routes:
    """Answers requests out of one backend.

    Attributes:
        app: The Starlette application.
    """

    def __init__(self, backend: Backend, *, token: str | None, gather: float, most_waiting: int) -> None:
        """Make the application.

        Args:
            backend: Who answers.
            token: What requests must carry as bearer token; None to take all.
            gather: Seconds that a question waits for others.
            most_waiting: Questions that may wait.
        """
        self._backend, self._token, self._gather, self._most_waiting = backend, token, gather, most_waiting
        self._lane: Lane
        self.app = Starlette(
            lifespan=self._lifespan,
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._guarded(self._models)),
                Route("/v1/models/{name:path}", self._guarded(self._model)),
                Route("/v1/chat/completions", self._guarded(self._chat), methods=["POST"]),
                Route("/v1/completions", self._guarded(self._completions), methods=["POST"]),
            ],
            exception_handlers={HTTPException: _told},
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._lane = Lane(self._backend, gather=self._gather, most_waiting=self._most_waiting)
        running = asyncio.create_task(self._lane.run())
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    def _guarded(self, handler: Handler) -> Handler:
        """Let only those in who carry the token, and tell errors in the protocol's shape."""

        async def guarded(request: Request) -> Response:
            if not self._may(request.headers.get("authorization", "")):
                body = error_body("the bearer token is missing or wrong", "invalid_api_key")
                return JSONResponse(body, status_code=401, headers={"www-authenticate": "Bearer"})
            try:
                return await handler(request)
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
                return _error_response(error)

        return guarded

    def _may(self, header: str) -> bool:
        if self._token is None:
            return True
        scheme, _, given = header.partition(" ")
        # Hashes have one length, so the time of the comparison tells nothing.
        digests = [hashlib.sha256(text.encode()).digest() for text in (given, self._token)]
        return hmac.compare_digest(*digests) and scheme.lower() == "bearer"

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "waiting": len(self._lane.waiting)})

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model_card(name) for name in self._backend.models]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        self._check_model(name)
        return JSONResponse(_model_card(name))

    def _check_model(self, name: str) -> None:
        if name not in self._backend.models:
            known = ", ".join(map(repr, self._backend.models))
            raise HTTPException(404, f"there is no model {name!r}; there are {known}")

    async def _chat(self, request: Request) -> Response:
        return await self._asked(request, read_body(ChatBody, await _json_of(request)))

    async def _completions(self, request: Request) -> Response:
        return await self._asked(request, read_body(CompletionBody, await _json_of(request)))

    async def _asked(self, request: Request, body: ChatBody | CompletionBody) -> Response:
        self._check_model(body.model)
        # A long prompt takes a while to encode, and others must not wait for it.
        questions = body.questions()
        jobs = await asyncio.to_thread(lambda: [self._backend.job(one, streams=body.stream) for one in questions])
        reply = Reply(
            body.model,
            self._backend.models[body.model].fingerprint,
            chat=isinstance(body, ChatBody),
            tells_usage=body.tells_usage,
        )
        self._lane.submit(jobs)
        try:
            if body.stream:
                return await _streamed(request, jobs[0], reply)
            answers = await _unless_gone(request, _ends(jobs))
        except BaseException:
            for job in jobs:
                job.give_up()
            raise
        told = [None if job.question.top_logprobs is None else job.logprobs for job in jobs]
        return JSONResponse(reply.whole(answers, told))


async def _ends(jobs: Sequence[Job]) -> list[Completion]:
    """All answers; the first error that comes is raised."""
    return await asyncio.gather(*(job.end() for job in jobs))


async def _streamed(request: Request, job: Job, reply: Reply) -> Response:
    """Begin when the first piece has come, so that trouble before it has a status of its own."""
    first = await _unless_gone(request, job.next())
    if isinstance(first, Exception):
        raise first

    async def events() -> AsyncIterator[str]:
        asked = job.question.top_logprobs is not None
        told: tuple[str, Sequence[Logprob]] | Result = first
        try:
            if reply.chat:
                yield reply.chunk("", first=True)
            while isinstance(told, tuple):
                yield reply.chunk(told[0], told[1] if asked else None)
                told = await job.next()
            if isinstance(told, Exception):
                yield event(error_of(told)[1])
                return
            yield reply.chunk("", finish_reason=told.finish_reason)
            if reply.tells_usage:
                yield reply.usage_chunk(told.usage)
            yield "data: [DONE]\n\n"
        finally:
            job.give_up()

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def _unless_gone(request: Request, value: Awaitable[_Value]) -> _Value:
    """Wait for something, but no longer than the client does."""
    waiting = asyncio.ensure_future(value)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ClientDisconnect
        return waiting.result()
    finally:
        waiting.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _json_of(request: Request) -> object:
    """The JSON of a request's body, which is bounded."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the body must be JSON; send the header content-type: application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, f"the body is larger than {_MOST_BYTES:,} bytes; send less")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not JSON ({error})") from error


def _error_response(error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse(error_body(error.detail, _CODES.get(error.status_code, "bad")), error.status_code)
    if not isinstance(error, RagkitError):
        _LOG.error("a request failed", exc_info=error)
    status, body, headers = error_of(error)
    return JSONResponse(body, status_code=status, headers=headers)


_CODES = {404: "model_not_found", 405: "method_not_allowed", 413: "too_large", 415: "invalid_content_type"}


async def _told(_: Request, error: Exception) -> Response:
    return _error_response(error)


def _model_card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "ragkit"}
