"""Stored files that were changed or damaged: JSON objects with their own checksum, and archives of arrays."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LAST = re.compile(rb',"checksum":"([0-9a-f]{8})"}\Z')


def with_checksum(text: str) -> str:
    """Add a checksum to a JSON object, as its last member.

    Args:
        text: The object, with one member at least and nothing behind its closing brace.

    Returns:
        The object with the member ``checksum``.

    Examples:
        >>> with_checksum('{"a":1}')
        '{"a":1,"checksum":"561bacaf"}'
    """
    return f'{text[:-1]},"checksum":"{zlib.crc32(text.encode()):08x}"}}'


def without_checksum(data: bytes) -> bytes | None:
    """Take the checksum off again.

    Args:
        data: What `with_checksum` gave, in UTF-8.

    Returns:
        The object as it was; None where it is not what was written.
    """
    found = _LAST.search(data)
    if found is None:
        return None
    text = data[: found.start()] + b"}"
    return text if zlib.crc32(text) == int(found[1], 16) else None


def checked(data: bytes) -> bytes:
    """Remove the checksum from a JSON object if it has one, as objects of older versions and hand-written ones do not.

    A reader that refuses unknown members also refuses an object whose checksum was damaged beyond recognition.

    Args:
        data: The object, in UTF-8.

    Returns:
        The object without its checksum.

    Raises:
        ValueError: If the object is not what was written.
    """
    if _LAST.search(data) is None:
        return data
    found = without_checksum(data)
    if found is None:
        raise ValueError("its checksum is wrong, so the file was changed after it was written")
    return found


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an ``.npz`` file, all of which is checked first: NumPy would not notice an array that became shorter.

    Args:
        path: The file.

    Returns:
        The arrays by name.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged.
    """
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
