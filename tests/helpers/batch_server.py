"""A server on loopback with the batch interfaces of OpenAI and Anthropic, as their documentation describes them."""

from __future__ import annotations

import email
import json
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Message = dict[str, Any]


class BatchServer:
    """Answers single requests, and batches of them, while the block lasts.

    Attributes:
        states: What an OpenAI batch goes through, one per look; its last state is final.
        fates: What happens to a prompt in its next batches: a status to answer with, or ``"expired"``, ``"cancelled"``
            or ``"missing"``; afterwards, it is answered.
        rejected: Parameters that the model rejects.
        trouble: What happens to the next calls with a method and path, such as ``"POST /v1/batches"``: a status to
            answer with, or ``"after"`` to do the work and answer with status 500 nevertheless.
        problem: Why all batches fail their validation; None if they do not.
        calls: Method and path of each call.
        singles: Bodies of the single requests.
        batches: The batches in the order of their submission, each with its rows.
        on_call: Is called with the number of a call, before it is handled and before its reply is sent.
    """

    def __init__(self) -> None:
        self.states = ["validating", "in_progress", "finalizing", "completed"]
        self.fates: dict[str, list[int | str]] = {}
        self.rejected: set[str] = set()
        self.trouble: dict[str, list[int | str]] = {}
        self.problem: str | None = None
        self.calls: list[str] = []
        self.keys: set[str] = set()
        self.singles: list[Message] = []
        self.files: dict[str, tuple[str, str]] = {}
        self.batches: dict[str, Message] = {}
        self.on_call: Callable[[int, str], None] = lambda number, moment: None
        self._lock = threading.RLock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                server._handle(self, self.rfile.read(int(self.headers["content-length"])))

            def do_GET(self) -> None:
                server._handle(self, b"")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.address}/v1"

    def __enter__(self) -> BatchServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def submitted(self) -> list[str]:
        """The prompts of all batches, one for each row."""
        return [_prompt(row) for batch in self.batches.values() for row in batch["rows"]]

    def _handle(self, handler: Any, body: bytes) -> None:
        path, _, query = handler.path.partition("?")
        call = f"{handler.command} {path}"
        with self._lock:
            self.calls.append(call)
            self.keys |= {handler.headers.get("authorization") or handler.headers.get("x-api-key") or ""}
            number = len(self.calls)
            self.on_call(number, "before")
            queue = self.trouble.get(call) or [None]
            trouble = queue.pop(0)
            if isinstance(trouble, int):
                status, reply = trouble, _error(trouble)
            else:
                status, reply = self._reply(call, query, body, handler.headers)
            if trouble == "after":
                status, reply = 500, _error(500)
            self.on_call(number, "after")
        sent = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        try:
            handler.send_response_only(status)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(sent)))
            handler.end_headers()
            handler.wfile.write(sent)
        except OSError:  # the client is gone
            pass

    def _reply(self, call: str, query: str, body: bytes, headers: Any) -> tuple[int, Any]:
        if call in {"POST /v1/chat/completions", "POST /v1/messages"}:
            self.singles.append(json.loads(body))
            return self._answer(self.singles[-1], call.endswith("messages"))
        if call == "POST /v1/files":
            return 200, self._upload(headers["content-type"], body)
        if call == "POST /v1/batches":
            return 200, self._create(json.loads(body))
        if call == "POST /v1/messages/batches":
            return 200, self._create_anthropic(json.loads(body))
        if call in {"GET /v1/batches", "GET /v1/messages/batches"}:
            return 200, self._page(query)
        if match := re.fullmatch(r"GET /v1/files/(.+)/content", call):
            return 200, self.files[match[1]][1].encode()
        if match := re.fullmatch(r"GET /v1/messages/batches/(\w+)/results", call):
            return 200, "".join(json.dumps(line) + "\n" for line in self.batches[match[1]]["results"]).encode()
        if match := re.fullmatch(r"GET /v1/(?:messages/)?batches/(\w+)", call):
            return self._look(match[1])
        return 404, _error(404)

    def _answer(self, body: Message, anthropic: bool) -> tuple[int, Any]:
        prompt = _prompt({"body": body})
        for name in self.rejected & body.keys():
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            return 400, {"error": {"message": message, "type": "invalid_request_error", "param": name}}
        size = len(prompt)
        if anthropic:
            usage = {"input_tokens": size, "output_tokens": 7, "cache_read_input_tokens": 0,
                     "cache_creation_input_tokens": 0}  # fmt: skip
            content = [{"type": "text", "text": f"answer to {prompt}"}]
            return 200, {"id": "msg", "type": "message", "role": "assistant", "model": "m", "content": content,
                         "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}  # fmt: skip
        text: str | None = f"answer to {prompt}"
        if "response_format" in body:
            allowed = body["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"]
            text = json.dumps({"answer": allowed[size % len(allowed)]})
        message: Message = {"role": "assistant", "content": text, "refusal": None}
        if "forbidden" in prompt:
            message |= {"content": None, "refusal": "I cannot help with that."}
        choice: Message = {"index": 0, "message": message, "finish_reason": "stop"}
        if body.get("logprobs"):
            top = [{"token": token, "logprob": -float(at + size % 3), "bytes": None} for at, token in enumerate("AB")]
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}], "refusal": None}
        details = {"reasoning_tokens": 2}
        usage = {"prompt_tokens": size, "completion_tokens": 7, "total_tokens": size + 7,
                 "completion_tokens_details": details}  # fmt: skip
        return 200, {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice],
                     "usage": usage}  # fmt: skip

    def _fate(self, prompt: str) -> int | str | None:
        fates = self.fates.get(prompt)
        return fates.pop(0) if fates else None

    # OpenAI's interface.

    def _upload(self, kind: str, body: bytes) -> Message:
        parts = {}
        for part in email.message_from_bytes(f"content-type: {kind}\r\n\r\n".encode() + body).get_payload():
            disposition = dict(part.get_params(header="content-disposition"))
            parts[disposition["name"]] = (disposition.get("filename"), part.get_payload(decode=True).decode())
        assert parts["purpose"][1] == "batch"
        return self._file(*parts["file"])

    def _file(self, name: str, content: str) -> Message:
        identifier = f"file-{len(self.files) + 1}"
        self.files[identifier] = name, content
        return {"id": identifier, "object": "file", "bytes": len(content), "created_at": int(time.time()),
                "filename": name, "purpose": "batch", "status": "processed"}  # fmt: skip

    def _create(self, body: Message) -> Message:
        identifier = f"batch_{len(self.batches) + 1}"
        rows = [json.loads(line) for line in self.files[body["input_file_id"]][1].splitlines()]
        assert body["completion_window"] == "24h"
        assert len({row["custom_id"] for row in rows}) == len(rows)
        assert {(row["method"], row["url"]) for row in rows} == {("POST", body["endpoint"])}
        self.batches[identifier] = {
            **body, "id": identifier, "object": "batch", "created_at": int(time.time()), "status": self.states[0],
            "request_counts": {"total": 0, "completed": 0, "failed": 0}, "rows": rows, "looks": 0,
        }  # fmt: skip
        return self._shown(identifier)

    def _shown(self, identifier: str) -> Message:
        hidden = {"rows", "looks", "results"}
        return {name: value for name, value in self.batches[identifier].items() if name not in hidden}

    def _page(self, query: str) -> Message:
        names = list(reversed(self.batches))
        after = re.search(r"after(?:_id)?=(\w+)", query)
        start = names.index(after[1]) + 1 if after else 0
        page = names[start : start + 2]
        return {"object": "list", "data": [self._shown(name) for name in page], "has_more": start + 2 < len(names),
                "first_id": page[0] if page else None, "last_id": page[-1] if page else None}  # fmt: skip

    def _look(self, identifier: str) -> tuple[int, Any]:
        if identifier not in self.batches:
            return 404, _error(404)
        batch = self.batches[identifier]
        batch["looks"] += 1
        if batch["looks"] >= len(self.states) and "results" not in batch:
            if "endpoint" in batch:
                self._finish(batch)
            else:
                self._end(batch)
        elif "endpoint" in batch and "results" not in batch:
            batch["status"] = self.states[batch["looks"] - 1]
        return 200, self._shown(identifier)

    def _finish(self, batch: Message) -> None:
        batch |= {"results": [], "status": self.states[-1]}
        if self.problem is not None:
            error = {"code": "invalid", "message": self.problem, "line": 1, "param": None}
            batch |= {"status": "failed", "errors": {"object": "list", "data": [error]}}
            return
        answers: list[Message] = []
        errors: list[Message] = []
        for row in batch["rows"]:
            fate = self._fate(_prompt(row))
            line: Message = {"id": "batch_req_1", "custom_id": row["custom_id"], "response": None, "error": None}
            if isinstance(fate, str):
                if fate != "missing":
                    errors.append({**line, "error": {"code": f"batch_{fate}", "message": f"The request {fate}."}})
                continue
            status, body = (fate, _error(fate)) if fate else self._answer(row["body"], False)
            line["response"] = {"status_code": status, "request_id": "r", "body": body}
            (answers if status == 200 else errors).append(line)
        counts = {"total": len(batch["rows"]), "completed": len(answers), "failed": len(errors)}
        batch["request_counts"] = counts
        for name, lines in (("output_file_id", answers), ("error_file_id", errors)):
            if lines:
                # The order of the results is not that of the rows.
                batch[name] = self._file(name, "".join(json.dumps(line) + "\n" for line in reversed(lines)))["id"]

    # Anthropic's interface.

    def _create_anthropic(self, body: Message) -> Message:
        identifier = f"msgbatch_{len(self.batches) + 1}"
        rows = [{"custom_id": each["custom_id"], "body": each["params"]} for each in body["requests"]]
        assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", row["custom_id"]) for row in rows)
        counts = {"processing": len(rows), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        self.batches[identifier] = {
            "id": identifier, "type": "message_batch", "processing_status": "in_progress", "request_counts": counts,
            "created_at": datetime.now(UTC).isoformat(), "results_url": None, "rows": rows, "looks": 0,
        }  # fmt: skip
        return self._shown(identifier)

    def _end(self, batch: Message) -> None:
        results, counts = [], dict.fromkeys(batch["request_counts"], 0)
        for row in batch["rows"]:
            fate = self._fate(_prompt(row))
            if isinstance(fate, str):
                result: Message = {"type": {"cancelled": "canceled"}.get(fate, fate)}
            elif fate:
                kind = {400: "invalid_request_error", 529: "overloaded_error"}.get(fate, "api_error")
                error = {"type": "error", "error": {"type": kind, "message": f"trouble {fate}"}}
                result = {"type": "errored", "error": error}
            else:
                result = {"type": "succeeded", "message": self._answer(row["body"], True)[1]}
            counts[result["type"]] += 1
            results.append({"custom_id": row["custom_id"], "result": result})
        url = f"{self.url}/messages/batches/{batch['id']}/results"
        batch |= {"processing_status": "ended", "request_counts": counts, "results_url": url, "results": results}


def _prompt(row: Message) -> str:
    content = row["body"]["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def _error(status: int) -> Message:
    return {"error": {"message": f"trouble {status}", "type": "server_error" if status >= 500 else "invalid"}}
