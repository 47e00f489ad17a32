"""Parse the records in a model's response."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from ragkit.answers import without_reasoning
from ragkit_pipelines.extraction.prompt import RECORDS

_OBJECT = re.compile(r"[\s,]*\{")


class Parsed(NamedTuple):
    """The records in a response.

    Attributes:
        found: Valid records with the quotations beside them; the quotation is None if there is none.
        problems: Error messages of the other records.
    """

    found: list[tuple[BaseModel, str | None]]
    problems: list[str]


def parse(text: str, schema: type[BaseModel], *, quoted: bool = True) -> Parsed:
    """Parse the first array of objects in a response, ignoring other text and reasoning.

    Args:
        text: The response.
        schema: The schema of a record.
        quoted: Whether each item must be ``{"quote": …, "record": …}``; otherwise, it may also be the record itself.

    Returns:
        The records, and the errors of the items that are not valid records.
    """
    outside = without_reasoning(text)
    if outside.truncated:
        return Parsed([], ["the response was truncated during the reasoning"])
    rows = _rows(outside.text)
    if rows is None:
        return Parsed([], ["the response contains no JSON array of objects"])
    found: list[tuple[BaseModel, str | None]] = []
    problems: list[str] = []
    for number, row in enumerate(rows, 1):
        beside = "record" in row and "record" not in schema.model_fields
        if quoted and not beside:
            problems.append(f'item {number} must be {{"quote": …, "record": …}}')
            continue
        try:
            record = schema.model_validate(row["record"] if beside else row)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "record"
            problems.append(f"item {number}: {field}: {first['msg']}")
            continue
        quote = row.get("quote") if beside else None
        found.append((record, quote if isinstance(quote, str) else None))
    return Parsed(found, problems)


def _rows(text: str) -> list[dict[str, object]] | None:
    """Return the first array of objects (if truncated, its complete objects), otherwise an empty array, or None.

    A response may also be objects without an array around them, one after the other.
    """
    decoder = json.JSONDecoder()
    empty: list[dict[str, object]] | None = None
    for found in re.finditer(r"\[", text):
        try:
            value, _ = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            value = _leading_objects(decoder, text, found.end())
        if value and all(isinstance(item, dict) for item in value):
            return list(value)
        if value == [] and empty is None and text.startswith("[]", found.start()):
            empty = []
    start = text.find("{")
    objects = _leading_objects(decoder, text, start) if start >= 0 else []
    own = [each for each in objects if RECORDS not in each]
    return own or empty


def _leading_objects(decoder: json.JSONDecoder, text: str, start: int) -> list[dict[str, object]]:
    objects: list[dict[str, object]] = []
    while (found := _OBJECT.match(text, start)) is not None:
        try:
            value, start = decoder.raw_decode(text, found.end() - 1)
        except (ValueError, RecursionError):
            break
        objects.append(value)
    return objects
