"""Reading of Parquet files and Excel sheets, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, time
from pathlib import Path
from zipfile import BadZipFile

from ragkit._extras import is_installed, require
from ragkit._labels import label_text
from ragkit.errors import DataFileError

_BATCH = 10_000  # rows of a Parquet file that are converted at a time


def parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Read the rows of a Parquet file, numbered from 1."""
    require("pyarrow")
    import pyarrow
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (OSError, pyarrow.ArrowException) as error:
        raise DataFileError(path, 0, f"cannot be read ({error}); expected a Parquet file") from error


def sheet_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read the rows of the first sheet of an Excel workbook as text, with their numbers; empty cells at the end go."""
    if not is_installed("openpyxl"):
        advice = "run `pip install openpyxl`, or save the sheet as CSV"
        raise DataFileError(path, 0, f"is an Excel workbook, and `openpyxl` is not installed; {advice}")
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
        sheet = workbook.worksheets[0]
        sheet.reset_dimensions()  # some programs store the wrong size of the sheet, and rows would be missing
        for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
            cells = [_cell_text(value) for value in values]
            while cells and not cells[-1]:
                cells.pop()
            yield number, cells
        workbook.close()
    except (OSError, BadZipFile, InvalidFileException, KeyError, IndexError, ValueError, SyntaxError) as error:
        raise DataFileError(path, 0, f"cannot be read ({error}); expected an Excel workbook (.xlsx)") from error


def _cell_text(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, date | time) else str(label_text(value))
