"""Safe handling of files: private files and folders, atomic writes, locks, checksums and the cache folder.

Caches, indexes, traces and results contain private text, so only their owner can read the files (mode 0600) and folders
(0700) that ragkit creates. A umask that allows less is respected, and an existing folder keeps its mode.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHECKSUM = re.compile(rb',"checksum":"([0-9a-f]{8})"}\Z')


def cache_folder() -> Path:
    """Return the folder for files that ragkit can recreate, such as exported and converted models.

    Returns:
        ``$RAGKIT_CACHE``, otherwise ``ragkit`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; it may not exist yet.
    """
    if given := os.environ.get("RAGKIT_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ragkit"


# -- private files -----------------------------------------------------------------------------------------------------


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, for this user only. An existing folder is unchanged.

    Args:
        path: The folder.

    Raises:
        NotADirectoryError: If a file has its name, or that of a parent.
        OSError: If it cannot be created.
    """
    with _explained(path):
        for each in reversed([each for each in (path, *path.parents) if not each.is_dir()]):
            try:
                each.mkdir(mode=0o700, exist_ok=True)  # another thread or process may create it at the same time
            except FileExistsError as error:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(each)) from error


def private_opener(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file that, if it is created, only this user can read: ``open(path, "a", opener=private_opener)``.

    Args:
        path: The file.
        flags: Flags of `os.open`.

    Returns:
        A file descriptor.
    """
    with _explained(Path(path)):
        return os.open(path, flags | os.O_CLOEXEC, 0o600)


def create_private(path: Path) -> None:
    """Create an empty file for this user only, before a library such as SQLite opens it by name.

    Args:
        path: The file; if it exists, it is unchanged. SQLite gives its journals the mode of the database.
    """
    os.close(private_opener(path, os.O_RDWR | os.O_CREAT))


def make_private(path: Path) -> None:
    """Withdraw other users' access to a file, or to the content of a folder, that a library has written.

    Args:
        path: The file, or the folder, whose own mode is unchanged. Symbolic links are not followed.
    """
    for each in path.rglob("*") if path.is_dir() else [path]:
        if not each.is_symlink():
            each.chmod(each.stat().st_mode & 0o700)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Add the owner and the remedy to the error of a file or folder that this user may not use."""
    try:
        yield
    except PermissionError as error:
        existing = next((each for each in (path, *path.parents) if os.access(each, os.F_OK)), path)
        owner = f"user {existing.stat().st_uid}" if existing.exists() else "another user"
        raise PermissionError(
            error.errno,
            f"{error.strerror}: this process runs as user {os.geteuid()}, and {existing} belongs to {owner}; use a "
            "folder of your own (for caches, set RAGKIT_CACHE)",
            error.filename,
        ) from error


# -- atomic writes -----------------------------------------------------------------------------------------------------


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that replaces another one when the block ends. After an error, the old file is unchanged.

    The new file is private from the start, whatever the mode of the old one. A symbolic link with the name of the file
    is replaced, and the file that it points to is unchanged.

    Args:
        path: The file to replace or create, in an existing folder.
        durable: Whether the content is flushed to disk before the file is replaced, so a power failure leaves either
            the old or the new file. Pass False for caches that are checked when they are read.

    Yields:
        The open file, in binary mode.
    """
    partial = _partial(path)
    descriptor = private_opener(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL)  # does not follow symbolic links
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file atomically: readers see either the old or the new content, never a part of it.

    Args:
        path: The file to replace or create, in an existing folder.
        content: Bytes, or text that is written in UTF-8.
        durable: Whether the content is flushed to disk before the file is replaced.
    """
    data = content.encode() if isinstance(content, str) else content  # before a file is created
    with atomic_file(path, durable=durable) as file:
        file.write(data)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Create a folder atomically: it gets its final name when the block ends. After an error, nothing is left.

    Args:
        path: The folder; it may exist if it is empty when the block ends. Its parents are created.

    Yields:
        A temporary folder next to it, to write the files to.
    """
    partial = _partial(path)
    make_folder(partial.parent)
    with _explained(partial.parent):
        partial.mkdir(mode=0o700)
    try:
        yield partial
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def sync(path: Path) -> None:
    """Flush a file, or the list of files in a folder, to disk.

    Args:
        path: The file or folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial(path: Path) -> Path:
    """Return a unique name in the same folder; several processes may write the same file."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.partial")


# -- locks -------------------------------------------------------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes and threads; wait while another process or thread holds it.

    The operating system releases the lock of a process that dies. The file is not removed, because two processes could
    otherwise lock two different files.

    Args:
        path: The lock file, in an existing folder; it must not be a symbolic link.

    Yields:
        Nothing.
    """
    file = private_opener(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def try_lock(descriptor: int) -> bool:
    """Lock an open file without waiting. Closing the file releases the lock.

    Args:
        descriptor: The descriptor of the open file.

    Returns:
        False if another process, or another open file of this process, holds the lock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# -- checksums ---------------------------------------------------------------------------------------------------------


def file_sha256(*paths: Path) -> str:
    """Hash a file, or the concatenation of several files.

    Args:
        *paths: The files, in order.

    Returns:
        The SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def with_checksum(text: str) -> str:
    """Add a checksum to a JSON object as its last member; `without_checksum` then detects changed bytes.

    Args:
        text: The object, which has at least one member and ends with its closing brace.

    Returns:
        The object with the member ``checksum``.

    Examples:
        >>> with_checksum('{"a":1}')
        '{"a":1,"checksum":"561bacaf"}'
    """
    return f'{text[:-1]},"checksum":"{zlib.crc32(text.encode()):08x}"}}'


def without_checksum(data: bytes) -> bytes | None:
    """Check and remove the checksum of a JSON object.

    Args:
        data: The result of `with_checksum`, in UTF-8.

    Returns:
        The object without the checksum; None if the bytes have changed.
    """
    found = _CHECKSUM.search(data)
    if found is None:
        return None
    text = data[: found.start()] + b"}"
    return text if zlib.crc32(text) == int(found[1], 16) else None


def checked(data: bytes) -> bytes:
    """Check and remove the checksum of a JSON object if it has one.

    Objects of older versions and hand-written objects have no checksum. If a damaged checksum is not recognised, a
    parser that rejects unknown members rejects the object.

    Args:
        data: The object, in UTF-8.

    Returns:
        The object without its checksum.

    Raises:
        ValueError: If the bytes have changed.
    """
    if _CHECKSUM.search(data) is None:
        return data
    found = without_checksum(data)
    if found is None:
        raise ValueError("its checksum is wrong, so the file was changed after it was written")
    return found


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an ``.npz`` file after checking its checksums; NumPy alone does not detect a shortened array.

    Args:
        path: The file.

    Returns:
        The arrays by name.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged.
    """
    import numpy as np

    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if sum(each.file_size for each in archive.infolist()) > path.stat().st_size:
                    raise ValueError(f"{path} is damaged (its arrays take more room than the file)")
                damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, OverflowError) as error:
            raise ValueError(f"{path} is damaged ({error})") from error
        if damaged is not None:
            raise ValueError(f"{path} is damaged (the checksum of {damaged} is wrong)")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        except (MemoryError, OverflowError, EOFError, TypeError) as error:  # a header that promises another shape
            raise ValueError(f"{path} is damaged ({error})") from error
    if strange := [name for name, array in found.items() if not isinstance(array, np.ndarray)]:
        raise ValueError(f"{path} is damaged ({strange[0]} is not an array)")
    return found
