"""Extraction of a field of the JSON object in a completion."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn, Self

from typing_extensions import override

from ragkit.answers._base import AnswerReader, Expected, ReadAnswer, unreadable
from ragkit.answers._numbers import canonical
from ragkit.errors import InvalidInputError

# A brace that is followed by a field or by the closing brace; this excludes braces of prose and LaTeX.
_OBJECT = re.compile(r'\{\s*+(?:\}|"(?:[^"\\]|\\.)*+"\s*+:)', re.DOTALL)
_MISSING = object()


@dataclass(frozen=True)
class JsonField(AnswerReader):
    """Extracts a field of the first JSON object in a completion, whatever surrounds the object.

    Strings are stripped, numbers are written in decimal notation without trailing zeros, ``true`` and ``false`` as in
    JSON, lists and objects as JSON with sorted keys. ``null`` is not an answer.

    Attributes:
        field: The name of the field. Dots separate nested fields and indices of lists (``"answers.0.text"``), unless a
            field has the whole name.
    """

    field: str

    @property
    @override
    def spec(self) -> str:
        return f"json:{self.field}"

    @override
    def extract(self, text: str) -> ReadAnswer:
        try:
            found = _first_object(text)
            value = _MISSING if found is None else _field(found, self.field)
            answer = value if isinstance(value, str) else "" if value is _MISSING else _json(value)
        except (ValueError, ArithmeticError, RecursionError) as error:
            return unreadable(f"the JSON object cannot be read: {error}")
        if found is None:
            return unreadable("the completion has no JSON object")
        if value is _MISSING:
            return unreadable(f"the JSON object has no field {self.field!r}")
        return unreadable(f"the field {self.field!r} is null") if value is None else ReadAnswer(answer.strip())

    @override
    @classmethod
    def from_spec(cls, argument: str, expected: Expected) -> Self:
        if not argument.strip():
            raise InvalidInputError("the answer reader 'json' needs the name of a field, as in 'json:answer'")
        return cls(argument.strip())


def _first_object(text: str) -> object | None:
    """Return the first JSON object of a text; None if there is none."""
    # After a failure, the search continues at the position of the error: everything before it is part of an invalid or
    # truncated object, and a part of an object is not the answer.
    decoder = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse)
    start = _OBJECT.search(text)
    while start:
        try:
            value: object = decoder.raw_decode(text, start.start())[0]
        except json.JSONDecodeError as error:
            start = _OBJECT.search(text, max(error.pos, start.start() + 1))
        else:
            return value
    return None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not valid JSON")


def _field(value: object, name: str) -> object:
    if isinstance(value, dict) and name in value:
        return value[name]
    for part in name.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            value = value[int(part)]
        else:
            return _MISSING
    return value


def _json(value: object) -> str:
    """Write a value as JSON with sorted keys and plain decimal numbers."""
    if isinstance(value, Decimal):
        return canonical(value)
    if isinstance(value, list):
        return f"[{', '.join([_json(part) for part in value])}]"
    if isinstance(value, dict):
        return "{" + ", ".join([f"{_json(name)}: {_json(value[name])}" for name in sorted(value)]) + "}"
    return json.dumps(value, ensure_ascii=False)
