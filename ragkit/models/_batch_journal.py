"""A journal of the batches that were submitted, so that an interrupted run finds them again and pays for none twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from ragkit._files import locked, make_folder, write_atomic
from ragkit.errors import IntegrityError

_KEPT = 29 * 86_400.0  # seconds for which providers keep results


class Entry(BaseModel):
    """A batch, which is written before it is submitted and again when its identifier is known.

    Attributes:
        mark: Tells the batch apart from all others; the provider stores it.
        provider: The batch interface and its address.
        created: Time before the submission, in seconds since 1970.
        rows: Hashes of its requests.
        batch: The provider's identifier; None until the provider has answered.
        unanswered: The rows that are over without an answer, and may be submitted again.
    """

    model_config = ConfigDict(extra="forbid")

    mark: str = Field(default_factory=lambda: uuid4().hex[:16])
    provider: str
    created: float = Field(default_factory=time.time)
    rows: list[str]
    batch: str | None = None
    unanswered: list[str] = []

    def covers(self) -> set[str]:
        """Return the rows that must not be submitted again."""
        return set(self.rows) - set(self.unanswered)


class Journal:
    """A folder with a file for each batch. Any number of threads and processes can share it."""

    def __init__(self, folder: Path, provider: str) -> None:
        """Open the journal of one batch interface; the folder is created when the first batch is written."""
        self.folder, self._provider = folder, provider

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock under which batches are submitted."""
        make_folder(self.folder)
        with locked(self.folder / "lock"):
            yield

    def entries(self) -> list[Entry]:
        """Return the batches from the oldest to the newest, and remove those whose results the provider has deleted.

        Raises:
            IntegrityError: If a file is damaged.
        """
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                entry = Entry.model_validate_json(path.read_bytes())
            except ValueError as error:
                raise IntegrityError(
                    f"{path} is damaged ({error}); delete it if none of its requests must be found again"
                ) from error
            if entry.provider == self._provider:
                found.append(entry)
        for entry in found:
            if entry.created < time.time() - _KEPT:
                self.remove(entry)
        return sorted((each for each in found if self.path(each).exists()), key=lambda each: each.created)

    def begin(self, rows: Sequence[str]) -> Entry:
        """Write a new batch without an identifier."""
        entry = Entry(provider=self._provider, rows=list(rows))
        self.write(entry)
        return entry

    def write(self, entry: Entry) -> None:
        """Write a batch; when this returns, it survives a power failure."""
        write_atomic(self.path(entry), entry.model_dump_json())

    def remove(self, entry: Entry) -> None:
        """Remove a batch that cost nothing, or whose results are no longer available."""
        self.path(entry).unlink(missing_ok=True)

    def give_up(self, rows: set[str]) -> None:
        """Record that rows are over without an answer."""
        with self.lock():
            for entry in self.entries():
                if lost := entry.covers() & rows:
                    entry.unanswered = sorted({*entry.unanswered, *lost})
                    self.write(entry)

    def path(self, entry: Entry) -> Path:
        """Return the file of a batch."""
        return self.folder / f"{entry.mark}.json"
