"""Answering requests in batches: those of earlier batches are found again, and only the others are submitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ragkit._progress import progress
from ragkit.errors import ModelAccessError, ModelError, TransientModelError
from ragkit.models._batch_journal import Entry, Journal
from ragkit.models._batch_providers import Provider, Reply, Row, Status
from ragkit.models._concurrency import Cancellation, applied_cancellations, raise_if_stopped
from ragkit.models._rate_limit import Retry

_MOST_FAILED_LOOKS = 20  # of which each is retried for about a minute
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRuns:
    """Runs batches at a provider.

    Attributes:
        provider: The batch interface.
        journal: The batches that were submitted.
        name: Name of the model.
        poll_seconds: Seconds between two looks at a batch.
        failure: Converts an error of the provider's package.
        retry: How transient errors of the batch interface are retried.
    """

    provider: Provider
    journal: Journal
    name: str
    poll_seconds: float
    failure: Callable[[Exception], Exception]
    retry: Retry

    def answers(self, rows: Mapping[str, Row]) -> dict[str, Reply]:
        """Return the reply to each row; this can take as long as the provider needs, up to a day.

        Args:
            rows: The rows by their identifiers.

        Returns:
            The replies; status 409 for a row that expired, and 400 for a row that was cancelled.

        Raises:
            ModelError: If the provider rejects a batch, or does not know a batch of the journal.
        """
        missing, followed = dict(rows), []
        with self.journal.lock():  # no two processes submit the same row
            for entry in self._submitted():
                if found := entry.covers() & missing.keys():
                    followed.append(entry)
                    missing = {name: row for name, row in missing.items() if name not in found}
            followed.extend(self._submit(part) for part in self._parts(list(missing.values())))
        replies: dict[str, Reply] = {}
        with progress(f"{self.name}: batch", sum(len(entry.rows) for entry in followed), "rows") as stage:
            for entry in followed:
                status = self._over(entry, stage)
                replies |= self._read(entry, status, rows)
        return replies

    def _submitted(self) -> list[Entry]:
        """Return the batches of the journal, after finding those that were submitted by an interrupted process."""
        entries = self.journal.entries()
        for entry in [each for each in entries if each.batch is None]:
            entry.batch = self._find(entry)
            if entry.batch is None:  # the request of the interrupted process may still be on its way
                self._wait()
                entry.batch = self._find(entry)
            if entry.batch is None:
                self.journal.remove(entry)
            else:
                self.journal.write(entry)
        return [entry for entry in entries if entry.batch is not None]

    def _find(self, entry: Entry) -> str | None:
        known = {each.batch for each in self.journal.entries() if each.batch is not None}
        return self._call(partial(self.provider.find, entry.mark, len(entry.rows), entry.created, known, self._wait))

    def _parts(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Split rows by endpoint and by the limits on a batch."""
        for path in dict.fromkeys(row.path for row in rows):
            part: list[Row] = []
            size = 0
            for row in (each for each in rows if each.path == path):
                length = len(str(row.body).encode(errors="surrogatepass")) * 2 + 200  # at most, with escapes
                if part and (len(part) == self.provider.most_rows or size + length > self.provider.most_bytes):
                    yield part
                    part, size = [], 0
                part.append(row)
                size += length
            if part:
                yield part

    def _submit(self, rows: Sequence[Row]) -> Entry:
        entry = self.journal.begin([row.id for row in rows])
        attempts = 0

        def submit() -> str:
            nonlocal attempts
            attempts += 1  # an attempt that seemed to fail may have succeeded
            found = None if attempts == 1 else self._find(entry)
            return found or self.provider.submit(entry.mark, rows)

        try:
            entry.batch = self._call(submit)
        except ModelError as error:
            if not error.maybe_paid:
                self.journal.remove(entry)
            raise
        self.journal.write(entry)
        return entry

    def _over(self, entry: Entry, stage: Any) -> Status:
        """Wait until a batch is over, and report its progress."""
        done = failed = 0
        while True:
            try:
                status = self._call(partial(self.provider.look, str(entry.batch)))
                failed = 0
            except TransientModelError:  # the batch goes on at the provider meanwhile
                failed += 1
                if failed == _MOST_FAILED_LOOKS:
                    raise
                status = Status(over=False, rows=done)
            except ModelAccessError as error:
                raise self._unknown(entry, error) from error
            stage(max(0, status.rows - done))
            done = max(done, status.rows)
            if status.failure is not None:
                self.journal.remove(entry)  # nothing of it is billed
                raise ModelError(f"{self.name} rejected the batch: {status.failure}", maybe_paid=False)
            if status.over:
                stage(max(0, len(entry.rows) - done))
                return status
            self._wait()

    def _read(self, entry: Entry, status: Status, rows: Mapping[str, Row]) -> dict[str, Reply]:
        """Read the results of a batch; rows without a result may be submitted again."""

        def read() -> dict[str, Reply]:
            results = self.provider.results(str(entry.batch), status)
            return {name: reply for name, reply in results if reply is not None}

        try:
            replies = self._call(read)
        except ModelAccessError as error:
            raise self._unknown(entry, error) from error
        wanted = entry.covers() & rows.keys()
        lost = wanted - replies.keys()
        if lost:
            self.journal.give_up(lost)
        return {name: replies.get(name) or _lost(status.missing) for name in rows if name in wanted}

    def _unknown(self, entry: Entry, error: ModelAccessError) -> ModelAccessError:
        return ModelAccessError(
            f"{error}. This happened for the batch {entry.batch}, whose requests are not submitted again because they "
            f"are paid for. If it cannot be read any more, delete {self.journal.path(entry)} to submit them again",
            maybe_paid=False,
        )

    def _wait(self) -> None:
        """Wait until the next look at a batch, or raise `CallCancelledError`."""
        Cancellation().wait(self.poll_seconds, *applied_cancellations())
        raise_if_stopped()

    def _call(self, work: Callable[[], _T]) -> _T:
        """Call the provider, and retry after transient errors."""

        def attempt() -> _T:
            try:
                return work()
            except ModelError:
                raise
            except Exception as error:  # noqa: BLE001 - every provider has its own errors
                failure = self.failure(error)
            raise failure

        return self.retry.run(attempt)


def _lost(what: str) -> Reply:
    """Return the reply to a row that the provider has not run."""
    if what == "cancelled":
        message = "the batch was cancelled at the provider; call again to submit the rest"
        return Reply(400, {"type": "error", "error": {"type": "batch_cancelled", "message": message}})
    message = "the batch expired before this request was run"
    return Reply(409, {"type": "error", "error": {"type": "batch_expired", "message": message}})
