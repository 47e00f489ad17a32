"""The quotations in records: which fields contain them, and where the source contains them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from ragkit._text import UNSPACED

_UNSPACED = re.compile(f"[{UNSPACED}\u1100-\u115f]")  # Korean particles follow their noun without a space
_CONTINUES = re.compile("[\u1160-\u11ff]")  # vowels and final consonants of a Korean syllable
_SAME = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", ""),
    "\u2026": "...",
}


class _Quoted:
    """Marks a field that contains a quotation."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), "description": "exact words of the passage that support the record"}


_QUOTED = _Quoted()

Quote = Annotated[str, _QUOTED]
"""The type of a field that quotes the source: ``evidence: Quote``."""


def quotation_fields(schema: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of the fields of the type `Quote`, including optional ones and lists of them."""
    fields = schema.model_fields.items()
    return tuple(name for name, field in fields if _QUOTED in field.metadata or _contains(field.annotation, _QUOTED))


def text_fields(schema: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of the fields that contain a string, including optional ones and lists of strings."""
    return tuple(name for name, field in schema.model_fields.items() if _contains(field.annotation, str))


def _contains(annotation: Any, part: object) -> bool:
    return annotation is part or any(_contains(each, part) for each in get_args(annotation))


def quotations(record: BaseModel, fields: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the quotations in some fields of a record, which are not blank, each with the name of its field."""
    return [(name, text) for name in fields for text in _texts(getattr(record, name)) if text.strip()]


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [text for each in value for text in _texts(each)] if isinstance(value, list | tuple | set) else []


class Source:
    """A text in which quotations are located.

    White space, case, soft hyphens, the composition of accents, and the shapes of quotation marks and dashes may
    differ. A quotation neither begins nor ends within a word.
    """

    def __init__(self, text: str) -> None:
        """Fold the text once, for all its quotations."""
        self._folded = _fold(text)
        self._length = len(text)

    def locate(self, quote: str) -> tuple[int, int] | None:
        """Return start and end of the first occurrence of a quotation; None if there is none."""
        folded, places = self._folded
        wanted = _fold(quote).text.strip()
        start = folded.find(wanted) if wanted else -1
        while start >= 0:
            end = start + len(wanted)
            if not _within_word(folded, start) and not _within_word(folded, end):
                return places[start], places[end] if end < len(places) else self._length
            start = folded.find(wanted, start + 1)
        return None


class _Folded(NamedTuple):
    """A folded text, with the index in the original text of each of its characters."""

    text: str
    places: list[int]


def _fold(text: str) -> _Folded:
    made: list[str] = []
    places: list[int] = []
    end = 0  # the end of the last character that was kept: spaces after a quotation are not a part of it
    for place, character in enumerate(text):
        for each in _folded_character(character):
            if each != " " or (made and made[-1] != " "):
                made.append(each)
                places.append(end if each == " " else place)
        if not character.isspace():
            end = place + 1
    return _Folded("".join(made), places)


@cache
def _folded_character(character: str) -> str:
    if character.isspace():
        return " "
    return _SAME.get(character) or ("" if character in _SAME else unicodedata.normalize("NFD", character).casefold())


def _within_word(text: str, place: int) -> bool:
    """Whether a position is inside a word, or between a letter and its accent; some scripts do not divide words."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if unicodedata.category(after) in {"Mn", "Mc"} or _CONTINUES.match(after):
        return True
    divided = not _UNSPACED.match(before) and not _UNSPACED.match(after)
    return divided and _in_word(before) and _in_word(after)


def _in_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character) in {"Mn", "Mc"}
