"""Extract the records of a schema from long texts, piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, overload

from pydantic import BaseModel

from ragkit._text import refuse_bare_string
from ragkit.errors import AnswerFormError, InvalidInputError, RagkitError
from ragkit.ingest._chunking import Chunker, RecursiveChunker, load_chunker
from ragkit.models import load_model
from ragkit.models._results import raised, results_of
from ragkit.models._sampling import Sampling
from ragkit.protocols import LanguageModel
from ragkit.records import Completion, Document, Prompt, Usage
from ragkit_pipelines.extraction.merging import MergedRecords, canonical
from ragkit_pipelines.extraction.parsing import Parsed, parse
from ragkit_pipelines.extraction.prompt import ExtractionPrompts, response_schema
from ragkit_pipelines.extraction.quotations import quotation_fields, text_fields
from ragkit_pipelines.extraction.records import Extraction, ExtractionReport

AnyText = str | Document
_OVERHEAD = 64  # tokens of a chat template
_CORRECTION = 128  # tokens of the errors in a corrected prompt
_LEAST_ROOM = 16  # tokens; a piece is not split further if the window has less room for it


class _Piece(NamedTuple):
    """A piece of a document, with the index of the document and the start of the piece in it."""

    document: int
    text: str
    start: int


class Extract:
    """Extract records of a pydantic schema from texts of any length.

    The model processes the pieces of all documents as one batch. If a response does not match the schema, the model is
    prompted again with the error, up to ``retries`` times. Remaining errors are reported as failures. Equal records are
    merged, and keep the positions of all their occurrences.

    The source must contain the quotations of a record; otherwise, the record is rejected. If the schema has fields of
    the type `Quote`, these are the quotations. With ``quotes=True``, they are all fields with text. Otherwise, the
    model is prompted for a quotation beside each record.

    Attributes:
        model: The model.
        schema: The pydantic model of a record.
        chunker: The chunker that splits documents into pieces.
        instruction: Additional instruction for the model.
        key: The fields that identify a record; empty for all fields.
        max_records: Maximum number of records of a piece.
        max_tokens: Maximum number of tokens of a response.
        retries: Number of times that an invalid response is corrected.

    Examples:
        >>> from pydantic import BaseModel
        >>> from ragkit import ScriptedModel
        >>> class Colour(BaseModel):
        ...     thing: str
        ...     colour: str
        >>> response = '{"records": [{"quote": "lamp is red", "record": {"thing": "lamp", "colour": "red"}}]}'
        >>> found = Extract(ScriptedModel([response]), Colour).invoke("The lamp is red.")
        >>> found.records, found[0].spans
        ([Colour(thing='lamp', colour='red')], ((4, 15),))
    """

    def __init__(
        self,
        model: str | LanguageModel,
        schema: type[BaseModel],
        *,
        chunker: str | Chunker = "recursive:4000",
        instruction: str = "",
        quotes: bool = False,
        key: Sequence[str] = (),
        max_records: int = 20,
        max_tokens: int = 1024,
        retries: int = 1,
    ) -> None:
        """Create the pipeline.

        Args:
            model: A model or its spec.
            schema: A pydantic model; the prompt contains its docstring and the descriptions of its fields.
            chunker: A chunker or its spec, see `ragkit.ingest.load_chunker`. Pieces that do not fit the context window
                of the model are split further.
            instruction: Additional instruction for the model.
            quotes: Whether the text of all fields must occur in the source.
            key: Names of the fields that identify a record: of several records whose key is equal, the first is kept.
                By default, records are equal if all their fields are, except those of the type `Quote`. White space and
                case are ignored.
            max_records: Maximum number of records of a piece; further ones are omitted. It ends the response of a
                model that repeats a record.
            max_tokens: Maximum number of tokens of a response.
            retries: Number of times that an invalid response is corrected, at least 0.

        Raises:
            InvalidInputError: If the schema is not a pydantic model or has no field with text although `quotes` is
                set, `key` names an unknown field, or a number is invalid.
        """
        if not isinstance(schema, type) or not issubclass(schema, BaseModel):  # type: ignore[redundant-expr]
            raise InvalidInputError(f"`schema` must be a subclass of pydantic.BaseModel, got {schema!r}")
        for name, value, least in (("retries", retries, 0), ("max_records", max_records, 1)):
            if type(value) is not int or value < least:
                raise InvalidInputError(f"`{name}` must be an integer of at least {least}, got {value!r}")
        refuse_bare_string("key", key)
        if unknown := [name for name in key if name not in schema.model_fields]:
            raise InvalidInputError(f"`key` must name fields of the schema, {list(schema.model_fields)}; got {unknown}")
        marked = quotation_fields(schema)
        self._fields = text_fields(schema) if quotes else marked
        if quotes and not self._fields:
            raise InvalidInputError(f"`quotes` needs a schema with text fields, but {schema.__name__} has none")
        self.model, self.schema, self.chunker = load_model(model), schema, load_chunker(chunker)
        self.instruction, self.key, self.max_records = instruction, tuple(key), max_records
        self.max_tokens, self.retries = max_tokens, retries
        self._identifying = self.key or tuple(name for name in schema.model_fields if name not in marked)
        self._prompts, self._room = self._prompts_that_fit()
        limit = max_records if self.model.capabilities.batches else None  # providers reject limits in schemas
        self._response = response_schema(schema, quoted=not self._fields, limit=limit, max_tokens=max_tokens)

    def _prompts_that_fit(self) -> tuple[ExtractionPrompts, int | None]:
        """Return the prompts, and the number of tokens of a piece that fits the context window; None if unlimited.

        The demonstration is omitted if it would leave less than half of the window for the piece.
        """
        window = self.model.capabilities.window
        prompts = self._prompts_with(demonstrate=True)
        if window is None:
            return prompts, None
        room = self._room_beside(prompts, window)
        if room >= window // 2:
            return prompts, room
        prompts = self._prompts_with(demonstrate=False)
        return prompts, self._room_beside(prompts, window)

    def _prompts_with(self, *, demonstrate: bool) -> ExtractionPrompts:
        return ExtractionPrompts(
            self.schema, self.instruction, quoted=not self._fields, fields=self._fields, demonstrate=demonstrate
        )

    def _room_beside(self, prompts: ExtractionPrompts, window: int) -> int:
        """Return the number of tokens that a prompt, the answer and a correction leave for a piece."""
        used = self.model.count_tokens(prompts.prompt("").text) + self.max_tokens + _OVERHEAD
        return window - used - (_CORRECTION if self.retries else 0)

    @overload
    def invoke(self, document: AnyText) -> Extraction: ...  # type: ignore[overload-overlap]
    @overload
    def invoke(self, document: Sequence[AnyText]) -> list[Extraction]: ...
    def invoke(self, document: AnyText | Sequence[AnyText]) -> Extraction | list[Extraction]:
        """Extract from one document, or from each of several.

        Returns:
            One extraction for one document, a list in the same order for a sequence.
        """
        if isinstance(document, str | Document):
            return self.batch([document])[0]
        return self.batch(document)

    def batch(self, documents: Sequence[AnyText]) -> list[Extraction]:
        """Extract from each document.

        Args:
            documents: Texts or documents. If the metadata of a document contains ``start``, spans are relative to it.

        Returns:
            Extractions in the order of the documents.
        """
        pieces = self._pieces(documents)
        prompts = [self._prompts.prompt(piece.text) for piece in pieces]
        answers = [self._generate(prompts)] if prompts else []
        read = [self._parse(answer) for answer in answers[0]] if answers else []
        for _ in range(self.retries):
            invalid = [n for n, each in enumerate(read) if each.problems]
            if not invalid:
                break
            prompts = [self._prompts.prompt(pieces[n].text, read[n].problems) for n in invalid]
            answers.append(self._generate(prompts))
            for n, answer in zip(invalid, answers[-1], strict=True):
                corrected = self._parse(answer)
                read[n] = Parsed([*read[n].found, *corrected.found], corrected.problems)
        return self._merge(documents, pieces, read, [each for turn in answers for each in turn])

    def _parse(self, answer: Completion) -> Parsed:
        parsed = parse(answer.text, self.schema, quoted=not self._fields)
        return parsed._replace(found=parsed.found[: self.max_records])

    def _generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Generate completions, constrained to the schema if possible; truncated ones are kept for `parse`."""
        schema = self._response if self.model.capabilities.schema else None
        results: list[Completion | RagkitError] = [
            result.completion if isinstance(result, AnswerFormError) else result
            for result in results_of(self.model, prompts, Sampling(max_tokens=self.max_tokens, schema=schema))
        ]
        return raised(results)

    async def ainvoke(self, document: AnyText) -> Extraction:
        """Extract from one document in a thread, without blocking the event loop."""
        return (await self.abatch([document]))[0]

    async def abatch(self, documents: Sequence[AnyText]) -> list[Extraction]:
        """Do what `batch` does in a thread, without blocking the event loop."""
        return await asyncio.to_thread(self.batch, documents)

    def report(self, documents: Sequence[AnyText], expected: Sequence[Sequence[BaseModel]]) -> ExtractionReport:
        """Measure the extraction on labelled documents.

        Args:
            documents: Texts or documents.
            expected: The records of each document.

        Returns:
            Precision, recall and compression.

        Raises:
            InvalidInputError: If there are no documents, or their number differs from that of `expected`.
        """
        if len(documents) != len(expected) or not documents:
            raise InvalidInputError(
                "`documents` and `expected` must have the same length of at least 1, "
                f"got {len(documents)} and {len(expected)}"
            )
        found = self.batch(documents)
        wanted = [{canonical(record) for record in records} for records in expected]
        given = [{canonical(record) for record in each.records} for each in found]
        right = sum(len(one & other) for one, other in zip(wanted, given, strict=True))
        precision = right / (sum(map(len, given)) or 1)
        recall = right / (sum(map(len, wanted)) or 1)
        items = [item for each in found for item in each]
        return ExtractionReport(
            precision=precision,
            recall=recall,
            f1=2 * precision * recall / (precision + recall) if right else 0.0,
            supported=len(items) / (len(items) + sum(len(each.rejected) for each in found) or 1),
            compression=sum(each.compression for each in found) / len(found),
            failures=sum(len(each.failures) for each in found),
        )

    def _pieces(self, documents: Sequence[AnyText]) -> list[_Piece]:
        pieces = []
        for number, each in enumerate(documents):
            if not isinstance(each, str | Document):
                raise InvalidInputError(
                    f"documents[{number}] must be a string or a Document, got {type(each).__name__}"
                )
            for part in self.chunker.chunk(each if isinstance(each, Document) else Document(each)):
                pieces += [_Piece(number, own.text, _start(own)) for own in self._fitting(part)]
        return pieces

    def _fitting(self, piece: Document) -> list[Document]:
        """Split a piece until its parts fit the context window."""
        room = self._room
        if room is None or room < _LEAST_ROOM or self.model.count_tokens(piece.text) <= room or len(piece.text) < 2:
            return [piece]
        halves = RecursiveChunker(max(1, len(piece.text) * 2 // 3)).chunk(piece)
        return [part for half in halves for part in self._fitting(half)]

    def _merge(
        self,
        documents: Sequence[AnyText],
        pieces: Sequence[_Piece],
        read: Sequence[Parsed],
        answers: Sequence[Completion],
    ) -> list[Extraction]:
        """Merge the records of each document; usage and cost are divided equally among the documents."""
        merged = [MergedRecords(self._fields, self._identifying) for _ in documents]
        for piece, parsed in zip(pieces, read, strict=True):
            merged[piece.document].add(piece.text, piece.start, parsed)
        usage, cost = _share(answers, len(documents))
        made = []
        for each, document in zip(merged, documents, strict=True):
            text = "\n".join(canonical(item.record) for item in each.items())
            whole = self.model.count_tokens(document if isinstance(document, str) else document.text)
            made.append(
                Extraction(
                    items=each.items(),
                    failures=tuple(each.failures),
                    rejected=tuple(each.rejected),
                    duplicates=each.duplicates,
                    text=text,
                    compression=self.model.count_tokens(text) / (whole or 1),
                    usage=usage,
                    cost=cost,
                )
            )
        return made


def _start(piece: Document) -> int:
    start = (piece.metadata or {})["start"]
    return start if isinstance(start, int) else 0


def _share(answers: Sequence[Completion], documents: int) -> tuple[Usage, float | None]:
    """Return the usage and the cost per document."""
    total = sum((answer.usage for answer in answers), Usage())
    n = documents or 1
    usage = Usage(
        prompt_tokens=total.prompt_tokens // n,
        cached_tokens=total.cached_tokens // n,
        completion_tokens=total.completion_tokens // n,
    )
    costs = [answer.cost for answer in answers]
    return usage, None if any(cost is None for cost in costs) else sum(cost or 0.0 for cost in costs) / n
