"""The results of an extraction: records with their evidence, failures and measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from pydantic import BaseModel

from ragkit._tuples import restore_tuples
from ragkit.records import Usage

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """One record with its evidence.

    Attributes:
        record: The record, an instance of the schema.
        spans: Start and end of its quotations, in characters of the source.
    """

    record: BaseModel
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        restore_tuples(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A piece of the text whose response was invalid, or a record that did not match the schema.

    Attributes:
        span: Start and end of the piece, in characters of the source.
        reason: The error in the model's last response.
    """

    span: tuple[int, int]
    reason: str

    def __post_init__(self) -> None:
        restore_tuples(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A record that matches the schema but was rejected, because the source does not contain its quotation.

    Attributes:
        record: The record.
        span: Start and end of the piece from which it was extracted, in characters of the source.
        reason: Why the record was rejected.
    """

    record: BaseModel
    span: Span
    reason: str

    def __post_init__(self) -> None:
        restore_tuples(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction(Sequence[Extracted]):
    """The distinct records of one document, in the order of their first occurrence.

    Attributes:
        items: The records with their evidence.
        failures: Pieces and records that could not be parsed.
        rejected: Records whose quotations the source does not contain; they are not among the items.
        duplicates: Number of repeated records, which were merged with the first one.
        text: The records as lines of JSON, which are a compressed form of the document.
        compression: Tokens of `text` divided by the tokens of the document.
        usage: Token usage of all calls.
        cost: Cost of all calls in US dollars; None if a price is unknown.
    """

    items: tuple[Extracted, ...]
    failures: tuple[Failure, ...]
    rejected: tuple[Rejected, ...] = ()
    duplicates: int = 0
    text: str
    compression: float
    usage: Usage
    cost: float | None

    def __post_init__(self) -> None:
        restore_tuples(self)

    @property
    def records(self) -> list[BaseModel]:
        """The records without their evidence."""
        return [item.record for item in self.items]

    @overload
    def __getitem__(self, index: int) -> Extracted: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Extracted, ...]: ...
    def __getitem__(self, index: int | slice) -> Extracted | tuple[Extracted, ...]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionReport:
    """Precision, recall and compression over all documents of a labelled set.

    Attributes:
        precision: Share of the extracted records that are correct.
        recall: Share of the expected records that were extracted; the others were lost in the compression.
        f1: Harmonic mean of precision and recall.
        supported: Share of the valid records whose quotations were found in the source; the others were rejected.
        compression: Mean of `Extraction.compression`.
        failures: Number of pieces and records that could not be parsed.
    """

    precision: float
    recall: float
    f1: float
    supported: float
    compression: float
    failures: int
