"""Reading of the rows of a task from JSON Lines, CSV, datasets on disk, or mappings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ragkit.csv_files import read_rows
from ragkit.errors import DataFileError, InvalidInputError
from ragkit.extras import require
from ragkit.records import Example
from ragkit.text import read_json

_OBJECTS = "expected one JSON object a line"
_EXPECTED = 'expected {"input": text, "output": text, "split": "train" or "test"}'


class TaskRow(BaseModel):
    """A row of a file; fields that are not listed here become metadata."""

    model_config = ConfigDict(extra="allow", strict=True)

    input: str | dict[str, str]
    output: str
    id: str | None = None
    split: Literal["train", "dev", "validation", "test"] | None = None

    def example(self) -> Example:
        """Convert the row to an example for the pool or the test rows.

        Returns:
            The example.
        """
        return Example(self.input, self.output, id=self.id, metadata=self.model_extra or None)


def read_objects(path: Path) -> list[dict[str, object]]:
    """Read a file of objects with any fields: one JSON object per line, a JSON list of objects, or CSV.

    Args:
        path: The file, UTF-8; files that end in ``.csv`` or ``.tsv`` are tables. Empty lines are skipped.

    Returns:
        The objects, in order.

    Raises:
        DataFileError: If the file or one of its lines cannot be read.
    """
    return [row for _, row in (_csv_rows(path) if is_table(path) else _json_rows(path, _OBJECTS))]


def is_table(path: Path) -> bool:
    """Return whether a file is CSV or TSV according to its suffix."""
    return path.suffix.lower() in {".csv", ".tsv"}


def read_jsonl(path: Path, source: str | Sequence[str] = "input", output: str = "output") -> list[TaskRow]:
    """Read rows from JSON Lines, or from a JSON list.

    Args:
        path: The file, UTF-8.
        source: The field or fields of the input.
        output: The field of the output.

    Returns:
        The rows, in order.

    Raises:
        DataFileError: If the file or one of its lines cannot be read.
    """
    rows: list[TaskRow] = []
    for number, row in _json_rows(path, f"{_OBJECTS}; {_EXPECTED}"):
        rows.append(_row(row, path, number, source, output))
        _check_split(rows, path, number)
    return rows


def read_csv(path: Path, source: str | Sequence[str], output: str) -> list[TaskRow]:
    """Read rows from a CSV file with a header.

    Args:
        path: The file, UTF-8.
        source: The column or columns of the input.
        output: The column of the output.

    Returns:
        The rows, in order.

    Raises:
        DataFileError: If the file or one of its rows cannot be read.
    """
    rows: list[TaskRow] = []
    for number, row in _csv_rows(path):
        rows.append(_row(row, path, number, source, output))
        _check_split(rows, path, number)
    return rows


def read_dataset(dataset: Any, source: str | Sequence[str], output: str) -> tuple[list[TaskRow], str]:
    """Read rows from a dataset of the Hugging Face library ``datasets``.

    Args:
        dataset: A folder written by ``save_to_disk``, a ``Dataset`` or a ``DatasetDict``.
        source: The column or columns of the input.
        output: The column of the output.

    Returns:
        The rows, and a name for the task.

    Raises:
        DataFileError: If the dataset cannot be read.
    """
    require("datasets")
    import datasets

    path = Path(dataset if isinstance(dataset, str | Path) else "dataset")
    if isinstance(dataset, str | Path):
        try:
            dataset = datasets.load_from_disk(str(path))
        except (OSError, ValueError) as error:
            problem = f"is not a dataset on disk ({error}); expected a folder that `save_to_disk` wrote"
            raise DataFileError(path, 0, problem) from error
    parts = dataset if isinstance(dataset, Mapping) else {None: dataset}
    if "test" not in parts and "validation" in parts:
        parts = {("test" if name == "validation" else name): part for name, part in parts.items()}
    rows: list[TaskRow] = []
    for split, part in parts.items():
        names = getattr(part.features.get(output), "names", None)
        for row in part:
            number, value = len(rows) + 1, row.get(output)
            if names is not None and isinstance(value, int):
                if value < 0:  # -1 means "no label"
                    raise DataFileError(path, number, f"has no label in {output!r}; leave out the rows without one")
                row = {**row, output: names[value]}
            where = {} if split is None else {"split": split}
            rows.append(_row({**row, **where}, path, number, source, output))
            _check_split(rows, path, number)
    if not rows:
        raise DataFileError(path, 0, "holds no row")
    return rows, path.name


def read_mappings(rows: Iterable[Mapping[str, object]], path: Path) -> list[TaskRow]:
    """Read rows that are mappings.

    Args:
        rows: The mappings.
        path: Name of the rows in error messages.

    Returns:
        The rows, in order.

    Raises:
        DataFileError: If there are no rows, or a row cannot be read; rows are counted from 1.
    """
    read: list[TaskRow] = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DataFileError(path, number, f"is a {type(row).__name__}; {_EXPECTED}")
        read.append(_row(row, path, number, "input", "output"))
        _check_split(read, path, number)
    if not read:
        raise DataFileError(path, 0, "gives no row")
    return read


def divided(rows: Sequence[TaskRow], name: str, test_share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Split rows into pool and test rows by their ``split``, or at random if they have none.

    Args:
        rows: All rows; those of a ``dev`` or ``validation`` split are skipped.
        name: Name of the rows in error messages.
        test_share: Share of the rows that become test rows if no row has a split.
        seed: Seed of the random split.

    Returns:
        The pool and the test rows.

    Raises:
        DataFileError: If the pool is empty.
        InvalidInputError: If ``test_share`` is not at least 0 and below 1.
    """
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


def _row(row: Mapping[str, object], path: Path, number: int, source: str | Sequence[str], output: str) -> TaskRow:
    wanted = [source] if isinstance(source, str) else list(source)
    missing = [name for name in (*wanted, output) if name not in row]
    if missing:
        problem = f"has no {missing[0]!r}, only {', '.join(map(str, row))}"
        known = "say which fields they are: input=…, output=… (on the command line --input and --output)"
        raise DataFileError(path, number, f"{problem}; {_EXPECTED}, or {known}")
    rest = {name: value for name, value in row.items() if name not in {*wanted, output}}
    if rest.get("id") is None and type(rest.get("_id")) in {str, int}:  # as in BEIR
        rest["id"] = rest.pop("_id")
    if type(rest.get("id")) is int:
        rest["id"] = str(rest["id"])
    value = row[source] if isinstance(source, str) else {name: row[name] for name in wanted}
    try:
        return TaskRow.model_validate({**rest, "input": value, "output": row[output]})
    except ValidationError as error:
        raise DataFileError(path, number, _problem(error)) from error


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}; {_EXPECTED}"


def _check_split(rows: Sequence[TaskRow], path: Path, number: int) -> None:
    if (rows[-1].split is None) != (rows[0].split is None):
        problem = 'only some of the rows say their split; expected a "split" in every row, or in none'
        raise DataFileError(path, number, problem)


def _csv_rows(path: Path) -> list[tuple[int, dict[str, object]]]:
    """Return the rows of a CSV file with a header, each with its line; an empty id or split is ignored."""
    rows: list[tuple[int, dict[str, object]]] = []
    columns: list[str] | None = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, cells, problem in read_rows(file, tabs=path.suffix.lower() == ".tsv"):
                if problem:
                    raise DataFileError(path, line, f"{problem}; expected a UTF-8 file of CSV")
                if columns is None and cells:
                    columns = _checked(cells, path, line)
                elif columns is not None and cells:
                    rows.append((line, _row_of(columns, cells, path, line)))
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(path, 0, f"cannot be read ({error}); expected a UTF-8 file of CSV") from error
    if not rows:
        raise DataFileError(path, 0, "holds no row; expected a heading and rows below it")
    return rows


def _checked(columns: Sequence[str], path: Path, line: int) -> list[str]:
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if twice is not None:
        raise DataFileError(path, line, f"the heading names {twice!r} more than once; give each column its own name")
    return list(columns)


def _row_of(columns: Sequence[str], cells: Sequence[str], path: Path, line: int) -> dict[str, object]:
    if len(cells) != len(columns):
        raise DataFileError(path, line, f"has other columns than the heading: {', '.join(columns)}")
    row = zip(columns, cells, strict=True)
    return {name: value for name, value in row if value or name not in {"id", "_id", "split"}}


def _json_rows(path: Path, expected: str) -> list[tuple[int, dict[str, object]]]:
    """Return the objects of a JSON Lines file with their lines, or of a JSON list, counted from 1."""
    lines = _lines(path)
    if lines[0][1].lstrip().startswith("["):
        values = list(enumerate(_list_of(path, lines, expected), 1))
    else:
        values = [(number, _value(path, number, line, expected)) for number, line in lines]
    rows: list[tuple[int, dict[str, object]]] = []
    for number, row in values:
        if not isinstance(row, dict):
            raise DataFileError(path, number, f"holds a {type(row).__name__}; {expected}")
        rows.append((number, row))
    return rows


def _list_of(path: Path, lines: Sequence[tuple[int, str]], expected: str) -> list[object]:
    values = _value(path, 1, "\n".join(line for _, line in lines), expected)
    if not isinstance(values, list) or not values:
        raise DataFileError(path, 0, "holds no row; expected one JSON object a line, or a list of them")
    return values


def _value(path: Path, number: int, text: str, expected: str) -> object:
    try:
        return read_json(text)
    except InvalidInputError as error:
        raise DataFileError(path, number, f"{error}; {expected}") from error


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines that are not empty, with their numbers."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise DataFileError(path, 0, f"cannot be read ({error.strerror}); expected a file of JSON lines") from error
    except UnicodeDecodeError as error:
        raise DataFileError(
            path, 0, f"is not UTF-8 (byte {error.start}); expected a UTF-8 file of JSON lines"
        ) from error
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not kept:
        raise DataFileError(path, 0, "holds no row; expected one JSON object a line")
    return kept
