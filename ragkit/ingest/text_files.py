"""Text files of any size: what they are written in, and their text block by block."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

_AT_ONCE = 1 << 20  # bytes
BLOCK = 1 << 20  # characters of a text that are held at once
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What no text holds: control characters but for tab, line breaks, form feed and escape.
_BINARY = bytes(code for code in range(32) if code not in {9, 10, 12, 13, 27})


class FileFacts(NamedTuple):
    """What one pass over a file tells.

    Attributes:
        hash: Hash of its bytes.
        encoding: What its text is written in; None where it holds bytes that no text holds.
    """

    hash: str
    encoding: str | None


def file_facts(path: Path) -> FileFacts:
    """Hash a file and find out what it is written in, in bounded memory.

    A byte order mark decides; else what is valid UTF-8 is UTF-8, and anything else is Windows-1252, as in web pages,
    of which Latin-1 is the part that prints.

    Args:
        path: The file.

    Returns:
        Hash and encoding.
    """
    digest = blake2b(digest_size=16)
    decoder = codecs.getincrementaldecoder("utf-8")()
    marked: str | None = None
    binary, valid = False, True
    with path.open("rb") as file:
        first = True
        while block := file.read(_AT_ONCE):
            digest.update(block)
            if first:
                marked = next((name for mark, name in _MARKS if block.startswith(mark)), None)
                first = False
            binary = binary or len(block.translate(None, _BINARY)) < len(block)
            valid = valid and _is_valid(decoder, block)
    if marked is not None:
        return FileFacts(digest.hexdigest(), marked)
    valid = valid and _is_valid(decoder, b"", final=True)
    return FileFacts(digest.hexdigest(), None if binary else "utf-8" if valid else "cp1252")


def _is_valid(decoder: codecs.IncrementalDecoder, block: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(block, final)
    except UnicodeDecodeError:
        return False
    return True


def blocks(path: Path, encoding: str, size: int = BLOCK) -> Iterator[tuple[int, str]]:
    """Read a text in blocks that end where a paragraph, a line or at least a word ends.

    Line breaks stay as they are, so that places in the blocks are places in the text.

    Args:
        path: The file.
        encoding: What it is written in; bytes without a meaning become U+FFFD.
        size: Characters of a block at the most.

    Yields:
        Place of the block in the text, and the block; the blocks joined are the text.
    """
    start, held = 0, ""
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        while True:
            read = file.read(size - len(held))
            held += read
            if not read:
                break
            if len(held) >= size:
                cut = _cut(held)
                yield start, held[:cut]
                start, held = start + cut, held[cut:]
    if held:
        yield start, held


def _cut(text: str) -> int:
    """Where to cut a block: behind the last paragraph, else line, else space of its second half."""
    half = len(text) // 2
    for mark in ("\n\n", "\n", " "):
        place = text.rfind(mark, half)
        if place >= 0:
            return place + len(mark)
    return len(text)
