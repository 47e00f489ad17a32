"""What was extracted, where it stands, and what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from pydantic import BaseModel

from ragkit.records import Usage

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """One record with its evidence.

    Attributes:
        record: The record, an instance of the schema.
        spans: Where the words stand that it was read from, in characters of the source; empty where the model quoted
            words that are not there.
    """

    record: BaseModel
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A piece of the text out of which nothing usable was read, or a record of it that did not fit the schema.

    Attributes:
        span: Where the piece stands.
        reason: What was wrong with the model's last answer.
    """

    span: Span
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction(Sequence[Extracted]):
    """The records of one document, equal ones once, in the order of their first appearance.

    Attributes:
        items: The records with their places.
        failures: What could not be read.
        text: The records as lines of JSON: the document, compressed.
        compression: Tokens of `text` by tokens of the document.
        usage: Tokens of all calls.
        cost: Money of all calls in US dollars; None where a price is unknown.
    """

    items: tuple[Extracted, ...]
    failures: tuple[Failure, ...]
    text: str
    compression: float
    usage: Usage
    cost: float | None

    @property
    def records(self) -> list[BaseModel]:
        """The records alone."""
        return [item.record for item in self.items]

    @overload
    def __getitem__(self, place: int) -> Extracted: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Extracted, ...]: ...
    def __getitem__(self, place: int | slice) -> Extracted | tuple[Extracted, ...]:
        return self.items[place]

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionReport:
    """How much of what should have been found was found, over all documents of a labelled set.

    Attributes:
        precision: Share of the records found that are right.
        recall: Share of the right records that were found; the rest is what compression lost.
        f1: Harmonic mean of both.
        supported: Share of the records found whose words stand in the source.
        compression: Mean of `Extraction.compression`.
        failures: Pieces or records that could not be read.
    """

    precision: float
    recall: float
    f1: float
    supported: float
    compression: float
    failures: int
