"""Files that several processes share: the user's cache folder, checksums and locks."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for files that ragkit can recreate, such as exported and converted models.

    Returns:
        ``$RAGKIT_CACHE``, otherwise ``ragkit`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; it may not exist yet.
    """
    if given := os.environ.get("RAGKIT_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ragkit"


def file_sha256(*paths: Path) -> str:
    """Hash a file, or several as if they were one.

    Args:
        *paths: The files, in order.

    Returns:
        The sha256 in hexadecimal.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes and threads; wait while another one holds it.

    The operating system releases the lock of a process that dies. The file stays, because removing it would let two
    processes lock two different files.

    Args:
        path: The lock file, in an existing folder.

    Yields:
        Nothing.
    """
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
