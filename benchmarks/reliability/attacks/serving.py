"""Attacks on ``ragkit serve``, with real processes and sockets.

``python benchmarks/reliability/attacks/serving.py`` runs all of them, and writes to ``results/serve_attacks.json`` how
long ``/health`` took at most during each, and by how much the server's memory grew.
"""

from __future__ import annotations

import atexit
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "tests" / "helpers")]

from attack_case import Attack  # noqa: E402 - after the path it is found on
from server_process import (  # noqa: E402
    SCRIPTED,
    HealthProbe,
    Reply,
    ServerProcess,
    read_reply,
    request,
)

RESULTS = HERE.parent / "results" / "serve_attacks.json"
HEALTH_SECONDS = 2.0  # generous, because the tests run on busy machines; the measured figures are in the results
IMPATIENT = "limits=Limits(receive_seconds=1, stall_seconds=1, connections=100)"
SLOW = "ScriptedModel(lambda prompt: __import__('time').sleep(1) or 'yes')"
LONG = "ScriptedModel(lambda prompt: 'yes ' * 2_000_000)"
USER = [{"role": "user", "content": "x"}]
GET = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
Act = Callable[[ServerProcess], str]
measured: dict[str, dict[str, float]] = {}


@cache
def server(model: str, options: str) -> ServerProcess:
    """Return a running server, which all attacks with the same arguments share."""
    started = ServerProcess(model, options)
    atexit.register(started.stop)
    return started


def run(name: str, act: Act, model: str, options: str, growth_mib: float, folder: Path) -> str:
    """Attack a server; afterwards it must still answer, and it must have been healthy and small all the time."""
    del folder
    target = server(model, options)
    before = target.memory_mib()
    with HealthProbe(target) as probe:
        broken = act(target)
        time.sleep(0.1)
    growth = target.peak_mib() - before
    measured[name] = {"health_seconds": round(probe.slowest, 3), "growth_mib": round(growth, 1)}
    if broken:
        return broken
    if probe.slowest > HEALTH_SECONDS:
        return f"/health took {probe.slowest:.2f} s"
    if growth > growth_mib:
        return f"the server grew by {growth:.0f} MiB"
    authorization = "authorization: Bearer s3cret\r\n" if "s3cret" in options else ""
    body = {"model": target.model, "messages": USER, "max_tokens": 4}
    after = target.post(body, headers=authorization)
    return "" if after.status == 200 else f"afterwards the server responded {after.status} {after.content[:200]!r}"


def expected(reply: Reply, *statuses: int) -> str:
    """Return a problem unless the response has one of the statuses, and its body is a JSON error if it is one."""
    if reply.status not in statuses:
        return f"responded {reply.status} {reply.content[:200]!r} instead of {statuses}"
    if reply.status < 400:
        return ""
    if len(reply.content) > 4000:
        return f"the error has {len(reply.content)} bytes"
    try:
        return "" if "message" in json.loads(reply.content.partition(b"\r\n\r\n")[2])["error"] else "no message"
    except (ValueError, KeyError, TypeError):
        return f"the error is not JSON in OpenAI's format: {reply.content[:300]!r}"


def first_problem(problems: Iterator[str]) -> str:
    """Return the first text that is not empty."""
    return next(filter(None, problems), "")


def empty_lists(size: int) -> bytes:
    """Return a JSON body of about ``size`` bytes that consists of empty lists."""
    return b'{"model": "scripted", "messages": [' + b"[]," * (size // 3) + b"[]]}"


# Bodies.


def large_body(target: ServerProcess) -> str:
    """Send 16 MB of empty lists, with a length and in chunks."""
    body = empty_lists(2**24)
    chunked = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    chunked += b"transfer-encoding: chunked\r\n\r\n" + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    return first_problem(expected(reply, 413) for reply in (target.post(body), target.send(chunked)))


def many_values(target: ServerProcess) -> str:
    """Send bodies of a permitted size that consist of as many values as possible."""
    filler = [empty_lists(2**20 - 60), b"[" * 2**19 + b"]" * 2**19, b'{"a":' * 2**17, b'"' + b'\\"' * (2**19 - 2)]
    texts = json.dumps({"model": "scripted", "messages": USER, "stop": ['\\",[' * 9] * 16}).encode()
    return first_problem(expected(target.post(body), 400) for body in filler) or expected(target.post(texts), 200)


def held_bodies(target: ServerProcess) -> str:
    """Send 90 bodies of 1 MiB except for the last byte."""
    content = request(b" " * (2**20 - 10))[:-1]
    connections = [target.connect() for _ in range(90)]
    try:
        for connection in connections:
            try:
                connection.sendall(content)
            except OSError:  # rejected
                continue
        time.sleep(0.5)
    finally:
        for connection in connections:
            connection.close()
    for _ in range(100):  # the bodies of disconnected clients are released
        if (reply := target.post(b" " * (2**20 - 10))).status != 503:
            break
        time.sleep(0.1)
    return expected(reply, 400)


def extreme_fields(target: ServerProcess) -> str:
    """Send fields whose values are much too large."""
    texts = [str(number) for number in range(15_000)]
    cases: list[dict[str, object]] = [
        {"max_tokens": 10**18}, {"max_tokens": 2**31}, {"n": 10**9}, {"stop": texts}, {"stop": [[]] * 9000},
        {"logit_bias": dict.fromkeys(texts, 100)}, {"seed": 2**200}, {"temperature": 1e308}, {"tools": [{}] * 9000},
        {"messages": [{"role": "user", "content": "x"}] * 2049}, {"messages": [0] * 15_000}, {"top_logprobs": 10**9},
        {"x" * 900_000: 1}, {"response_format": {"type": "x" * 900_000}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": ["x" * 70_000]}}}},
    ]  # fmt: skip
    wrong_name = target.post({"model": "x" * 900_000, "messages": USER})
    return expected(wrong_name, 404) or first_problem(expected(target.chat(**case), 400) for case in cases)


def long_prompts(target: ServerProcess) -> str:
    """Send texts that cannot fit the context window of a local model."""
    bodies = [{"messages": [{"role": "user", "content": text}]} for text in ("a" * 900_000, "lamp " * 200_000)]
    bodies.append({"messages": [{"role": "user", "content": "lamp " * 200}] * 900})
    return first_problem(expected(target.chat(**body), 400) for body in bodies)


def hostile_schemas(target: ServerProcess) -> str:
    """Send JSON schemas that take long to compile."""
    twice = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    nested: object = {"type": "integer"}
    for _ in range(25):
        nested = {"type": "object", "properties": {"a": nested}}
    schemas: list[object] = [
        {"$defs": {**twice, "d40": {"properties": {"a": {}}}}, "allOf": [{"$ref": "#/$defs/d0"}]},
        {"enum": [f"value {number}" for number in range(3000)]},
        {"type": "string", "pattern": "^(a{1000}){1000}$"},
        {"type": "string", "pattern": "^[ab]*a[ab]{200}$"},
        {"type": "array", "items": {"type": "integer"}, "minItems": 10**9},
        {"type": "integer", "multipleOf": 999_999_937},
        nested,
    ]
    for schema in schemas:
        form = {"type": "json_schema", "json_schema": {"schema": schema}}
        if problem := expected(target.chat(response_format=form), 200, 400):
            return problem
    return ""


def patterns_of_other_models(target: ServerProcess) -> str:
    """Send a pattern with which Python's regular expressions would match an answer for years."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(e+)+$"}}}
    return expected(target.chat(response_format={"type": "json_schema", "json_schema": {"schema": schema}}), 400)


# HTTP.


def ambiguous_requests(target: ServerProcess) -> str:
    """Send requests whose end a proxy may see elsewhere; none may be followed by another on the same connection."""
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    hidden = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
    chunked = b"transfer-encoding: chunked\r\n"
    cases = {
        "length and chunks": head + b"content-length: 5\r\n" + chunked + b"\r\n0\r\n\r\n" + hidden,
        "two lengths": head + b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcde" + hidden,
        "a negative length": head + b"content-length: -5\r\n\r\n" + hidden,
        "a length with a plus": head + b"content-length: +5\r\n\r\nabcde" + hidden,
        "a list of lengths": head + b"content-length: 5, 6\r\n\r\nabcde" + hidden,
        "a bad chunk size": head + chunked + b"\r\nzz\r\n" + hidden,
        "a huge chunk size": head + chunked + b"\r\n" + b"f" * 40 + b"\r\n" + hidden,
        "another encoding": head + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + hidden,
        "a space in a name": b"GET /health HTTP/1.1\r\nhost : localhost\r\n\r\n" + hidden,
        "a folded header": b"GET /health HTTP/1.1\r\nhost: localhost\r\n" + b"a: b\r\n c\0\r\n\r\n" + hidden,
        "two hosts": b"GET /health HTTP/1.1\r\nhost: localhost\r\nhost: evil\r\n\r\n" + hidden,
        "no host": b"GET /health HTTP/1.1\r\n\r\n" + hidden,
        "NUL in the path": b"GET /health\0 HTTP/1.1\r\nhost: localhost\r\n\r\n" + hidden,
        "a header of 1 MB": b"GET /health HTTP/1.1\r\nhost: localhost\r\na: " + b"x" * 10**6 + b"\r\n\r\n" + hidden,
        "10,000 headers": b"GET /health HTTP/1.1\r\nhost: localhost\r\n" + b"a: b\r\n" * 10_000 + b"\r\n" + hidden,
        "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n" + hidden,
    }
    for name, content in cases.items():
        reply = target.send(content, until_closed=True)
        if not reply.closed or reply.content.count(b"HTTP/1.1") > 1 or not (reply.status == 0 or reply.status >= 400):
            return f"{name}: closed={reply.closed} {reply.content[:300]!r}"
    return ""


def unusual_requests(target: ServerProcess) -> str:
    """Send valid requests of unusual kinds."""
    one = target.send(b"GET /health HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n", until_closed=True)
    pipelined = target.send(GET + GET.replace(b"/health", b"/v1/models") + GET.replace(b"\r\n\r\n", b"\r\nconnection: "
                            b"close\r\n\r\n"), until_closed=True)  # fmt: skip
    paths = [
        "/../../etc/passwd", "/v1/models/..%2f..%2fetc%2fpasswd", "/v1/models/%00", "/v1/models/" + "a" * 9000,
        "//evil.example/", "/health/", "/metrics", "/docs", "/openapi.json", "/v1/models/%ff%fe", "*",
    ]  # fmt: skip
    unknown = (target.send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()) for path in paths)
    methods = (target.send(GET.replace(b"GET", name).replace(b"health", b"v1/completions"))
               for name in (b"GET", b"PUT", b"OPTIONS", b"TRACE", b"CONNECT"))  # fmt: skip
    if one.status != 200 or not one.closed:
        return f"HTTP/1.0: {one}"
    if pipelined.content.count(b"HTTP/1.1 200") != 3 or not pipelined.closed:
        return f"pipelined: {pipelined}"
    return first_problem(expected(reply, 404, 400) for reply in unknown) or first_problem(
        expected(reply, 405, 404, 400) for reply in methods
    )


def malformed_requests(target: ServerProcess) -> str:
    """Send 2,000 malformed requests of 10 kinds."""
    post = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    kinds = [
        request(b"{"), request(b"[]"), request(b"\xff" * 99), request({"model": 7}), request({"model": "nobody"}),
        request({"model": "scripted", "messages": USER, "x": 1}), b"\0" * 99 + b"\r\n\r\n",
        post + b"transfer-encoding: chunked\r\n\r\nzz\r\n", post + b"content-length: x\r\n\r\n", b"GET\r\n\r\n",
    ]  # fmt: skip
    for number in range(2000):
        reply = target.send(kinds[number % len(kinds)])
        if not 400 <= reply.status < 500:
            return f"kind {number % len(kinds)}: {reply}"
    return ""


# Browsers and tokens.


def foreign_pages(target: ServerProcess) -> str:
    """Send what a browser sends for a page of another site, also with a name that points to this machine."""
    body = json.dumps({"model": "scripted", "messages": USER}).encode()

    def post(host: str, kind: str = "application/json", origin: str = "") -> Reply:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\n"
        head += f"origin: {origin}\r\n" if origin else ""
        return target.send(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    port = target.address[1]
    forbidden = [
        post("evil.example"), post(f"evil.example:{port}"),
        post("localhost.evil.example"), post("127.0.0.1.evil.example"),
        post("localhost", origin="https://evil.example"), post("localhost", origin="null"),
        post("localhost", origin="x"),
        post("evil.example:80@localhost.evil"), post("[evil"), post(""),
    ]  # fmt: skip
    simple = [post("localhost", kind) for kind in ("text/plain", "application/x-www-form-urlencoded", "", "json")]
    allowed = [post("localhost"), post(f"LOCALHOST:{port}"), post(f"127.0.0.1:{port}"), post(f"[::1]:{port}"),
               post("models.example"), post("localhost", origin="http://localhost:3000")]  # fmt: skip
    return (
        first_problem(expected(reply, 403, 400) for reply in forbidden)
        or first_problem(expected(reply, 415) for reply in simple)
        or first_problem(expected(reply, 200) for reply in allowed)
    )


def tokens(target: ServerProcess) -> str:
    """Send wrong tokens to every path; only ``/health`` needs none."""
    paths = ("/v1/models", "/v1/models/scripted", "/nothing", "/health/", "/health%2f", "//health", "/v1/completions")
    wrong = ("", "Bearer", "Bearer s3cre", "Bearer s3crett", "Bearer S3CRET", "Basic s3cret", "s3cret", "Bearer \xe9")
    for path in paths:
        for value in wrong:
            head = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {value}\r\n\r\n"
            reply = target.send(head.encode("latin-1"))
            if problem := expected(reply, 401) or ("the token is shown" if b"s3cre" in reply.content else ""):
                return f"{path} {value!r}: {problem}"
    return expected(target.send(GET), 200)


# Time.


def slow_requests(target: ServerProcess) -> str:
    """Open 500 connections that send their request, one byte at a time, and never finish it."""
    halves = [GET[:-2], request(b"{}")[:-1], b"", b"P"]
    connections = [target.connect() for _ in range(500)]
    try:
        start = time.monotonic()
        for number, connection in enumerate(connections):
            try:
                connection.sendall(halves[number % len(halves)])
            except OSError:  # closed already
                continue
        while time.monotonic() < start + 3:
            for connection in connections[:50]:
                try:
                    connection.sendall(b"x")
                except OSError:
                    continue
            time.sleep(0.1)
        open_still = sum(not read_reply(connection, until_closed=True).closed for connection in connections)
    finally:
        for connection in connections:
            connection.close()
    return f"{open_still} of 500 unfinished requests are still open" if open_still else ""


def unread_streams(target: ServerProcess) -> str:
    """Request long streams and never read them; the server must close them."""
    body = {"model": target.model, "messages": USER, "stream": True, "max_tokens": 2**30}
    connections = [target.connect() for _ in range(4)]
    try:
        for connection in connections:
            connection.sendall(request(body))
        for connection in connections:
            connection.recv(1, socket.MSG_PEEK)  # the response has begun; nothing is read
        time.sleep(4)
        for connection in connections:
            reply = read_reply(connection, until_closed=True)
            if not reply.closed or reply.content.endswith(b"0\r\n\r\n"):
                return f"the stream was not closed, after {len(reply.content)} bytes"
    finally:
        for connection in connections:
            connection.close()
    return ""


def abandoned_requests(target: ServerProcess) -> str:
    """Fill the queue again and again with requests whose clients leave at once; another client must be served."""
    body = request({"model": "scripted", "messages": USER})
    for _ in range(60):
        with target.connect() as connection:
            connection.sendall(body)
            time.sleep(0.005)
    return expected(target.chat(), 200)


def attack(
    name: str, promise: str, act: Act, *, model: str = SCRIPTED, options: str = "", growth_mib: float = 64,
    slow: bool = False,
) -> Attack:  # fmt: skip
    """Return an attack on a server that is created with this model and these options."""
    return Attack(name, promise, partial(run, name, act, model, options, growth_mib), seconds=90, slow=slow)


HOSTS = "allowed_hosts=['models.example']"
REJECTED = "A request that is too large is rejected with status 413 or 400 before it is parsed."
BOUNDED = "Every field of a request has a limit, and no request takes the server from others."
FRAMING = "A request whose end is ambiguous is rejected, and its connection is closed."
TIMED = "A client that does not send its request or does not read its response is disconnected."
ATTACKS = [
    attack("large body", REJECTED, large_body),
    attack("as many values as fit", REJECTED, many_values),
    attack("many bodies at once", "The bodies that are held at once have a maximum size.", held_bodies,
           options="limits=Limits(bodies=8)", growth_mib=40),
    attack("extreme fields", BOUNDED, extreme_fields),
    attack("long prompts", BOUNDED, long_prompts, model="'tiny'", growth_mib=128),
    attack("hostile schemas", BOUNDED, hostile_schemas, model="'tiny'", growth_mib=384, slow=True),
    attack("patterns for other models", BOUNDED, patterns_of_other_models),
    attack("ambiguous requests", FRAMING, ambiguous_requests),
    attack("unusual requests", FRAMING, unusual_requests),
    attack("malformed requests", "2,000 malformed requests leave less than 10 MiB behind.", malformed_requests,
           growth_mib=10),
    attack("foreign pages", "Without a token, web pages cannot use the server.", foreign_pages, options=HOSTS),
    attack("wrong tokens", "Without the token, only /health responds.", tokens, options="token='s3cret'"),
    attack("slow requests", TIMED, slow_requests, options=IMPATIENT),
    attack("unread streams", TIMED, unread_streams, model=LONG, options=IMPATIENT, growth_mib=256, slow=True),
    attack("abandoned requests", BOUNDED, abandoned_requests, model=SLOW,
           options="max_waiting=8, batch_size=1"),
]  # fmt: skip


def main() -> int:
    """Run all attacks, and write the measured figures."""
    broken = 0
    with HealthProbe(server(SCRIPTED, "")) as probe:
        time.sleep(5)
    measured["no attack"] = {"health_seconds": round(probe.slowest, 3), "growth_mib": 0.0}
    for each in ATTACKS:
        problem = each.run(Path())
        broken += bool(problem)
        print(f"{'BROKEN' if problem else 'held':<7}{each.name}  {measured[each.name]} {problem}", flush=True)
    RESULTS.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
