"""Opening the files of an index: only regular files inside its folder, readable by the owner only.

A folder that someone else made may contain links to files that the user did not mean to read or change.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ragkit.errors import CorruptIndexError

PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600


def check_regular(path: Path) -> bool:
    """Return whether a file exists.

    Raises:
        CorruptIndexError: If it is a link, a device, or anything else but a regular file.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise CorruptIndexError(path, "it is a link or a device instead of a regular file")
    return True


def open_own(path: Path, flags: int) -> int:
    """Return the descriptor of a file of an index, which is created with the permissions of the database.

    Raises:
        CorruptIndexError: If it is not a regular file.
    """
    new = not check_regular(path)
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE_FILE)  # it may be swapped meanwhile
    if new:
        os.fchmod(descriptor, file_mode(path.parent))
    return descriptor


def file_mode(folder: Path) -> int:
    """Return the permissions of new files: those of the database, which a user can change to share a folder."""
    try:
        return stat.S_IMODE((folder / "index.sqlite").lstat().st_mode) & 0o666
    except FileNotFoundError:
        return _PRIVATE_FILE
