"""A server whose clients vanish, send half of what they should, or send nonsense, while others are served."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
from tally import Tally

from ragkit.models._base import ModelBase
from ragkit.models._prompts import prompt_text
from ragkit.models._sampling import Sampling
from ragkit.protocols import AnyPrompt
from ragkit.records import Completion
from ragkit.serving import Server

PIECES = 30
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as one:
    one.sendall(sys.stdin.buffer.read())
    print(len(one.recv(100)), flush=True)
    one.recv(10**9)
    sys.stdin.buffer.read()
    import time; time.sleep(60)
"""


class Talker(ModelBase):
    """Writes the prompt again and again, a piece at a time."""

    name, fingerprint = "talker", "talker"

    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        del sampling
        time.sleep(0.01)
        return [Completion(text=f"[{prompt_text(prompt)}]" * PIECES) for prompt in prompts]

    def _pieces(self, prompt: AnyPrompt, sampling: Sampling) -> Generator[str, None, Completion]:
        del sampling
        for _ in range(PIECES):
            time.sleep(0.002)
            yield f"[{prompt_text(prompt)}]"
        return Completion(text=f"[{prompt_text(prompt)}]" * PIECES)


def _body(prompt: str, *, stream: bool) -> dict[str, object]:
    return {"model": "talker", "messages": [{"role": "user", "content": prompt}], "stream": stream}


def _request(address: tuple[str, int], body: bytes, length: int | None = None) -> bytes:
    host = f"{address[0]}:{address[1]}"
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def vanishing_clients(rng: np.random.Generator, folder: Path, tally: Tally) -> None:
    """Bad clients beside good ones; the good get the right answers, and in the end nothing waits."""
    del folder
    with Server(Talker(), batch_size=4, gather=0.005) as server:
        parts = urlsplit(server.url)
        address = (str(parts.hostname), int(parts.port or 0))
        seeds = [int(seed) for seed in rng.integers(2**31, size=60)]
        kinds: list[tuple[str, Callable[[tuple[str, int], np.random.Generator], str]]] = [
            ("leaves in the middle of a stream", _leaves_a_stream),
            ("leaves before the answer", _leaves_early),
            ("resets in the middle of a stream", _resets),
            ("sends half a request", _half_a_request),
            ("sends nonsense", _nonsense),
        ]
        with ThreadPoolExecutor(12) as threads:
            bad = []
            for seed in seeds:
                kind, act = kinds[seed % len(kinds)]
                bad.append((kind, threads.submit(act, address, np.random.default_rng(seed))))
            good = [(seed, threads.submit(_good, server.url, seed)) for seed in seeds[:30]]
            killed = [threads.submit(_killed, address) for _ in range(2)]
            for seed, job in good:
                text, expected = job.result(), f"[good {seed}]" * PIECES
                if text != expected:
                    tally.count("serve: a good client beside bad ones", "wrong", f"{text[:200]!r}")
            for kind, one in [*bad, *(("is killed in the middle of a stream", job) for job in killed)]:
                tally.count(f"serve: client {kind}", one.result())
        health, until = server.url.replace("/v1", "/health"), time.monotonic() + 10
        while httpx.get(health).json()["waiting"] and time.monotonic() < until:
            time.sleep(0.02)
        if waiting := httpx.get(health).json()["waiting"]:
            tally.count("serve: what waits for those who left", "unexplained", f"{waiting} are waiting still")
        if _good(server.url, 0) != "[good 0]" * PIECES:
            tally.count("serve: a good client afterwards", "wrong")


def _good(url: str, seed: int) -> str:
    """The answer that a client gets who does all as it should be."""
    prompt = f"good {seed}"
    if seed % 2:
        answer = httpx.post(url + "/chat/completions", json=_body(prompt, stream=False), timeout=60)
        if answer.status_code != 200:
            return answer.text
        return str(answer.json()["choices"][0]["message"]["content"])
    text = ""
    with httpx.stream("POST", url + "/chat/completions", json=_body(prompt, stream=True), timeout=60) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {"):
                event = json.loads(line.removeprefix("data: "))
                text += "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))
                text += str(event["error"]) if "error" in event else ""
    return text


def _leaves_a_stream(address: tuple[str, int], rng: np.random.Generator) -> str:
    with socket.create_connection(address, timeout=30) as one:
        one.sendall(_request(address, json.dumps(_body("gone", stream=True)).encode()))
        for _ in range(int(rng.integers(1, 6))):
            one.recv(200)
    return "recovered"


def _leaves_early(address: tuple[str, int], rng: np.random.Generator) -> str:
    with socket.create_connection(address, timeout=30) as one:
        one.sendall(_request(address, json.dumps(_body("gone", stream=bool(rng.integers(2)))).encode()))
        time.sleep(float(rng.uniform(0, 0.02)))
    return "recovered"


def _resets(address: tuple[str, int], rng: np.random.Generator) -> str:
    one = socket.create_connection(address, timeout=30)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing sends a reset
    one.sendall(_request(address, json.dumps(_body("gone", stream=True)).encode()))
    one.recv(int(rng.integers(1, 400)))
    one.close()
    return "recovered"


def _half_a_request(address: tuple[str, int], rng: np.random.Generator) -> str:
    whole = _request(address, json.dumps(_body("half", stream=False)).encode())
    with socket.create_connection(address, timeout=30) as one:
        one.sendall(whole[: int(rng.integers(1, len(whole) - 1))])
        time.sleep(float(rng.uniform(0, 0.02)))
    return "recovered"


def _nonsense(address: tuple[str, int], rng: np.random.Generator) -> str:
    """A body that is no question: the status must say that it is the client's mistake."""
    bodies = [
        rng.bytes(50),
        b"[" * 20_000,
        b'{"model": 7}',
        b'{"model": "talker", "messages": "\xff"}',
        b"",
        b"9" * 9999,
    ]
    with socket.create_connection(address, timeout=30) as one:
        one.sendall(_request(address, bodies[int(rng.integers(len(bodies)))]))
        status = one.recv(4000).split(b" ")[1:2]
    return "noticed" if status and status[0].startswith(b"4") else "unexplained"


def _killed(address: tuple[str, int]) -> str:
    """A client in a process of its own that is killed while it reads."""
    line = [sys.executable, "-S", "-c", CLIENT, *map(str, address)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(_request(address, json.dumps(_body("killed", stream=True)).encode()))
        client.stdin.close()
        client.stdout.readline()
        client.kill()
    return "recovered"
