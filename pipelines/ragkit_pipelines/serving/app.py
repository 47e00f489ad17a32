"""The routes of the server: OpenAI's chat, completions and models, and ``/health``."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ragkit.errors import RagkitError
from ragkit_pipelines.serving.bodies import BadRequestError, ChatBody, CompletionBody, read_body
from ragkit_pipelines.serving.jobs import Backend, Job, Lane, Result
from ragkit_pipelines.serving.replies import Reply, error_body, error_of, event

if TYPE_CHECKING:
    from ragkit_pipelines.serving.jobs import Piece

_MAX_BYTES = 16 * 2**20  # of a request body
_LOG = logging.getLogger(__name__)
_CODES = {404: "model_not_found", 405: "method_not_allowed", 413: "too_large", 415: "invalid_content_type"}
Handler = Callable[[Request], Awaitable[Response]]
_Value = TypeVar("_Value")


class Routes:
    """The Starlette application (``app``) of one backend."""

    def __init__(self, backend: Backend, *, token: str | None, gather: float, max_waiting: int) -> None:
        """Create the application; see `Server` for the arguments."""
        self._backend, self._token, self._gather, self._max_waiting = backend, token, gather, max_waiting
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
            exception_handlers={HTTPException: _http_error},
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._lane = Lane(self._backend, gather=self._gather, max_waiting=self._max_waiting)
        running = asyncio.create_task(self._lane.run())
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    def _guarded(self, handler: Handler) -> Handler:
        """Check the token before a handler, and report its errors in OpenAI's format."""

        async def guarded(request: Request) -> Response:
            if not self._is_authorized(request.headers.get("authorization", "")):
                body = error_body("the bearer token is missing or wrong", "invalid_api_key")
                return JSONResponse(body, status_code=401, headers={"www-authenticate": "Bearer"})
            try:
                return await handler(request)
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception as error:  # noqa: BLE001 - every error is reported to the client
                return _error_response(error)

        return guarded

    def _is_authorized(self, header: str) -> bool:
        if self._token is None:
            return True
        scheme, _, given = header.partition(" ")
        # Hashes have equal lengths, so the time of the comparison does not reveal the length of the token.
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
            raise HTTPException(404, f"the model {name!r} is not served; served models: {known}")

    async def _chat(self, request: Request) -> Response:
        return await self._respond(request, read_body(ChatBody, await _json_of(request)))

    async def _completions(self, request: Request) -> Response:
        return await self._respond(request, read_body(CompletionBody, await _json_of(request)))

    async def _respond(self, request: Request, body: ChatBody | CompletionBody) -> Response:
        self._check_model(body.model)
        # Encoding a long prompt takes time, so it runs in a thread and does not block other requests.
        calls = body.calls()
        jobs = await asyncio.to_thread(lambda: [self._backend.job(call, streams=body.stream) for call in calls])
        reply = Reply(
            body.model,
            self._backend.models[body.model].fingerprint,
            chat=isinstance(body, ChatBody),
            include_usage=body.include_usage,
        )
        self._lane.submit(jobs)
        try:
            if body.stream:
                return await _stream(request, jobs[0], reply)
            completions = await _unless_disconnected(request, asyncio.gather(*(job.result() for job in jobs)))
        except BaseException:
            for job in jobs:
                job.cancel()
            raise
        logprobs = [None if job.call.top_logprobs is None else job.logprobs for job in jobs]
        return JSONResponse(reply.whole(completions, logprobs))


async def _stream(request: Request, job: Job, reply: Reply) -> Response:
    """Start the response when the first piece arrives, so that an earlier error gets its own status."""
    first = await _unless_disconnected(request, job.next())
    if isinstance(first, Exception):
        raise first

    async def events() -> AsyncIterator[str]:
        item: Piece | Result = first
        try:
            if reply.chat:
                yield reply.chunk("", first=True)
            while isinstance(item, tuple):
                text, tokens = item
                yield reply.chunk(text, None if job.call.top_logprobs is None else tokens)
                item = await job.next()
            if isinstance(item, Exception):
                yield event(error_of(item)[1])
                return
            yield reply.chunk("", finish_reason=item.finish_reason)
            if reply.include_usage:
                yield reply.usage_chunk(item.usage)
            yield "data: [DONE]\n\n"
        finally:
            job.cancel()

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def _unless_disconnected(request: Request, value: Awaitable[_Value]) -> _Value:
    """Wait for a value, and stop waiting when the client disconnects."""
    waiting = asyncio.ensure_future(value)
    disconnect = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({waiting, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ClientDisconnect
        return waiting.result()
    finally:
        waiting.cancel()
        disconnect.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _json_of(request: Request) -> object:
    """Read the JSON body of a request, up to a maximum size."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the body must be JSON; send the header content-type: application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BYTES:
            raise HTTPException(413, f"the body is larger than the limit of {_MAX_BYTES:,} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not valid JSON ({error})") from error


async def _http_error(_: Request, error: Exception) -> Response:
    return _error_response(error)


def _error_response(error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse(error_body(error.detail, _CODES.get(error.status_code, "bad")), error.status_code)
    if not isinstance(error, RagkitError):
        _LOG.error("a request failed", exc_info=error)
    status, body, headers = error_of(error)
    return JSONResponse(body, status_code=status, headers=headers)


def _model_card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "ragkit"}
