"""Parse the records in a model's response, and locate their quotations in the text."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from ragkit.answers import without_reasoning

_SPACE = re.compile(r"\s+")
_OBJECT = re.compile(r"[\s,]*\{")


class Parsed(NamedTuple):
    """The records in a response.

    Attributes:
        found: Valid records with their quotations.
        problems: Error messages of the other records.
    """

    found: list[tuple[BaseModel, str]]
    problems: list[str]


def parse(text: str, schema: type[BaseModel]) -> Parsed:
    """Parse the first array of objects in a response, ignoring other text and reasoning."""
    outside = without_reasoning(text)
    if outside.truncated:
        return Parsed([], ["the response was truncated during the reasoning"])
    rows = _array(outside.text)
    if rows is None:
        return Parsed([], ["the response contains no JSON array of objects"])
    found: list[tuple[BaseModel, str]] = []
    problems: list[str] = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or "record" not in row:
            problems.append(f'item {number} must be {{"record": …, "quote": …}}')
            continue
        try:
            record = schema.model_validate(row["record"])
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "record"
            problems.append(f"item {number}: {field}: {first['msg']}")
            continue
        quote = row.get("quote")
        found.append((record, quote if isinstance(quote, str) else ""))
    return Parsed(found, problems)


def _array(text: str) -> list[object] | None:
    """Return the first array of objects (if truncated, its complete objects), otherwise an empty array, or None."""
    decoder = json.JSONDecoder()
    empty: list[object] | None = None
    for found in re.finditer(r"\[", text):
        try:
            value, _ = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            value = _leading_objects(decoder, text, found.end())
        if value and all(isinstance(item, dict) for item in value):
            return list(value)
        if value == [] and empty is None and text.startswith("[]", found.start()):
            empty = []
    return empty


def _leading_objects(decoder: json.JSONDecoder, text: str, start: int) -> list[object]:
    objects: list[object] = []
    while (found := _OBJECT.match(text, start)) is not None:
        try:
            value, start = decoder.raw_decode(text, found.end() - 1)
        except (ValueError, RecursionError):
            break
        objects.append(value)
    return objects


def locate(quote: str, text: str) -> tuple[int, int] | None:
    """Return start and end of a quotation in a text, ignoring differences in white space; None if it is not found."""
    parts = [re.escape(part) for part in _SPACE.split(quote.strip()) if part]
    found = re.search(r"\s+".join(parts), text) if parts else None
    return (found.start(), found.end()) if found else None
