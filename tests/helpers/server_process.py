"""A server in a process of its own, raw requests to it, and a probe that measures how long ``/health`` takes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urlsplit

SCRIPT = """
from ragkit import ScriptedModel
from ragkit_pipelines.serving import Limits, Server
server = Server({model}, {options})
print(server.url, flush=True)
server.run()
"""
SCRIPTED = "ScriptedModel(lambda prompt: 'yes')"
PROBE = """
import select, socket, sys, time
address, slowest, ended = (sys.argv[1], int(sys.argv[2])), 0.0, []
while not ended:
    start = time.perf_counter()
    try:
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(b"GET /health HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n")
            healthy = b"200 OK" in connection.recv(1000)
    except OSError:
        healthy = False
    if not slowest:
        print("begun", flush=True)
    slowest = max(slowest, time.perf_counter() - start if healthy else float("inf"))
    ended = select.select([sys.stdin], [], [], 0.05)[0]
print(slowest)
"""
TIMEOUT = 30


class Reply(NamedTuple):
    """The response to a raw request: its status (0 if there is none), the rest, and whether the connection closed."""

    status: int
    content: bytes
    closed: bool


class ServerProcess:
    """A server with the Python expressions `model` and `options`."""

    def __init__(self, model: str = SCRIPTED, options: str = "") -> None:
        """Start the process, and wait until it listens."""
        script = SCRIPT.format(model=model, options=options)
        self.process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        parts = urlsplit(self.process.stdout.readline().strip())
        self.address = (str(parts.hostname), int(parts.port or 0))
        self.model = "tiny" if "tiny" in model else "scripted"

    def stop(self) -> None:
        """Stop the process."""
        self.process.kill()
        self.process.communicate()

    def memory_mib(self) -> float:
        """Return the memory that the process uses, and begin to measure its peak."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="utf-8")
        return self.peak_mib()

    def peak_mib(self) -> float:
        """Return the most memory that the process has used since `memory_mib`."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(self.address, timeout=TIMEOUT)

    def send(self, content: bytes, *, until_closed: bool = False) -> Reply:
        """Send bytes on a new connection, and read one response, or everything until the server closes it."""
        with self.connect() as connection:
            with suppress(OSError):  # the server may respond before it has read everything
                connection.sendall(content)
            return read_reply(connection, until_closed=until_closed)

    def post(self, body: object, *, path: str = "/v1/chat/completions", headers: str = "") -> Reply:
        """Send a request with a JSON body, or with the given bytes."""
        return self.send(request(body, path=path, headers=headers))

    def chat(self, **fields: object) -> Reply:
        """Send a chat request with additional fields."""
        messages = [{"role": "user", "content": "dim the lamp"}]
        return self.post({"model": self.model, "messages": messages, "max_tokens": 4, **fields})


def request(body: object, *, path: str = "/v1/chat/completions", headers: str = "") -> bytes:
    """Return the bytes of a request with a JSON body, or with the given bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def read_reply(connection: socket.socket, *, until_closed: bool = False) -> Reply:
    """Read one response, or everything until the connection is closed."""
    received = b""
    try:
        while until_closed or not _is_complete(received):
            part = connection.recv(2**16)
            received += part
            if not part:
                return Reply(_status(received), received, closed=True)
    except TimeoutError:
        return Reply(_status(received), received, closed=False)
    except OSError:  # reset
        return Reply(_status(received), received, closed=True)
    return Reply(_status(received), received, closed=False)


def _status(received: bytes) -> int:
    parts = received.split(b" ", 2)
    return int(parts[1]) if len(parts) > 2 and parts[1].isdigit() else 0


def _is_complete(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    return bool(found) and (len(body) >= int(lengths[0]) if lengths else body.endswith(b"0\r\n\r\n"))


class HealthProbe:
    """Requests ``/health`` 20 times per second from another process, each time on a new connection.

    Attributes:
        slowest: The longest time until the complete response, in seconds; infinite if there was none.
    """

    def __init__(self, server: ServerProcess) -> None:
        """Create a probe, which runs in a ``with`` block."""
        self.slowest = 0.0
        self._command = [sys.executable, "-S", "-c", PROBE, *map(str, server.address)]

    def __enter__(self) -> HealthProbe:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()  # the first response
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        printed, _ = self._process.communicate()  # closes its standard input, which ends it
        self.slowest = float(printed)
