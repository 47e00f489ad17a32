"""A server on loopback that answers chat requests with faults, the same for the same prompt in every run.

Run as ``python server.py``: it prints its port, and stops when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

FAULTS = (
    "429 retry-after", "429 retry-after-ms", "429 date", "429 reset header", "429 message", "500", "529", "503",
    "dropped", "cut body", "error in a 200 response", "error in a stream", "stream without an end", "HTML page",
)  # fmt: skip
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
REFUSALS = ("refusal", "content filter")
HANG_SECONDS = 30.0


def fate(prompt: str, *, stream: bool) -> tuple[list[str], str]:
    """Return the faults of the first requests for a prompt, and what the request after them gets."""
    rng = random.Random(prompt)
    fitting = [each for each in FAULTS if stream or "stream" not in each]
    faults = rng.choices(fitting, k=rng.choices([0, 1, 2, 3], [50, 30, 15, 5])[0])
    if rng.random() < 0.002:
        faults.append("hangs")
    return faults, rng.choice(REFUSALS) if rng.random() < 0.03 else "answer"


def answer_to(prompt: str) -> str:
    """Return the right answer to a prompt."""
    return f"answer to {prompt}"


class FaultyServer:
    """Counts the requests and the answers for each prompt."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.met: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
                )
                body = json.loads(await reader.readexactly(length) or b"{}")
                if head.startswith(b"GET /counts"):
                    facts = {"requests": self.requests, "answered": self.answered, "met": self.met}
                    self._send(writer, 200, facts)
                elif not await self._answer(body, writer):
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:  # at the end, which is no error of the task
            pass
        finally:
            writer.close()

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        """Send one reply, and return whether the connection stays open."""
        prompt, stream = body["messages"][-1]["content"], bool(body.get("stream"))
        faults, last = fate(prompt, stream=stream)
        place = self.requests[prompt]
        self.requests[prompt] += 1
        what = faults[place] if place < len(faults) else last
        self.met[what] += 1
        if what in {"dropped", "cut body", "hangs"}:
            if what == "hangs":
                await asyncio.sleep(HANG_SECONDS)
            if what == "cut body":
                writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{"id"')
            return False
        if what in {"answer", *REFUSALS}:
            self.answered[prompt] += 1
            self._send_reply(writer, prompt, what, stream=stream)
        else:
            self._send_fault(writer, what)
        return True

    def _send_reply(self, writer: asyncio.StreamWriter, prompt: str, what: str, *, stream: bool) -> None:
        text = {"answer": answer_to(prompt), "refusal": None, "content filter": "answer to"}[what]
        refusal = "I cannot help with that." if what == "refusal" else None
        finish = "content_filter" if what == "content filter" else "stop"
        message = {"role": "assistant", "content": text, "refusal": refusal}
        if stream:
            self._stream(writer, [({**message, "content": text or ""}, None), ({}, finish)])
        else:
            choice = {"index": 0, "message": message, "finish_reason": finish}
            self._send(writer, 200, {**_head("chat.completion"), "choices": [choice], "usage": USAGE})

    def _send_fault(self, writer: asyncio.StreamWriter, what: str) -> None:
        error = {"error": {"message": "no", "type": "server_error"}}
        soon = datetime.now(UTC) + timedelta(seconds=1)
        if what == "error in a 200 response":
            self._send(writer, 200, error)
        elif what == "error in a stream":
            self._stream(writer, [], last=error)
        elif what == "stream without an end":
            self._stream(writer, [])
        elif what == "HTML page":
            self._send(writer, 502, "<html>Bad gateway</html>")
        elif what.startswith("429"):
            headers = {
                "429 retry-after": {"retry-after": "0"},
                "429 retry-after-ms": {"retry-after-ms": "5"},
                "429 date": {"retry-after": format_datetime(soon, usegmt=True), "date": format_datetime(soon)},
                "429 reset header": {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "5ms"},
            }.get(what, {})
            message = "Rate limit reached. Please try again in 5ms."
            self._send(writer, 429, {"error": {"message": message, "code": "rate_limit_exceeded"}}, headers)
        else:
            self._send(writer, int(what), error)

    def _stream(
        self, writer: asyncio.StreamWriter, deltas: list[tuple[dict[str, Any], str | None]], last: Any = None
    ) -> None:
        events: list[Any] = [
            {**_head("chat.completion.chunk"), "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            for delta, finish in deltas
        ]
        if deltas:
            events.append({**_head("chat.completion.chunk"), "choices": [], "usage": USAGE})
        events += [last] if last else []
        lines = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]
        self._send(writer, 200, "".join(lines), {"content-type": "text/event-stream"})

    def _send(
        self, writer: asyncio.StreamWriter, status: int, body: Any, headers: dict[str, str] | None = None
    ) -> None:
        sent = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        kind = "text/html" if isinstance(body, str) else "application/json"
        every = {"content-type": kind, "content-length": str(len(sent)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in every.items())
        writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + sent)


def _head(kind: str) -> dict[str, Any]:
    return {"id": "1", "object": kind, "created": 1, "model": "m"}


async def main() -> None:
    """Serve until the standard input is closed."""
    server = await asyncio.start_server(FaultyServer().serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
