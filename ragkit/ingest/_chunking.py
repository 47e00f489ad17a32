"""Chunking: splitting documents into chunks, each of which is an exact substring of its source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Protocol, runtime_checkable

from typing_extensions import override

from ragkit._breaks import LineNumbers, UnixText
from ragkit._extras import require
from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError
from ragkit.ingest._splitting import Measure, split_spans, word_starts
from ragkit.ingest._tables import renamed
from ragkit.protocols import Embedder
from ragkit.records import Document, span_of
from ragkit.registry import create

_FRONT_MATTER = re.compile(
    r"""
    \ufeff? (?:
        ---[ \t]*\n (?:[ \t]*(?:\#.*)?\n)* [\w"'-][^\n:]*:(?:[ \t].*)?\n (?:.*\n)*? (?:---|\.\.\.)   # YAML
        | \+\+\+[ \t]*\n (?:.*\n)*? \+\+\+                                                           # TOML
    ) [ \t]* (?:\n|\Z)
    """,
    re.VERBOSE,
)


@runtime_checkable
class Chunker(Protocol):
    """Splits documents into chunks."""

    @property
    def name(self) -> str:
        """Return a name that is equal for two chunkers only if they give the same chunks."""
        ...

    def chunk(self, document: Document) -> list[Document]:
        """Return the chunks in order; metadata ``start`` and ``end`` are the position of each in its source."""
        ...


class RecursiveChunker:
    """Splits at the ends of paragraphs, otherwise of lines, sentences or words.

    Without their overlap, the chunks join to the whole text. Sentences of all scripts are detected, characters are
    never separated from their combining marks, and texts with Windows or old Mac line ends give the same chunks as
    those with Unix line ends.

    Attributes:
        size: Maximum size of a chunk, including overlap; a line end counts as one character.
        overlap: Maximum size of the text that a chunk repeats from the previous chunk, in whole words. In Chinese,
            Japanese and other scripts without spaces, each character counts as a word.

    Examples:
        >>> pieces = RecursiveChunker(20).chunk(Document("A lamp is on. It is red. Dim it."))
        >>> [(piece.text, piece.metadata["start"]) for piece in pieces]
        [('A lamp is on. ', 0), ('It is red. Dim it.', 14)]
    """

    kind = "recursive"

    def __init__(self, size: int = 1000, overlap: int = 0) -> None:
        """Set the sizes in characters.

        Args:
            size: Maximum size of a chunk, at least 1.
            overlap: Maximum size of the text that a chunk repeats from the previous one, at most half of ``size``.

        Raises:
            InvalidInputError: If a size is out of range.
        """
        require("regex")
        if type(size) is not int or type(overlap) is not int or size < 1 or not 0 <= overlap <= size // 2:
            raise InvalidInputError(
                f"`size` must be at least 1 and `overlap` between 0 and half of it, got {size!r} and {overlap!r}"
            )
        self.size, self.overlap = size, overlap

    @property
    def name(self) -> str:
        """The kind and the sizes."""
        return f"{self.kind}:{self.size}:{self.overlap}"

    def chunk(self, document: Document) -> list[Document]:
        """Split a document.

        Args:
            document: The document; its metadata ``start`` is the position of its text in the source.

        Returns:
            The chunks that contain more than white space, with the metadata of the document, ``start`` and ``end``; and
            ``line``, if the document is from a text file.
        """
        unix, metadata = UnixText(document.text), dict(document.metadata or {})
        base = _base(document)
        if base is None:  # `start` and `end` are fields of the user, not positions
            base, metadata = 0, renamed(metadata, ("start", "end"))
        pieces = []
        for first, last, more in self._spans(unix.text):
            start, end = unix.original(self._with_overlap(unix.text, first)), unix.original(last)
            placed = {**metadata, **more, "start": base + start, "end": base + end}
            pieces.append(Document(document.text[start:end], metadata=placed))
        return with_lines(document, pieces)

    def _measure(self) -> Measure:
        return len

    def _spans(self, text: str) -> Iterator[tuple[int, int, dict[str, object]]]:
        """Yield start and end of each chunk without overlap, and its additional metadata."""
        yield from ((first, last, {}) for first, last in self._cut(text, 0, len(text)))

    def _cut(self, text: str, first: int, last: int) -> list[tuple[int, int]]:
        """Split a part of a text; white space joins the previous chunk, or the next one at the beginning."""
        spans: list[tuple[int, int]] = []
        start = first
        for _, place in split_spans(text, first, last, self.size - self.overlap, self._measure()):
            if text[start:place].strip():
                spans.append((start, place))
                start = place
            elif spans:
                spans[-1] = (spans[-1][0], place)
                start = place
        return spans

    def _with_overlap(self, text: str, start: int) -> int:
        """Return the start of a chunk after adding whole words of overlap."""
        if not self.overlap or not start:
            return start
        measure = self._measure()
        best = start
        for place in reversed(word_starts(text, max(0, start - 20 * self.overlap), start)):
            if measure(text[place:start]) > self.overlap:
                break
            best = place
        return best


class MarkdownChunker(RecursiveChunker):
    r"""Splits at headings first, then as `RecursiveChunker`; metadata ``headings`` lists the headings above a chunk.

    Headings are detected by markdown-it, which excludes ``#`` in code blocks; lines of front matter are excluded too.

    Examples:
        >>> text = "# Lamps\n\nThey shine.\n\n## Red ones\n\nThey glow."
        >>> [piece.metadata["headings"] for piece in MarkdownChunker(100).chunk(Document(text))]
        [['Lamps'], ['Lamps', 'Red ones']]
    """

    kind = "markdown"

    def __init__(self, size: int = 1000, overlap: int = 0) -> None:
        """Set the sizes in characters, as for `RecursiveChunker`."""
        require("markdown_it")
        super().__init__(size, overlap)

    @override
    def _spans(self, text: str) -> Iterator[tuple[int, int, dict[str, object]]]:
        for first, last, headings in _sections(text):
            more: dict[str, object] = {"headings": headings} if headings else {}
            yield from ((start, end, more) for start, end in self._cut(text, first, last))


class TokenChunker(MarkdownChunker):
    """Splits as `MarkdownChunker`, with sizes in tokens of an embedder, so that no chunk exceeds its input limit.

    Attributes:
        embedder: The embedder that counts tokens. Without `count_tokens`, one token is assumed for every four ASCII
            characters and for every other character.
    """

    kind = "tokens"

    def __init__(self, embedder: str | Embedder = "minilm", size: int | None = None, overlap: int = 0) -> None:
        """Set the sizes in tokens.

        Args:
            embedder: An embedder or its spec.
            size: Maximum size of a chunk; if None, the input limit of the embedder, or 256 if it has none.
            overlap: Maximum size of the text that a chunk repeats from the previous one.
        """
        self.embedder = load_embedder(embedder)
        window = getattr(self.embedder, "window", None)
        super().__init__(size if size is not None else window or 256, overlap)
        count: Measure = getattr(self.embedder, "count_tokens", None) or _quarter
        self._counted: Measure = lru_cache(maxsize=50_000)(count)

    @property
    @override
    def name(self) -> str:
        return f"{super().name}:{self.embedder.name}"

    @override
    def _measure(self) -> Measure:
        return self._counted


def load_chunker(chunker: str | Chunker, *, embedder: str | Embedder = "minilm") -> Chunker:
    """Return the chunker for a spec; a chunker is returned unchanged.

    Args:
        chunker: ``"recursive"``, ``"markdown"`` or ``"tokens"``, optionally followed by a size and an overlap, as in
            ``"recursive:800:80"``.
        embedder: The embedder that counts tokens.

    Returns:
        A chunker.

    Raises:
        UnknownSpecError: If no chunker has this name.
        InvalidInputError: If a size is not a number in its range.
    """
    if not isinstance(chunker, str):
        if isinstance(chunker, Chunker):
            return chunker
        raise InvalidInputError(f"`chunker` must be a spec such as 'tokens' or a Chunker, got {type(chunker).__name__}")
    loaded: Chunker = create("chunker", chunker, settings={"embedder": embedder})
    return loaded


def _base(document: Document) -> int | None:
    """Return the position of a text in its source; None if its metadata ``start`` or ``end`` mean something else."""
    given = document.metadata or {}
    start, end = given.get("start", 0), given.get("end")
    if type(start) is not int or start < 0 or (end is not None and end != start + len(document.text)):
        return None
    return start


def with_lines(document: Document, pieces: Sequence[Document]) -> list[Document]:
    """Return chunks with the ``line`` at which each begins, if their document is from a text file.

    The metadata of such a document contain its own ``line``, which a chunker may have copied.
    """
    given = document.metadata or {}
    line, base = given.get("line"), _base(document)
    if type(line) is not int or base is None or not isinstance(given.get("source"), str) or "row" in given:
        return list(pieces)
    lines = LineNumbers(document.text, line)
    starts = [(span_of(piece.metadata) or (base, 0))[0] - base for piece in pieces]
    return [
        replace(piece, metadata={**(piece.metadata or {}), "line": lines.at(start)})
        for piece, start in zip(pieces, starts, strict=True)
    ]


def _quarter(text: str) -> int:
    ascii_only = len(text.encode("ascii", "ignore"))
    return len(text) - ascii_only + -(-ascii_only // 4)


def _sections(text: str) -> list[tuple[int, int, list[str]]]:
    """Split a Markdown text at its headings, and return each part with the headings above it.

    A heading without text of its own belongs to the part below it.

    Returns:
        Start and end of each part, and its headings, outermost first.
    """
    from markdown_it import MarkdownIt

    lines = [0, *(found.end() for found in re.finditer("\n", text)), len(text)]
    front = _FRONT_MATTER.match(text)
    body = "\n" * front[0].count("\n") + text[front.end() :] if front else text
    tokens = MarkdownIt("commonmark").disable("inline").parse(body)  # links and emphasis take quadratic time
    path: list[tuple[int, str]] = []
    starts: list[tuple[int, int, list[str]]] = [(0, 0, [])]  # position, end of the heading, headings
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map:
            level = int(token.tag[1:])
            path = [*(each for each in path if each[0] < level), (level, inline.content.strip())]
            end = lines[min(token.map[1], len(lines) - 1)]
            starts.append((lines[token.map[0]], end, [title for _, title in path if title]))
    ends = [start for start, _, _ in starts[1:]] + [len(text)]
    sections: list[tuple[int, int, list[str]]] = []
    waiting: int | None = None
    for (start, begun, headings), end in zip(starts, ends, strict=True):
        first = start if waiting is None else waiting
        if not text[begun:end].strip() and end < len(text):
            waiting = first if first < end else None
            continue
        sections.append((first, end, headings))
        waiting = None
    return [each for each in sections if each[0] < each[1]]
