"""Queries, judgements and rankings in the file formats of TREC and BEIR."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from ragkit._files import write_atomic
from ragkit._text import read_json
from ragkit.errors import DataFileError, InvalidInputError

Qrels = Mapping[str, Mapping[str, int]]
Run = Mapping[str, Sequence[tuple[str, float]]]


def read_queries(path: str | Path) -> dict[str, str]:
    """Return queries by id from JSON Lines with ``id`` (or ``_id``) and ``text``, or from lines of id, tab, text.

    Raises:
        DataFileError: If a line has another format, or if an id occurs twice.
    """
    file, found = Path(path), dict[str, str]()
    for number, line in _lines(file):
        if line.lstrip().startswith("{"):
            try:
                row = cast("dict[str, object]", read_json(line))  # an object, as the line begins with a brace
            except InvalidInputError as error:
                raise DataFileError(file, number, f"{error}; expected one JSON object per line") from error
            name, text = row.get("id", row.get("_id")), row.get("text")
        else:
            name, _, text = line.rstrip("\r\n").partition("\t")
        if not isinstance(name, (str, int)) or not isinstance(text, str) or not text:
            raise DataFileError(file, number, "expected JSON with `id` and `text`, or an id, a tab and a text")
        if str(name) in found:
            raise DataFileError(file, number, f"query {name!r} comes twice; ids must differ")
        found[str(name)] = text
    return found


def read_qrels(path: str | Path) -> dict[str, dict[str, int]]:
    """Return grades by query and document; above 0 is relevant.

    The file has TREC's ``query 0 document grade``, or BEIR's tab-separated query, document, grade with a header.

    Raises:
        DataFileError: If a line has another format, or if a document has two grades for a query.
    """
    file, found = Path(path), dict[str, dict[str, int]]()
    for number, line in _lines(file):
        parts = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
        if number == 1 and not _is_whole(parts[-1]):
            continue  # the header
        if len(parts) == 4:
            parts = [parts[0], *parts[2:]]
        if len(parts) != 3 or not _is_whole(parts[2]):
            raise DataFileError(file, number, "expected query, document and a whole grade")
        query, own, grade = parts[0], parts[1], int(parts[2])
        if found.setdefault(query, {}).setdefault(own, grade) != grade:
            raise DataFileError(file, number, f"document {own!r} has two grades for query {query!r}; keep one")
    return found


def read_run(path: str | Path) -> dict[str, list[tuple[str, float]]]:
    """Return rankings in TREC format, ``query Q0 document rank score tag``: documents with scores for each query.

    The highest score comes first; ties are sorted by rank.

    Raises:
        DataFileError: If a line has another format, or repeats a document.
    """
    file, found = Path(path), dict[str, list[tuple[float, int, str]]]()
    seen: set[tuple[str, str]] = set()
    for number, line in _lines(file):
        parts = line.split()
        if len(parts) != 6 or not _is_whole(parts[3]) or not _is_finite(parts[4]):
            raise DataFileError(file, number, "expected query, Q0, document, rank, score and tag")
        if (parts[0], parts[2]) in seen:
            raise DataFileError(file, number, f"document {parts[2]!r} comes twice for query {parts[0]!r}")
        seen.add((parts[0], parts[2]))
        found.setdefault(parts[0], []).append((-float(parts[4]), int(parts[3]), parts[2]))
    return {query: [(own, -score) for score, _, own in sorted(rows)] for query, rows in found.items()}


def write_run(path: str | Path, run: Run, *, tag: str = "ragkit") -> None:
    """Write rankings, documents with scores for each query, best first, in TREC format; the tag names the system.

    Raises:
        InvalidInputError: If a name contains white space, which the format does not support.
    """
    lines = []
    for query, hits in run.items():
        for rank, (own, score) in enumerate(hits, 1):
            for name in (query, own, tag):
                if not name or any(letter.isspace() for letter in name):
                    raise InvalidInputError(f"a run file cannot hold the name {name!r}; use names without white space")
            lines.append(f"{query} Q0 {own} {rank} {score!r} {tag}\n")
    write_atomic(Path(path), "".join(lines))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as file:  # some editors write a byte order mark
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(path, 0, f"cannot be read ({error}); expected a text file in UTF-8") from error


def _is_whole(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
