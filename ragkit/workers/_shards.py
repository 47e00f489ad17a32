"""Completed batches on disk, from which an interrupted run resumes."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

from ragkit._files import make_folder, write_atomic
from ragkit.errors import InvalidInputError, RagkitWarning
from ragkit.workers._batches import Missing

_MAGIC = b"ragkit shard 1\n"
_DIGEST = 32


class Shards:
    """A folder with one file for each completed batch, named by a hash of the work and of the batch.

    Files are written atomically, by a rename after the data are on disk, and are verified when they are read. Any
    number of runs may share a folder.
    """

    def __init__(self, folder: Path) -> None:
        """Create the folder if it does not exist.

        Raises:
            InvalidInputError: If it cannot be created.
        """
        self.folder = folder
        try:
            make_folder(folder)
        except OSError as error:
            raise InvalidInputError(f"{folder} cannot be made a folder of shards ({error}); give another") from error

    def read(self, key: str) -> bytes | None:
        """Return the results of a completed batch; None if there are none or, with a warning, if they are damaged."""
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
        """Store a completed batch; after an error, such as a full disk, the partial file is removed."""
        write_atomic(self._path(key), _sealed(results))

    def write_quarantine(self, missing: Sequence[Missing]) -> None:
        """List the abandoned batches of this run, with reasons, in ``quarantine.jsonl``; no file if there are none."""
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
