"""A small server on loopback that speaks the vendor's files, fine-tuning jobs and chat, and makes trouble."""

from __future__ import annotations

import email
import json
import threading
import time
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class Vendor:
    """Holds files and jobs while the block lasts.

    Attributes:
        files: Uploaded files by id, each with its name and content.
        jobs: Jobs by id.
        states: What a job goes through, one a look.
        trouble: What befalls the next calls of an endpoint: a status to answer with, or ``"after"`` to do the work and
            answer with status 500 all the same.
        calls: Method and path of each call.
        keys: Authorization headers.
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.states = ["validating_files", "queued", "running", "succeeded"]
        self.error: dict[str, Any] | None = None
        self.trouble: dict[str, list[Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.keys: set[str] = set()
        routes = [
            Route("/v1/files", self._guarded("upload", self._upload), methods=["POST"]),
            Route("/v1/files", self._guarded("files", self._list_files)),
            Route("/v1/fine_tuning/jobs", self._guarded("create", self._create), methods=["POST"]),
            Route("/v1/fine_tuning/jobs", self._guarded("jobs", self._list_jobs)),
            Route("/v1/fine_tuning/jobs/{id}", self._guarded("look", self._look)),
            Route("/v1/fine_tuning/jobs/{id}/cancel", self._guarded("cancel", self._cancel), methods=["POST"]),
            Route("/v1/fine_tuning/jobs/{id}/checkpoints", self._guarded("checkpoints", self._checkpoints)),
            Route("/v1/fine_tuning/jobs/{id}/events", self._guarded("events", self._events)),
            Route("/v1/chat/completions", self._guarded("chat", self._chat), methods=["POST"]),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="critical", ws="none", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Vendor:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}/v1"

    def made(self, path: str) -> int:
        """How often something was posted."""
        return self.calls.count(("POST", f"/v1/{path}"))

    def rows(self, field: str) -> list[dict[str, Any]]:
        """Rows of a file of the last job."""
        (*_, job) = self.jobs.values()
        return [json.loads(line) for line in self.files[job[field]][1].splitlines()]

    def _guarded(self, name: str, handler: Any) -> Any:
        async def guarded(request: Request) -> Response:
            self.calls.append((request.method, request.url.path))
            self.keys.add(request.headers.get("authorization", ""))
            queue = self.trouble.get(name) or [None]
            trouble = queue.pop(0)
            if isinstance(trouble, int):
                body = {"error": {"message": f"trouble {trouble}"}}
                return JSONResponse(body, trouble, headers={"retry-after": "0"} if trouble == 429 else None)
            answer = await handler(request)
            if trouble == "after":
                return JSONResponse({"error": {"message": "the answer was lost"}}, 500)
            return answer if isinstance(answer, Response) else JSONResponse(answer)

        return guarded

    async def _upload(self, request: Request) -> Any:
        head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
        parts = {}
        for part in email.message_from_bytes(head + await request.body()).get_payload():
            disposition = dict(part.get_params(header="content-disposition"))
            parts[disposition["name"]] = (disposition.get("filename"), part.get_payload(decode=True))
        assert parts["purpose"][1] == b"fine-tune"
        name = f"file-{len(self.files) + 1}"
        self.files[name] = parts["file"]
        return self._file(name)

    def _file(self, name: str) -> dict[str, Any]:
        filename, content = self.files[name]
        return {"id": name, "object": "file", "bytes": len(content), "created_at": 0, "filename": filename,
                "purpose": "fine-tune", "status": "processed"}  # fmt: skip

    async def _list_files(self, _: Request) -> Any:
        return {"object": "list", "data": [self._file(name) for name in self.files], "has_more": False}

    async def _create(self, request: Request) -> Any:
        body = await request.json()
        name = f"ftjob-{len(self.jobs) + 1}"
        self.jobs[name] = {
            "id": name, "object": "fine_tuning.job", "created_at": 0, "fine_tuned_model": None, "finished_at": None,
            "hyperparameters": body["method"]["supervised"]["hyperparameters"], "organization_id": "o",
            "result_files": [], "status": self.states[0], "trained_tokens": None, "error": None,
            "validation_file": None, "looks": 0, **body,
        }  # fmt: skip
        return self.jobs[name]

    async def _list_jobs(self, _: Request) -> Any:
        return {"object": "list", "data": list(self.jobs.values()), "has_more": False}

    async def _look(self, request: Request) -> Any:
        job = self.jobs[request.path_params["id"]]
        job["looks"] += 1
        if job["status"] != "cancelled":
            job["status"] = self.states[min(job["looks"], len(self.states)) - 1]
        if job["status"] == "succeeded":
            job |= {"fine_tuned_model": f"ft:{job['model']}:org::{job['id']}", "trained_tokens": 1500}
        if job["status"] == "failed":
            job["error"] = self.error
        return job

    async def _cancel(self, request: Request) -> Any:
        job = self.jobs[request.path_params["id"]]
        job["status"] = "cancelled"
        return job

    async def _events(self, _: Request) -> Any:
        events = [{"step": 2, "train_loss": 0.25, "valid_loss": 0.5}, {"step": 1, "train_loss": 2.0}]
        rows = [{"id": "e", "object": "fine_tuning.job.event", "created_at": 0, "level": "info", "message": "m",
                 "type": "metrics", "data": event} for event in events]  # fmt: skip
        return {"object": "list", "data": rows, "has_more": False}

    async def _checkpoints(self, request: Request) -> Any:
        job = self.jobs[request.path_params["id"]]
        rows = [{"id": f"ftckpt_{step}", "object": "fine_tuning.job.checkpoint", "created_at": 0, "step_number": step,
                 "fine_tuned_model_checkpoint": f"ft:{job['model']}:org::{job['id']}:ckpt-step-{step}",
                 "fine_tuning_job_id": job["id"], "metrics": {"train_loss": 1 / step, "full_valid_loss": 2 / step}}
                for step in (4, 2)]  # fmt: skip
        return {"object": "list", "data": rows, "has_more": False}

    async def _chat(self, request: Request) -> Any:
        body = await request.json()
        message = {"role": "assistant", "content": f"{body['model']} says {body['messages'][-1]['content']}"}
        return {"id": "c", "object": "chat.completion", "created": 0, "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}  # fmt: skip
