"""Metrics for extraction, which compare JSON records as multisets."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import NoReturn

from ragkit.answers._reasoning import without_reasoning
from ragkit.errors import InvalidInputError
from ragkit.metrics._wording import multiset_f1

_FENCED = re.compile(r"```(?:json)?[^\S\n]*\n(.*?)```", re.DOTALL)


def record_f1(answer: str, expected: str) -> float:
    """Return the F1 of the records of two JSON texts; two records match if all their fields are equal.

    A text contains one object or a list of objects, alone or in a fenced block. The order of records and of fields, and
    the amount of white space inside strings, are ignored. Reasoning between ``<think>`` tags is not part of the answer.

    Returns:
        A score from 0 to 1; 0 if the answer does not contain such JSON.

    Raises:
        InvalidInputError: If the expected text does not contain such JSON.
    """
    wanted, found = _expected_records(expected), _records(answer)
    if found is None:
        return 0.0
    return multiset_f1(Counter(map(_canonical, found)), Counter(map(_canonical, wanted)))


def field_f1(answer: str, expected: str) -> float:
    """Return the F1 of the fields of all records of two JSON texts, which gives credit for partly correct records.

    Returns:
        A score from 0 to 1; 0 if the answer does not contain JSON records.

    Raises:
        InvalidInputError: If the expected text does not contain JSON records.
    """
    wanted, found = _expected_records(expected), _records(answer)
    if found is None:
        return 0.0
    return multiset_f1(_fields(found), _fields(wanted))


def _fields(records: list[dict[str, object]]) -> Counter[tuple[str, str]]:
    return Counter((name, _canonical(value)) for record in records for name, value in record.items())


def _expected_records(text: str) -> list[dict[str, object]]:
    records = _records(text)
    if records is None:
        raise InvalidInputError(f"the expected text must be a JSON object or a list of them, got {text[:80]!r}")
    return records


def _records(text: str) -> list[dict[str, object]] | None:
    answer = without_reasoning(text).text
    fenced = _FENCED.search(answer)
    try:
        value = _plain(json.loads(fenced[1] if fenced else answer, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return None
    rows = [value] if isinstance(value, dict) else value
    return rows if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else None


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _plain(value: object) -> object:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 2 and 2.0 are the same number in JSON
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")
