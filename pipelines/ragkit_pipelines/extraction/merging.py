"""Merging of the records of a document: quotations are checked, and repeated records are counted."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel

from ragkit._text import normalised
from ragkit_pipelines.extraction.parsing import Parsed
from ragkit_pipelines.extraction.quotations import Source, quotations
from ragkit_pipelines.extraction.records import Extracted, Failure, Rejected, Span


class MergedRecords:
    """The distinct records of a document.

    Attributes:
        failures: Errors of the responses.
        rejected: Records without a quotation from their piece.
        duplicates: Number of repeated records.
    """

    def __init__(self, fields: tuple[str, ...], identifying: tuple[str, ...]) -> None:
        """Begin without records; ``fields`` contain quotations, and ``identifying`` ones tell records apart."""
        self._fields, self._identifying = fields, identifying
        self._records: dict[str, tuple[BaseModel, list[Span]]] = {}
        self.failures: list[Failure] = []
        self.rejected: list[Rejected] = []
        self.duplicates = 0

    def add(self, text: str, start: int, parsed: Parsed) -> None:
        """Add the records of a piece that begins at ``start``, as far as the piece contains their quotations."""
        source, whole = Source(text), (start, start + len(text))
        self.failures += [Failure(span=whole, reason=problem) for problem in parsed.problems]
        for record, beside in parsed.found:
            quotes = quotations(record, self._fields) if self._fields else [("quote", beside or "")]
            found = [(name, quote, source.locate(quote)) for name, quote in quotes]
            reason = _reason(found)
            if reason:
                self.rejected.append(Rejected(record=record, span=whole, reason=reason))
                continue
            identity = _identity(record, self._identifying)
            self.duplicates += identity in self._records
            _, spans = self._records.setdefault(identity, (record, []))
            placed = [(start + place[0], start + place[1]) for _, _, place in found if place is not None]
            spans += [span for span in dict.fromkeys(placed) if span not in spans]

    def items(self) -> tuple[Extracted, ...]:
        """Return the records in the order of their first occurrence."""
        return tuple(Extracted(record=record, spans=tuple(spans)) for record, spans in self._records.values())


def _reason(found: Sequence[tuple[str, str, tuple[int, int] | None]]) -> str:
    """Return why a record with these quotations is rejected; an empty text if it is not."""
    if not any(quote.strip() for _, quote, _ in found):
        return "the record has no quotation"
    missing = [f"{name} {quote!r:.200}" for name, quote, place in found if place is None]
    return f"not in the passage: {', '.join(missing)}" if missing else ""


def canonical(record: BaseModel) -> str:
    """Return a record as one line of JSON, with its fields in alphabetical order."""
    return json.dumps(record.model_dump(mode="json"), ensure_ascii=False, sort_keys=True)


def _identity(record: BaseModel, fields: Sequence[str]) -> str:
    """Return a text that is equal for records whose fields differ only in white space and case."""
    values = record.model_dump(mode="json", include=set(fields) or None)
    return " ".join(normalised(json.dumps(_without_spaces(values), ensure_ascii=False, sort_keys=True)).split())


def _without_spaces(value: object) -> object:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, dict):
        return {name: _without_spaces(part) for name, part in value.items()}
    return [_without_spaces(part) for part in value] if isinstance(value, list) else value
