"""JSON objects that carry a checksum of themselves, so that a byte that changed on a disk is noticed."""

from __future__ import annotations

import re
import zlib

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
