"""Text files of any size: detecting their encoding and reading them in blocks."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from ragkit._breaks import last_break
from ragkit.ingest._html_encoding import codec_of
from ragkit.ingest._sources import open_binary, open_text

_AT_ONCE = 1 << 20  # bytes
BLOCK = 1 << 20  # characters of a text in memory
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Bytes that do not occur in text: control characters except tab, line breaks, form feed and escape.
_BINARY = bytes(code for code in range(32) if code not in {9, 10, 12, 13, 27})
_ESCAPED = re.compile("[\udc80-\udcff]")
_HIGH = re.compile(rb"[\x80-\xff]+")
_REPEATED = re.compile(rb"([\x80-\xff])\1+")
_MANY = 8  # minimum number of non-ASCII bytes to judge the encoding
# An XML declaration at the beginning of a file.
_XML = re.compile(rb"""\s*<\?xml[^>]*\sencoding\s*=\s*["']([\w.:-]+)""")
_NO_TEXT = "it is not text; expected text, HTML, PDF, Word or PowerPoint"
_NO_ENCODING = "its encoding is unknown: it is neither valid UTF-8 nor likely to be Windows-1252; save it as UTF-8"


class FileFacts(NamedTuple):
    """The results of one pass over a file.

    Attributes:
        hash: Hash of its bytes.
        encoding: The encoding of its text; None if the file is not text or the encoding is unknown.
        problem: Why the encoding is None; empty otherwise.
    """

    hash: str
    encoding: str | None
    problem: str = ""


def file_facts(path: Path, *, binary: bool = False) -> FileFacts:
    """Hash a file and detect its encoding, in bounded memory.

    A byte order mark takes precedence. Valid UTF-8, or UTF-8 with a few damaged bytes, is read as UTF-8; otherwise an
    XML declaration is followed. Anything else is read as Windows-1252, as on the web (a superset of the printable part
    of Latin-1), unless the bytes contradict this.

    Args:
        path: The file.
        binary: Whether the file may be binary; otherwise, it is read only up to a byte that does not occur in text.

    Returns:
        The hash and the encoding.
    """
    # The name identifies how files are read: after a change of it, `Index.sync` reads all files again.
    digest = blake2b(digest_size=16, person=b"reading-2")
    tally = _Tally()
    with open_binary(path) as file:
        head = block = file.read(_AT_ONCE)
        marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
        while block and (binary or marked or not tally.binary):
            digest.update(block)
            tally.count(block)
            block = file.read(_AT_ONCE)
        tally.count(b"", final=True)
    if marked is not None:
        return FileFacts(digest.hexdigest(), marked)
    if tally.binary:
        return FileFacts(digest.hexdigest(), None, _NO_TEXT)
    declared = _XML.match(head)
    encoding = tally.encoding(codec_of(declared[1].decode("ascii", "replace")) if declared else None)
    return FileFacts(digest.hexdigest(), encoding, "" if encoding else _NO_ENCODING)


class _Tally:
    """Counts of the bytes of a file that indicate its encoding.

    Attributes:
        binary: Whether there are bytes that do not occur in text.
    """

    def __init__(self) -> None:
        self.binary = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._characters = self._damaged = self._high = self._runs = 0

    def count(self, block: bytes, *, final: bool = False) -> None:
        """Count the bytes of a block."""
        self.binary = self.binary or len(block.translate(None, _BINARY)) < len(block)
        text = self._decoder.decode(block, final)
        if not text.isascii():
            damaged = len(_ESCAPED.findall(text))
            self._characters += len(text) - len(text.encode("ascii", "ignore")) - damaged
            self._damaged += damaged
        if self._damaged:  # a repeated character, as in a line of dashes, counts once
            runs = _HIGH.findall(_REPEATED.sub(rb"\1", block))
            self._high += sum(map(len, runs))
            self._runs += len(runs)

    def encoding(self, declared: str | None) -> str | None:
        """Determine the encoding.

        In Windows-1252, non-ASCII letters occur alone or in pairs. In other encodings, most letters are such bytes.

        Args:
            declared: Python's codec for the encoding that the file declares.

        Returns:
            The encoding; None if it is unknown.
        """
        if self._characters >= self._damaged:
            return declared if declared and not self._characters else "utf-8"
        if declared:
            return declared
        return None if self._high >= _MANY and self._high > 2 * self._runs else "cp1252"


def blocks(path: Path, encoding: str, size: int = BLOCK) -> Iterator[tuple[int, str]]:
    """Read a text in blocks that end with a paragraph, a line or at least a word.

    Line breaks are unchanged, so that positions in the blocks are positions in the text.

    Args:
        path: The file.
        encoding: Its encoding; invalid bytes become U+FFFD.
        size: Maximum number of characters per block.

    Yields:
        Position of the block in the text, and the block; the blocks join to the text.
    """
    start, held = 0, ""
    with open_text(path, encoding, newline="") as file:
        while True:
            read = file.read(size - len(held))
            held += read
            if not read:
                break
            if len(held) >= size:
                # The text after the last character is unknown, so that character is kept for the next block.
                cut = last_break(held, len(held) // 2, len(held) - 1) or len(held)
                yield start, held[:cut]
                start, held = start + cut, held[cut:]
    if held:
        yield start, held
