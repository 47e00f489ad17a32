"""A lock that allows one writer at a time, held by the operating system until the process ends."""

from __future__ import annotations

import json
import os
import socket
import weakref
from datetime import UTC, datetime
from pathlib import Path

from ragkit._files import try_lock
from ragkit.errors import IndexLockedError
from ragkit.index._own_files import open_own


class WriterLock:
    """A file lock, held from construction to `release`. The operating system releases the locks of dead processes."""

    def __init__(self, path: Path) -> None:
        """Acquire the lock.

        Raises:
            IndexLockedError: If another writer holds it.
            OSError: If the folder is not writable.
        """
        try:
            file = open_own(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            hint = f"{error.strerror}; open the index with read_only=True to search it only"
            raise OSError(error.errno, hint, str(path)) from error
        try:
            locked = try_lock(file)
        except OSError:  # a file system without locks
            os.close(file)
            raise
        if not locked:
            holder = os.read(file, 1000).decode(errors="replace").strip() or "an unknown process"
            os.close(file)
            raise IndexLockedError(
                f"{path.parent} is open for writing elsewhere ({holder}); close it there, or open it read_only"
            )
        self._file = file
        self._let_go = weakref.finalize(self, _release, file)  # also when the interpreter ends
        since = datetime.now(UTC).isoformat(timespec="seconds")
        note = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        os.truncate(file, 0)
        os.pwrite(file, note.encode(), 0)

    def leave(self) -> None:
        """Leave the lock to the parent process, after a fork."""
        if self._let_go.detach():  # unless it was released before
            os.close(self._file)  # otherwise this process would also hold the lock until it ends

    def release(self) -> None:
        """Release the lock. Safe to call twice."""
        self._let_go()


def _release(file: int) -> None:
    os.truncate(file, 0)
    os.close(file)  # releases the lock
