"""Read the files of a comparison, which may be damaged or changed, and check them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ragkit._files import checked
from ragkit._text import read_json
from ragkit.errors import DataFileError

SCHEMA = 2
_MOST_BYTES = 2**30
_File = TypeVar("_File", bound=BaseModel)


def read_checked(kind: type[_File], path: Path, content: str) -> _File:
    """Read a file of a comparison, and check its checksum, its schema version and its content."""
    try:
        stored = read_json(checked(read_limited(path)))
    except (OSError, ValueError) as error:
        raise DataFileError(path, 0, f"expected {content}: {error}") from error
    found = stored.get("schema_version", 1) if isinstance(stored, dict) else None
    if found != SCHEMA:
        raise DataFileError(
            path,
            0,
            f"expected schema version {SCHEMA}, got {found}; rerun the comparison with the same folder to rewrite "
            "the file; finished strategies are not repeated",
        )
    try:
        return kind.model_validate(stored)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataFileError(path, 0, f"`{where}`: {first['msg']}; the file was modified or is damaged") from error


def read_limited(path: Path) -> bytes:
    """Read a regular file of at most 1 GiB, so that a device, a pipe or a sparse file cannot block or fill memory."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path} has more than {_MOST_BYTES:,} bytes")
    return path.read_bytes()


def check_lengths(
    rows: int, answers: Sequence[str], scores: Sequence[float], confidence: Sequence[float], prompts: Sequence[str]
) -> None:
    """Raise an error unless each test row has an answer, a score, and as many confidences and prompts as the others."""
    if len(answers) != rows or len(scores) != rows or len(confidence) not in {0, rows}:
        raise ValueError(f"expected one answer, score and confidence for each of {rows} test rows")
    if rows and len(prompts) % rows:
        raise ValueError(
            f"expected the same number of prompts for each of {rows} test rows, got {len(prompts)} prompts"
        )


def check_indices(rows: int, indices: Sequence[int]) -> None:
    """Raise an error unless all indices are those of test rows."""
    if any(index >= rows for index in indices):
        raise ValueError(f"expected indices below {rows}, got {max(indices)}")
