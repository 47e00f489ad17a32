"""Files that survive crashes and are shared between processes: atomic writes, locks, checksums, the cache folder."""

from __future__ import annotations

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


# -- atomic writes -----------------------------------------------------------------------------------------------------


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that replaces another one when the block ends. After an error, the old file is unchanged.

    Args:
        path: The file to replace or create, in an existing folder.
        durable: Whether the content is on the disk before the file is replaced, so that a power failure leaves the old
            or the new file. Pass False for caches that are checked when they are read.

    Yields:
        The open file, in binary mode.
    """
    partial = _partial(path)
    try:
        with partial.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file so that readers see the old or the new content, never a part of it.

    Args:
        path: The file to replace or create, in an existing folder.
        content: Bytes, or text that is written in UTF-8.
        durable: Whether the content is on the disk before the file is replaced.
    """
    data = content.encode() if isinstance(content, str) else content  # before a file is created
    with atomic_file(path, durable=durable) as file:
        file.write(data)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Create a folder that gets its name when the block ends. After an error, nothing is left.

    Args:
        path: The folder; it may exist if it is empty when the block ends. Its parents are created.

    Yields:
        A folder next to it to write to.
    """
    partial = _partial(path)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def sync(path: Path) -> None:
    """Wait until a file, or the list of files in a folder, is on the disk.

    Args:
        path: The file or folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial(path: Path) -> Path:
    """A new name in the same folder; several processes may write the same file."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.partial")


# -- locks -------------------------------------------------------------------------------------------------------------


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


def with_checksum(text: str) -> str:
    """Add a checksum to a JSON object as its last member, so that `without_checksum` notices changed bytes.

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
    """Remove the checksum from a JSON object if it has one; objects of older versions and hand-written ones have none.

    A reader that rejects unknown members also rejects an object whose checksum was damaged beyond recognition.

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
    """Read an ``.npz`` file after checking all of it; NumPy would not notice an array that became shorter.

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
                damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, OverflowError) as error:
            raise ValueError(f"{path} is damaged ({error})") from error
        if damaged is not None:
            raise ValueError(f"{path} is damaged (the checksum of {damaged} is wrong)")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
