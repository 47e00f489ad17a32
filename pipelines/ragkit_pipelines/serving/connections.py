"""HTTP connections that are closed if a client does not send its request, or does not read the response, in time."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import h11
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from ragkit_pipelines.serving.limits import Limits
from ragkit_pipelines.serving.replies import error_body

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

_READ_BYTES = 2**14  # per read, which also limits the headers of a request, because h11 accepts whatever one read holds
_DISCARDED_BYTES = 2**25  # of the body of a rejected request, so that its client can send it and then read the error


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP protocol with deadlines for sending a request and for reading the response."""

    def __init__(
        self,
        limits: Limits,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Create the protocol of one connection; uvicorn passes all arguments except for the first."""
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._discarded = 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        transport.max_size = _READ_BYTES  # type: ignore[attr-defined] # of asyncio's transports
        super().connection_made(transport)
        self._set_deadline()
        if len(self.connections) > self._limits.connections:
            waiting = [each for each in self.connections if isinstance(each, TimedProtocol) and each._deadline]
            min(waiting, key=lambda each: each._deadline.when() if each._deadline else 0).transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete:
            self._discarded += len(data)
            if self._discarded > _DISCARDED_BYTES:
                self.transport.abort()
                return
        super().data_received(data)
        self._set_deadline()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._set_deadline()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._deadline, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(self._limits.stall_seconds, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    @override
    def send_400_response(self, msg: str) -> None:
        if (cycle := self._request()) is not None:  # it was broken off, so its handler must not respond any more
            cycle.disconnected = True
            cycle.message_event.set()
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.abort()
            return
        body = json.dumps(error_body("the request is not valid HTTP", "invalid_http")).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _request(self) -> RequestResponseCycle | None:
        return self.cycle  # None before the first request, which uvicorn's annotation omits

    def _set_deadline(self) -> None:
        """Start the deadline, unless it is running or a complete request is being processed."""
        cycle = self._request()
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = None
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._limits.receive_seconds, self.transport.abort)
