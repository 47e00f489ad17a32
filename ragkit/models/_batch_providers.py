"""The batch interfaces of OpenAI and Anthropic: how batches are submitted, found again, watched and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from typing_extensions import override

_SKEW = 3600.0  # seconds by which the clocks of this machine and of the provider may differ
_MIB = 2**20
_OVER = {"completed", "failed", "expired", "cancelled"}
# The status with which Anthropic's API answers a single request with this error.
_STATUS_OF = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "timeout_error": 504,
    "overloaded_error": 529,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A request of a batch, exactly as it would be sent on its own.

    Attributes:
        id: Hash of the request, and of what tells it apart from equal ones.
        path: Path of its endpoint, such as ``/v1/chat/completions``.
        body: Its body.
        beta: Anthropic's features in beta that it uses.
    """

    id: str
    path: str
    body: Mapping[str, Any]
    beta: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """The response to a row: its HTTP status and its body."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a batch.

    Attributes:
        over: Whether no further row will be answered.
        rows: Number of rows that are over.
        failure: Why the provider rejected the whole batch; None if it did not.
        missing: What happened to rows without a reply: ``"expired"`` or ``"cancelled"``.
        files: Identifiers of the files with the results.
    """

    over: bool
    rows: int = 0
    failure: str | None = None
    missing: str = "expired"
    files: tuple[str, ...] = ()


class Provider(Protocol):
    """A batch interface; its methods raise the errors of the package that sends the requests.

    Attributes:
        most_rows: Maximum number of rows of a batch.
        most_bytes: Maximum size of a batch.
    """

    most_rows: int
    most_bytes: int

    def submit(self, mark: str, rows: Sequence[Row]) -> str:
        """Submit a batch and return its identifier; ``mark`` tells it apart from all others."""
        ...

    def find(self, mark: str, rows: int, since: float, known: Collection[str], wait: Callable[[], None]) -> str | None:
        """Return the batch with a mark that was submitted after a time, or None.

        Args:
            mark: The mark.
            rows: Number of its rows.
            since: The time, in seconds since 1970.
            known: Identifiers of batches with other marks.
            wait: Waits before a batch is looked at again, if only its results tell its mark.
        """
        ...

    def look(self, batch: str) -> Status:
        """Return the state of a batch."""
        ...

    def results(self, batch: str, status: Status) -> Iterator[tuple[str, Reply | None]]:
        """Yield the identifiers of rows with their replies; None for a row that was not run."""
        ...


def custom_id(mark: str, row: Row) -> str:
    """Return the identifier of a row for the provider, which also tells the batch."""
    return f"{mark}-{row.id}"


class OpenAIBatches(Provider):
    """OpenAI's interface: a file of rows, a batch with the mark in its metadata, and files of results."""

    most_rows, most_bytes = 50_000, 190 * _MIB

    def __init__(self, client: Any) -> None:
        """Use a client of OpenAI's package."""
        self._client = client

    @override
    def submit(self, mark: str, rows: Sequence[Row]) -> str:
        lines = [
            {"custom_id": custom_id(mark, row), "method": "POST", "url": row.path, "body": row.body} for row in rows
        ]
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        file = self._client.files.create(file=(f"ragkit-{mark}.jsonl", content), purpose="batch")
        batch = self._client.batches.create(
            completion_window="24h", endpoint=rows[0].path, input_file_id=file.id, metadata={"ragkit": mark},
            extra_headers={"Idempotency-Key": mark},
        )  # fmt: skip
        return str(batch.id)

    @override
    def find(self, mark: str, rows: int, since: float, known: Collection[str], wait: Callable[[], None]) -> str | None:
        for batch in self._client.batches.list(limit=100):  # from the newest to the oldest
            if (batch.metadata or {}).get("ragkit") == mark:
                return str(batch.id)
            if batch.created_at < since - _SKEW:
                break
        return None

    @override
    def look(self, batch: str) -> Status:
        found = self._client.batches.retrieve(batch)
        failure = None
        if found.status == "failed":
            told = [str(error.message) for error in (found.errors.data if found.errors else None) or ()]
            failure = "; ".join(told[:3]) or "no reason was given"
        counts = found.request_counts
        return Status(
            over=found.status in _OVER,
            rows=(counts.completed + counts.failed) if counts else 0,
            failure=failure,
            missing="cancelled" if found.status == "cancelled" else "expired",
            files=tuple(filter(None, (found.output_file_id, found.error_file_id))),
        )

    @override
    def results(self, batch: str, status: Status) -> Iterator[tuple[str, Reply | None]]:
        for file in status.files:
            for line in filter(None, self._client.files.content(file).iter_lines()):
                row = json.loads(line)
                response = row.get("response")
                reply = None if response is None else Reply(int(response["status_code"]), response["body"])
                yield row["custom_id"].rpartition("-")[2], reply


class AnthropicBatches(Provider):
    """Anthropic's interface: the rows are in the request, and only the results contain their identifiers.

    A batch of unknown mark is therefore found by its time and its number of rows, and confirmed by its results.
    """

    most_rows, most_bytes = 100_000, 240 * _MIB

    def __init__(self, http: Any) -> None:
        """Use an HTTP client of httpx, with the address and the headers of the API."""
        self._http = http

    def _json(self, method: str, path: str, **options: Any) -> Any:
        response = self._http.request(method, path, **options)
        response.raise_for_status()
        return response.json()

    @override
    def submit(self, mark: str, rows: Sequence[Row]) -> str:
        requests = [{"custom_id": custom_id(mark, row), "params": row.body} for row in rows]
        beta = ",".join(sorted({name for row in rows for name in row.beta.split(",") if name}))
        headers = {"anthropic-beta": beta} if beta else {}
        return str(self._json("POST", "/v1/messages/batches", json={"requests": requests}, headers=headers)["id"])

    @override
    def find(self, mark: str, rows: int, since: float, known: Collection[str], wait: Callable[[], None]) -> str | None:
        for batch in self._all(since - _SKEW):
            if batch["id"] in known or sum(batch["request_counts"].values()) != rows:
                continue
            while not self.look(batch["id"]).over:
                wait()
            if next((name for name, _ in self._lines(batch["id"])), "").startswith(mark):
                return str(batch["id"])
        return None

    def _all(self, since: float) -> Iterator[Any]:
        """Yield the batches that were created after a time, from the newest to the oldest."""
        after: dict[str, str] = {}
        while True:
            page = self._json("GET", "/v1/messages/batches", params={"limit": "100", **after})
            for batch in page["data"]:
                if datetime.fromisoformat(batch["created_at"]).timestamp() < since:
                    return
                yield batch
            if not page.get("has_more"):
                return
            after = {"after_id": page["last_id"]}

    @override
    def look(self, batch: str) -> Status:
        found = self._json("GET", f"/v1/messages/batches/{batch}")
        counts: Mapping[str, int] = found["request_counts"]
        over = found["processing_status"] == "ended"
        done = sum(count for name, count in counts.items() if name != "processing")
        return Status(over, done, missing="cancelled" if counts.get("canceled") else "expired")

    def _lines(self, batch: str) -> Iterator[tuple[str, Any]]:
        # Not `results_url`, because the key must not be sent to an address that a reply names.
        with self._http.stream("GET", f"/v1/messages/batches/{batch}/results") as response:
            response.raise_for_status()
            for line in filter(None, response.iter_lines()):
                row = json.loads(line)
                yield row["custom_id"], row["result"]

    @override
    def results(self, batch: str, status: Status) -> Iterator[tuple[str, Reply | None]]:
        for name, result in self._lines(batch):
            reply = None
            if result["type"] == "succeeded":
                reply = Reply(200, result["message"])
            elif result["type"] == "errored":
                reply = Reply(_STATUS_OF.get(result["error"]["error"]["type"], 500), result["error"])
            yield name.rpartition("-")[2], reply
