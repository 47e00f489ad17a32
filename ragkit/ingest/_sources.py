"""The files that a path refers to, opened such that none of them can make its reader wait or read without end."""

from __future__ import annotations

import errno
import glob
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from typing_extensions import override

from ragkit.errors import InvalidInputError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Control characters, and those that change the direction of text: they could hide or forge what a terminal shows.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Unread(NamedTuple):
    """A file or line that could not be read.

    Attributes:
        source: The file, with the line number if only a line is affected.
        reason: Why it could not be read.
    """

    source: str
    reason: str


class SourceFile(NamedTuple):
    """A file to be read.

    Attributes:
        path: Its path, which is not a link.
        source: Its name in metadata: the folder's name and the relative path, the file name, or a path of the pattern.
    """

    path: Path
    source: str

    @property
    def suffix(self) -> str:
        """The suffix of its name, in lower case."""
        return Path(self.source).suffix.lower()


def find_files(path: str | Path) -> list[SourceFile | Unread]:
    """Return the files that a path refers to, sorted by name.

    Args:
        path: A file, a folder, or a pattern.

    Returns:
        Files to read, and files that are skipped.

    Raises:
        InvalidInputError: If there is no file.
    """
    place = Path(path)
    if place.is_dir():
        root = place.resolve()
        found = [_checked(each, f"{root.name}/{each.relative_to(root).as_posix()}") for each in _walk(root)]
    elif place.exists() or place.is_symlink():
        found = [_checked(place.resolve() if place.exists() else place, place.name)]  # a link that a user names
    else:
        matched = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob rejects absolute patterns
        found = [_checked(Path(each), Path(each).as_posix()) for each in matched if not Path(each).is_dir()]
    if not found:
        raise InvalidInputError(f"{path} holds no file; give a file, a folder with files, or a pattern that matches")
    return found


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        linked = [each for each in folders if Path(folder, each).is_symlink()]
        yield from (Path(folder, each) for each in sorted([*names, *linked]) if not each.startswith("."))


def _checked(path: Path, source: str) -> SourceFile | Unread:
    if _UNPRINTABLE.search(source):
        shown = _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], source)
        return Unread(shown, "its name is not valid text or contains control characters; rename it")
    if path.is_symlink():
        return Unread(source, "it is a link, and links are not followed")
    if not path.is_file():
        return Unread(source, "it is not a regular file")
    return SourceFile(path, source)


def open_binary(path: Path) -> io.BufferedReader:
    """Open a regular file to read the bytes that it has now.

    Args:
        path: The file.

    Returns:
        The open file, which ends where the file ended when it was opened, although the file may grow.

    Raises:
        OSError: If it cannot be opened, or has become a link, a pipe or a device.
    """
    # Without O_NONBLOCK, opening a pipe waits for its writer.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    facts = os.fstat(file)
    if not stat.S_ISREG(facts.st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return io.BufferedReader(_Snapshot(file, facts.st_size))


def open_text(path: Path, encoding: str, *, newline: str | None = None) -> io.TextIOWrapper:
    """Open a regular file to read the text that it has now; see `open_binary`.

    Args:
        path: The file.
        encoding: Its encoding; invalid bytes become U+FFFD.
        newline: As for `open`.

    Returns:
        The open file.
    """
    return io.TextIOWrapper(open_binary(path), encoding=encoding, errors="replace", newline=newline)


class _Snapshot(io.RawIOBase):
    def __init__(self, file: int, size: int) -> None:
        self._file, self._size = file, size

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._file, offset, whence)

    @override
    def readinto(self, buffer: WriteableBuffer) -> int:
        left = self._size - self.tell()
        return os.readv(self._file, [memoryview(buffer).cast("B")[:left]]) if left > 0 else 0

    @override
    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()
