"""Finished batches on disk, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

from ragkit.errors import InvalidInputError, RagkitWarning
from ragkit.files import write_atomic
from ragkit.workers.batches import Missing

_MAGIC = b"ragkit shard 1\n"
_DIGEST = 32


class Shards:
    """A folder with one file for each finished batch, named by a hash of the work and of the batch.

    A file appears whole, by a rename after its bytes are on the disk, and is checked when it is read. Any number of
    runs may share a folder.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder where it is not there.

        Raises:
            InvalidInputError: If it cannot be made.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(f"{folder} cannot be made a folder of shards ({error}); give another") from error

    def read(self, key: str) -> bytes | None:
        """Find a finished batch.

        Args:
            key: What `ragkit.workers.batches.key_of` gave.

        Returns:
            Its results as bytes; None where it is not finished, or its file is damaged, which a warning says.
        """
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        results = data[len(_MAGIC) + _DIGEST :]
        if data != _sealed(results):
            warnings.warn(f"{path} is damaged; its batch is worked on again", RagkitWarning, stacklevel=2)
            return None
        return results

    def write(self, key: str, results: bytes) -> None:
        """Keep a finished batch; after an error, such as a full disk, nothing of it is left."""
        write_atomic(self._path(key), _sealed(results))

    def write_quarantine(self, missing: Sequence[Missing]) -> None:
        """Say in ``quarantine.jsonl`` which batches were given up in this run and why; no file where there are none."""
        path = self.folder / "quarantine.jsonl"
        if not missing:
            path.unlink(missing_ok=True)
            return
        lines = [{"ids": list(each.ids), "attempts": each.attempts, "reason": each.reason} for each in missing]
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in lines))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.shard"


def _sealed(results: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(results).digest() + results
