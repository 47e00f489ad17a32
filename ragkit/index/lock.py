"""One writer at a time: a lock on a file, held by the operating system for as long as the process lives."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import weakref
from datetime import UTC, datetime
from pathlib import Path

from ragkit.errors import IndexLockedError


class WriterLock:
    """Held from construction to `release`. What a dead process left behind does not lock: the system let go of it."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            IndexLockedError: If another writer holds it.
            OSError: If the folder cannot be written to.
        """
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            hint = f"{error.strerror}; open the index with read_only=True to search it only"
            raise OSError(error.errno, hint, str(path)) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(file, 1000).decode(errors="replace").strip() or "an unknown process"
            os.close(file)
            raise IndexLockedError(
                f"{path.parent} is open for writing elsewhere ({holder}); close it there, or open it read_only"
            ) from error
        except OSError:  # a file system without locks
            os.close(file)
            raise
        self._file = file
        self._let_go = weakref.finalize(self, _release, file)  # also when the interpreter ends
        since = datetime.now(UTC).isoformat(timespec="seconds")
        note = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        os.truncate(file, 0)
        os.pwrite(file, note.encode(), 0)

    def leave(self) -> None:
        """Leave the lock to the parent process, in a forked one."""
        if self._let_go.detach():  # and was not released before
            os.close(self._file)  # otherwise the lock would be held until this process ends too

    def release(self) -> None:
        """Let go of the lock; twice does no harm."""
        self._let_go()


def _release(file: int) -> None:
    os.truncate(file, 0)
    os.close(file)  # which unlocks
