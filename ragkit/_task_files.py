"""Reading of the rows of a task from JSON Lines, CSV, Excel, Parquet, datasets on disk, or mappings."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ragkit._csv_files import encoding_of, read_rows
from ragkit._extras import require
from ragkit._labels import label_text
from ragkit._sheet_files import parquet_rows, sheet_cells
from ragkit._text import read_json
from ragkit.errors import DataFileError, InvalidInputError, RagkitWarning
from ragkit.records import Example

_OBJECTS = "expected one JSON object per line, or a list of them"
_ROW = 'expected {"input": text, "output": text, "split": "train" or "test"}'
TASK_OBJECTS = f"{_OBJECTS}; {_ROW}"
_TABLES = {".csv", ".tsv", ".xlsx", ".xlsm", ".parquet"}
_MISSING = object()

NumberedRows = Iterable[tuple[int, Mapping[str, object]]]
"""Rows with their line in the file, or their number, counted from 1."""


class TaskRow(BaseModel):
    """A row of a file; fields that are not listed here become metadata."""

    model_config = ConfigDict(extra="allow", strict=True)

    input: str | dict[str, str]
    output: str
    id: str | None = None
    split: Literal["train", "dev", "validation", "test"] | None = None

    def example(self) -> Example:
        """Convert the row to an example for the pool or the test rows."""
        return Example(self.input, self.output, id=self.id, metadata=self.model_extra or None)


def read_objects(path: Path) -> list[dict[str, object]]:
    """Read a file of objects with any fields, in a format of `file_rows`.

    Args:
        path: The file.

    Returns:
        The objects, in order.

    Raises:
        DataFileError: If the file or one of its lines cannot be read.
    """
    return [row for _, row in file_rows(path)]


def file_rows(path: Path, expected: str = _OBJECTS) -> list[tuple[int, dict[str, object]]]:
    """Read the rows of a file with their lines: CSV, TSV, Excel or Parquet by its suffix, otherwise JSON Lines."""
    suffix = path.suffix.lower()
    if suffix not in _TABLES:
        return json_rows(path, expected)
    if suffix == ".parquet":
        rows = list(parquet_rows(path))
    else:
        rows = _sheet_rows(path) if suffix.startswith(".x") else csv_rows(path)
    if not rows:
        raise DataFileError(path, 0, "has no rows; expected a header and rows below it")
    return rows


def read_task_rows(
    rows: NumberedRows, path: Path, source: str | Sequence[str] = "input", output: str = "output"
) -> list[TaskRow]:
    """Validate numbered rows with these fields of input and output; ``path`` is their file or their name in errors."""
    read: list[TaskRow] = []
    empty: list[int] = []
    kinds: dict[type, int] = {}
    for number, row in rows:
        read.append(_task_row(row, path, number, source, output))
        if (read[-1].split is None) != (read[0].split is None):
            problem = 'only some of the rows say their split; expected a "split" in every row, or in none'
            raise DataFileError(path, number, problem)
        kinds.setdefault(type(_field(row, output)), number)
        if _is_empty(read[-1].input):
            empty.append(number)
    if not read:
        raise DataFileError(path, 0, "has no rows; expected at least one")
    if bool in kinds and (int in kinds or float in kinds):
        number = min(kinds[kind] for kind in (int, float) if kind in kinds)
        problem = f"the output is a number, but a boolean in line {kinds[bool]}; write all outputs as text"
        raise DataFileError(path, number, problem)
    if empty:
        listed = ", ".join(map(str, empty[:10])) + ", …" * (len(empty) > 10)
        warnings.warn(
            f"{path}: the input of {len(empty)} rows is empty (lines {listed}); fill it in or remove the rows",
            RagkitWarning,
            stacklevel=3,
        )
    return read


def _is_empty(value: str | Mapping[str, str]) -> bool:
    return not value.strip() if isinstance(value, str) else not any(text.strip() for text in value.values())


def dataset_rows(dataset: Any, path: Path, output: str) -> Iterator[tuple[int, dict[str, object]]]:
    """Read a dataset on disk or in memory, with ``split`` if it has splits; labels of ``output`` become their names."""
    require("datasets")
    import datasets

    if isinstance(dataset, str | Path):
        try:
            dataset = datasets.load_from_disk(str(path))
        except (OSError, ValueError) as error:
            problem = f"is not a dataset on disk ({error}); expected a folder that `save_to_disk` wrote"
            raise DataFileError(path, 0, problem) from error
    parts = dataset if isinstance(dataset, Mapping) else {None: dataset}
    if "test" not in parts and "validation" in parts:
        parts = {("test" if name == "validation" else name): part for name, part in parts.items()}
    number = 0
    for split, part in parts.items():
        names = getattr(part.features.get(output), "names", None)
        for row in part:
            number, value = number + 1, row.get(output)
            if names is not None and isinstance(value, int):
                if value < 0:  # -1 means "no label"
                    raise DataFileError(path, number, f"has no label in {output!r}; leave out the rows without one")
                row = {**row, output: names[value]}
            yield number, row if split is None else {**row, "split": split}


def mapping_rows(rows: Iterable[Mapping[str, object]], path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Number rows that are mappings; ``path`` is their name in errors."""
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DataFileError(path, number, f"is a {type(row).__name__}; {_ROW}")
        yield number, row


def json_rows(path: Path, expected: str = _OBJECTS) -> list[tuple[int, dict[str, object]]]:
    """Read the objects of a JSON Lines file with their lines, or of a JSON list; errors state what was ``expected``."""
    lines = _lines(path, expected)
    if lines[0][1].lstrip().startswith("["):
        whole = _json_value(path, 1, "\n".join(line for _, line in lines), expected)
        values = list(enumerate(whole if isinstance(whole, list) else [whole], 1))
    else:
        values = [(number, _json_value(path, number, line, expected)) for number, line in lines]
    rows: list[tuple[int, dict[str, object]]] = []
    for number, row in values:
        if not isinstance(row, dict):
            raise DataFileError(path, number, f"is a {type(row).__name__}; {expected}")
        rows.append((number, row))
    if not rows:
        raise DataFileError(path, 0, f"has no rows; {expected}")
    return rows


def csv_rows(path: Path) -> list[tuple[int, dict[str, object]]]:
    """Read the rows of a CSV file with a header, with their lines; an empty id or split is ignored."""
    rows: list[tuple[int, dict[str, object]]] = []
    columns: Sequence[str] = ()
    expected = "expected a file of CSV in UTF-8, or in UTF-16 with a byte-order mark"
    try:
        with path.open(encoding=encoding_of(path), newline="") as file:
            for line, cells, problem in read_rows(file, tabs=path.suffix.lower() == ".tsv"):
                if problem:
                    raise DataFileError(path, line, f"{problem}; {expected}")
                if cells and columns:
                    rows.append((line, _csv_row(columns, cells, path, line)))
                elif cells:
                    columns = _csv_header(cells, path, line)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataFileError(path, 0, f"cannot be read ({reason}); {expected}") from error
    return rows


def _sheet_rows(path: Path) -> list[tuple[int, dict[str, object]]]:
    rows: list[tuple[int, dict[str, object]]] = []
    columns: Sequence[str] = ()
    for number, cells in sheet_cells(path):
        if cells and columns:
            padded = [*cells, *[""] * (len(columns) - len(cells))]
            rows.append((number, _csv_row(columns, padded, path, number)))
        elif cells:
            columns = _csv_header(cells, path, number)
    return rows


def divided(rows: Sequence[TaskRow], name: str, test_share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Split rows into pool and test rows by their ``split`` (others are skipped), or at random if they have none."""
    if not 0 <= test_share < 1:
        raise InvalidInputError(f"`test_share` must be at least 0 and below 1, got {test_share}")
    if any(row.split for row in rows):
        pool = [row.example() for row in rows if row.split == "train"]
        test = [row.example() for row in rows if row.split == "test"]
    else:
        held_out = set(Random(seed).sample(range(len(rows)), round(test_share * len(rows))))
        pool = [row.example() for place, row in enumerate(rows) if place not in held_out]
        test = [rows[place].example() for place in sorted(held_out)]
    if not pool:
        raise DataFileError(Path(name), 0, 'no training row; expected rows with "split": "train", or no split at all')
    return pool, test


def _field(row: Mapping[str, object], name: str) -> object:
    """Return a field by its name, or by its path in nested fields, such as ``answers.text.0``."""
    if name in row or "." not in name:
        return row.get(name, _MISSING)
    value: object = row
    for part in name.split("."):
        if isinstance(value, Mapping):
            value = value.get(part, _MISSING)
        elif isinstance(value, list) and part.isdecimal():
            value = next(iter(value[int(part[:9]) :]), _MISSING)
        else:
            return _MISSING
    return value


def _missing_field(row: Mapping[str, object], name: str) -> str:
    problem = f"has no {name!r}, only {', '.join(map(str, row)):.200}"
    only = str(next(iter(row), "")) if len(row) == 1 else ""
    found = next((mark for mark in ("\t", ";", ",", "|") if mark in only), None)
    if found is not None:
        named = "a tab" if found == "\t" else repr(found)
        return f"{problem}; the file has one column, in which {named} looks like the delimiter: save it as .csv"
    if str(next(iter(row), "")).startswith('"'):
        return f"{problem}; the lines have quotation marks around all their cells: remove them, or quote single cells"
    return f"{problem}; pass the names of your fields: input=…, output=… (on the command line --input and --output)"


def _task_row(row: Mapping[str, object], path: Path, number: int, source: str | Sequence[str], output: str) -> TaskRow:
    wanted = [source] if isinstance(source, str) else list(source)
    values = {name: _field(row, name) for name in (*wanted, output)}
    missing = next((name for name, value in values.items() if value is _MISSING), None)
    if missing is not None:
        raise DataFileError(path, number, _missing_field(row, missing))
    rest = {name: value for name, value in row.items() if name not in values}
    if rest.get("id") is None and type(rest.get("_id")) in {str, int}:  # as in BEIR
        rest["id"] = rest.pop("_id")
    if type(rest.get("id")) is int:
        rest["id"] = str(rest["id"])
    value = values[source] if isinstance(source, str) else {name: values[name] for name in wanted}
    try:
        return TaskRow.model_validate({**rest, "input": value, "output": label_text(values[output])})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'the line':.200}: {first['msg']}; {_ROW}"
        raise DataFileError(path, number, problem) from error


def _csv_header(columns: Sequence[str], path: Path, line: int) -> Sequence[str]:
    twice = next((name for name, times in Counter(columns).items() if name and times > 1), None)
    if twice is not None:
        raise DataFileError(path, line, f"the header has {twice!r:.200} twice; give each column its own name")
    return columns


def _csv_row(columns: Sequence[str], cells: Sequence[str], path: Path, line: int) -> dict[str, object]:
    if len(cells) != len(columns):
        raise DataFileError(path, line, f"has {len(cells)} cells; expected {len(columns)}, as in the header")
    row = zip(columns, cells, strict=True)
    return {name: value for name, value in row if value or name not in {"id", "_id", "split"}}


def _json_value(path: Path, number: int, text: str, expected: str) -> object:
    try:
        return read_json(text, unique_names=True)
    except InvalidInputError as error:
        raise DataFileError(path, number, f"{error}; {expected}") from error


def _lines(path: Path, expected: str) -> list[tuple[int, str]]:
    """Return the lines that are not empty, with their numbers."""
    try:
        lines = path.read_text(encoding=encoding_of(path)).split("\n")
    except OSError as error:
        raise DataFileError(path, 0, f"cannot be read ({error.strerror}); {expected}") from error
    except UnicodeDecodeError as error:
        raise DataFileError(path, 0, f"is not {error.encoding.upper()} (byte {error.start}); {expected}") from error
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not kept:
        raise DataFileError(path, 0, f"has no rows; {expected}")
    return kept
