"""Data frames of pandas and Polars, from one dict per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ragkit._extras import require
from ragkit_pipelines.compare.results import Row
from ragkit_pipelines.compare.statistics.calibration import Calibration

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Record = dict[str, Any]


def row_record(row: Row) -> Record:
    """Return the fields of a row as a flat dict; those of the calibration are named ``calibration_error`` and so on."""
    record = row.model_dump(exclude={"calibration"})
    for each in fields(Calibration):
        record[f"calibration_{each.name}"] = None if row.calibration is None else getattr(row.calibration, each.name)
    return record


def pandas_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return a data frame of pandas; raises `MissingExtraError` if pandas is not installed."""
    require("pandas")
    import pandas as pd

    return pd.DataFrame(records)


def polars_frame(records: Sequence[Record]) -> pl.DataFrame:
    """Return a data frame of Polars; raises `MissingExtraError` if Polars is not installed."""
    require("polars")
    import polars as pl

    # A column may begin with many missing values, so its type is inferred from all rows.
    return pl.DataFrame(records, infer_schema_length=None)
