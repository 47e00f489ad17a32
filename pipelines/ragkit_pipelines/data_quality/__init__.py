"""Checks of task data: duplicates, contradictions, leaked test rows and label noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import lazy_names

if TYPE_CHECKING:
    from ragkit_pipelines.data_quality.data_check import DataCheck as DataCheck
    from ragkit_pipelines.data_quality.data_check import check_data as check_data
    from ragkit_pipelines.data_quality.data_check import clean_data as clean_data

_HOME_OF = {"DataCheck": "data_check", "check_data": "data_check", "clean_data": "data_check"}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
