"""The routes of the server: OpenAI's chat, completions, embeddings and models, and ``/health``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ragkit.errors import RagkitError
from ragkit.models._prompts import prompt_text
from ragkit.records import Completion
from ragkit_pipelines.serving.bodies import ChatBody, CompletionBody, read_body
from ragkit_pipelines.serving.embeddings import EmbeddingBody, embedded
from ragkit_pipelines.serving.jobs import Backend, Job, Lane, QueueFullError, Result
from ragkit_pipelines.serving.limits import Limits
from ragkit_pipelines.serving.replies import Reply, error_body, error_of, event, finish_reason_of

if TYPE_CHECKING:
    from ragkit.protocols import Embedder
    from ragkit_pipelines.serving.jobs import Piece

_PARSERS = 2  # threads that parse requests and encode prompts; more would compete with the event loop
_LOG = logging.getLogger(__name__)
_CODES = {
    404: "model_not_found", 405: "method_not_allowed", 413: "too_large", 415: "invalid_content_type",
    503: "overloaded",
}  # fmt: skip
Body = ChatBody | CompletionBody
_Value = TypeVar("_Value")


class Routes:
    """The Starlette application (``app``) of one backend."""

    def __init__(
        self, backend: Backend, *, gather: float, max_waiting: int, limits: Limits, embedder: Embedder | None = None
    ) -> None:
        """Create the application; see `Server` for the arguments."""
        self._backend, self._gather, self._max_waiting, self._limits = backend, gather, max_waiting, limits
        self._embedder, self._embedding = embedder, 0
        self._names = [*backend.models, *([] if embedder is None else [embedder.name])]
        self._held_bytes = 0
        self._lane: Lane
        self._parsers: ThreadPoolExecutor
        self._embedders: ThreadPoolExecutor
        self.app = Starlette(
            lifespan=self._lifespan,
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                Route("/v1/chat/completions", self._handler(partial(self._respond, ChatBody)), methods=["POST"]),
                Route("/v1/completions", self._handler(partial(self._respond, CompletionBody)), methods=["POST"]),
                Route("/v1/embeddings", self._handler(self._embed), methods=["POST"]),
            ],
            exception_handlers={HTTPException: _http_error},
        )
        self.app.router.redirect_slashes = False

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._lane = Lane(self._backend, gather=self._gather, max_waiting=self._max_waiting)
        running = asyncio.create_task(self._lane.run())
        with (
            ThreadPoolExecutor(_PARSERS, thread_name_prefix="ragkit-parse") as self._parsers,
            ThreadPoolExecutor(1, thread_name_prefix="ragkit-embed") as self._embedders,
        ):
            try:
                yield
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "waiting": len(self._lane.waiting)})

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model_card(name) for name in self._names]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        _check_model(name, self._names)
        return JSONResponse(_model_card(name))

    def _handler(
        self, respond: Callable[[Request, bytearray], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler of requests with a body, which reports errors in OpenAI's format."""

        async def handle(request: Request) -> Response:
            try:
                async with self._content(request) as content:
                    return await respond(request, content)
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception as error:  # noqa: BLE001 - every error is reported to the client
                return _error_response(error)

        return handle

    @asynccontextmanager
    async def _content(self, request: Request) -> AsyncIterator[bytearray]:
        """Read the body of a request; its bytes are counted until the request has been processed."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "the body must be JSON; send the header content-type: application/json")
        limit, content = self._limits.body_bytes, bytearray()
        too_large = HTTPException(413, f"the body is larger than the limit of {limit:,} bytes")
        if int(request.headers.get("content-length", 0)) > limit:
            raise too_large
        try:
            async for part in request.stream():
                content += part
                self._held_bytes += len(part)
                if len(content) > limit:
                    raise too_large
                if self._held_bytes > self._limits.bodies * limit:
                    raise HTTPException(503, "too many requests are being received; retry later", {"retry-after": "1"})
            yield content
        finally:
            self._held_bytes -= len(content)

    async def _embed(self, request: Request, content: bytearray) -> Response:
        embedder = self._embedder
        if embedder is None:
            raise HTTPException(404, "the server has no embedder; start it with --embedder")
        if self._embedding >= self._max_waiting:
            raise QueueFullError(f"the request queue is full ({self._embedding} are waiting); retry later")
        body = await self._in_thread(lambda: read_body(EmbeddingBody, content, self._limits))
        _check_model(body.model, [embedder.name])
        self._embedding += 1
        try:
            work = asyncio.get_running_loop().run_in_executor(self._embedders, embedded, body, embedder)
            reply = await _unless_disconnected(request, work)
        finally:
            self._embedding -= 1
        return await self._in_thread(lambda: JSONResponse(reply))

    async def _respond(self, kind: type[Body], request: Request, content: bytearray) -> Response:
        # Parsing a body and encoding a prompt take time, so they run in a thread and do not block other requests.
        body, jobs = await self._in_thread(lambda: self._jobs(kind, content))
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
            completions = await _unless_disconnected(request, _results(jobs))
        except BaseException:
            for job in jobs:
                job.cancel()
            raise
        logprobs = [None if job.call.top_logprobs is None else job.logprobs for job in jobs]
        completions = [
            replace(done, text=prompt_text(job.call.prompt) + done.text) if job.call.echo else done
            for job, done in zip(jobs, completions, strict=True)
        ]
        return await self._in_thread(lambda: JSONResponse(reply.whole(completions, logprobs)))

    def _jobs(self, kind: type[Body], content: bytearray) -> tuple[Body, list[Job]]:
        body = read_body(kind, content, self._limits)
        _check_model(body.model, self._backend.models)
        return body, [self._backend.job(call, streams=body.stream) for call in body.calls()]

    async def _in_thread(self, work: Callable[[], _Value]) -> _Value:
        return await asyncio.get_running_loop().run_in_executor(self._parsers, work)


async def _results(jobs: Sequence[Job]) -> list[Completion]:
    """Wait for all jobs; unlike `asyncio.gather`, this leaves no error behind if it is cancelled."""
    return [await job.result() for job in jobs]


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
                await asyncio.sleep(0)  # to other requests, and to notice that the client has left
                item = await job.next()
            if isinstance(item, Exception):
                yield event(error_of(item)[1])
                return
            if item.tool_calls:
                yield reply.calls_chunk(item.tool_calls)
            yield reply.chunk("", finish_reason=finish_reason_of(item))
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


async def _http_error(_: Request, error: Exception) -> Response:
    return _error_response(error)


def _error_response(error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse(
            error_body(error.detail, _CODES.get(error.status_code, "bad")), error.status_code, error.headers
        )
    if not isinstance(error, RagkitError):
        _LOG.error("a request failed", exc_info=error)
    status, body, headers = error_of(error)
    return JSONResponse(body, status_code=status, headers=headers)


def _check_model(name: str, served: Collection[str]) -> None:
    if name not in served:
        known = ", ".join(map(repr, served))
        raise HTTPException(404, f"the model {name[:100]!r} is not served; served models: {known}")


def _model_card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "ragkit"}
