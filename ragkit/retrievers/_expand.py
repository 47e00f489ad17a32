"""A retriever that expands each hit with its neighbouring chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.protocols import Retriever
from ragkit.records import Document, Hit, span_of
from ragkit.retrievers._base import Hits, RefiningRetriever, Where, ranked


class ExpandingRetriever(RefiningRetriever):
    """Finds small chunks, and returns them with their neighbouring chunks, or with the whole source.

    Chunks belong to the same source if their metadata have the same ``source`` (and ``row``, for tables). Their
    positions are in ``start`` and ``end``, as `ragkit.load_documents` and chunkers write them. Hits whose texts overlap
    after the expansion are merged at the better rank. A filter also applies to neighbours. The arguments are attributes
    of the same names.
    """

    name = "expand"

    def __init__(self, index: Index, base: Retriever, *, before: int | None = 1, after: int | None = 1) -> None:
        """Expand the hits of a retriever.

        Args:
            index: The index of the chunks.
            base: The retriever of the hits.
            before: Number of chunks before each hit; None for all from the beginning of the source.
            after: Number of chunks after each hit; None for all to the end of the source.

        Raises:
            InvalidInputError: If a number is below 0.
        """
        if any(each is not None and (type(each) is not int or each < 0) for each in (before, after)):
            raise InvalidInputError(f"`before` and `after` must be 0 or more, or None; got {before!r} and {after!r}")
        super().__init__(base, fetch_k=1)
        self.index, self.before, self.after = index, before, after

    @override
    def _refined(self, queries: Sequence[str], found: Hits, k: int, where: Where | None) -> Hits:
        pieces: dict[tuple[object, object], list[Document]] = {}
        return [self._expanded(hits, where, pieces) for hits in found]

    def _expanded(
        self, hits: Sequence[Hit], where: Where | None, pieces: dict[tuple[object, object], list[Document]]
    ) -> list[Hit]:
        kept: list[Hit] = []
        for hit in hits:
            source = _source(hit)
            if hit.span is None or not isinstance(source[0], str):
                kept.append(hit)
                continue
            if source not in pieces:
                pieces[source] = self._pieces(source, where)
            kept = _with(kept, self._with_neighbours(hit, pieces[source]))
        return ranked((hit, hit.score, {}) for hit in kept)

    def _pieces(self, source: tuple[object, object], where: Where | None) -> list[Document]:
        """Return the chunks of a source that match the filter, in the order of their positions."""
        own: dict[str, object] = {"source": source[0], "row": source[1]}
        found = self.index.get_by_keys(self.index.keys(own if where is None else {"$and": [own, where]}))
        placed = [each for each in found if each is not None and span_of(each.metadata) is not None]
        return sorted(placed, key=lambda each: cast("tuple[int, int]", span_of(each.metadata)))

    def _with_neighbours(self, hit: Hit, pieces: Sequence[Document]) -> Hit:
        at = next((place for place, piece in enumerate(pieces) if piece.id == hit.id), None)
        if at is None:  # it was removed after it was found
            return hit
        first = 0 if self.before is None else max(0, at - self.before)
        last = len(pieces) if self.after is None else at + self.after + 1
        around = [
            replace(hit, id=each.id or "", text=each.text, span=span_of(each.metadata), metadata=each.metadata)
            for each in pieces[first:last]
        ]
        return _joined(hit, _touching(around, at - first))


def _with(kept: Sequence[Hit], wide: Hit) -> list[Hit]:
    """Add a hit, merged with all hits that it overlaps, at the best rank among these."""
    together = [hit for hit in kept if _overlap(wide, hit)]
    if not together:
        return [*kept, wide]
    made = _joined(together[0], [*together, wide])
    return [made if hit is together[0] else hit for hit in kept if hit is together[0] or hit not in together]


def _touching(hits: Sequence[Hit], at: int) -> Sequence[Hit]:
    """Return the hits around one that form a text without gaps."""
    first = last = at
    while first > 0 and _span(hits[first - 1])[1] >= _span(hits[first])[0]:
        first -= 1
    while last + 1 < len(hits) and _span(hits[last])[1] >= _span(hits[last + 1])[0]:
        last += 1
    return hits[first : last + 1]


def _joined(hit: Hit, parts: Sequence[Hit]) -> Hit:
    """Merge several touching hits into one with their joint text."""
    text, start, end = "", 0, -1
    lines: Mapping[str, object] = {}
    for part in sorted(parts, key=_span):
        own = _span(part)
        if end < 0:
            text, (start, end) = part.text, own
            lines = {name: value for name, value in (part.metadata or {}).items() if name == "line"}
        elif own[1] > end:
            text, end = text + part.text[end - own[0] :], own[1]
    ids = dict.fromkeys(own for part in parts for own in cast("list[str]", part.why.get("pieces", [part.id])))
    return replace(
        hit,
        text=text,
        span=(start, end),
        metadata={**(hit.metadata or {}), "start": start, "end": end, **lines},
        why={**hit.why, "pieces": list(ids)},
    )


def _overlap(one: Hit, other: Hit) -> bool:
    if other.span is None or _source(one) != _source(other):
        return False
    return _span(one)[0] <= _span(other)[1] and _span(other)[0] <= _span(one)[1]


def _source(hit: Hit) -> tuple[object, object]:
    metadata = hit.metadata or {}
    return metadata.get("source"), metadata.get("row")


def _span(hit: Hit) -> tuple[int, int]:
    return cast("tuple[int, int]", hit.span)
