"""Reading of the rows of a task from the Hugging Face hub and from data frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ragkit._extras import require
from ragkit._progress import progress
from ragkit.errors import InvalidInputError

_USED = {"train", "validation", "test"}


def hub_dataset(name: str, *, config: str | None, split: str | None, revision: str | None) -> Any:
    """Load a dataset of the hub, or of a local folder in its format, without running code of the dataset.

    Args:
        name: Id of the dataset, or a folder.
        config: Its configuration; the default one if None.
        split: A split whose rows are divided into pool and test rows; None for its own splits.
        revision: Branch, tag or commit.

    Returns:
        A ``Dataset``, or a mapping from ``train``, ``validation`` and ``test``, as far as they exist, to a ``Dataset``.

    Raises:
        InvalidInputError: If it cannot be loaded, or has no such split.
    """
    require("datasets")
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with progress(f"loading {name[:60]}", None):
            loaded = datasets.load_dataset(name, config, split=split, revision=revision)
    except Exception as error:  # datasets, its readers and the hub's client raise errors of any type
        said = f"{type(error).__name__}: {str(error)[:500]}"
        raise InvalidInputError(f"the dataset {name[:200]!r} cannot be loaded ({said}); {_advice(error)}") from error
    finally:
        if shown:
            datasets.enable_progress_bars()
    if not isinstance(loaded, Mapping):
        return loaded
    if len(loaded) == 1:
        return next(iter(loaded.values()))
    if "train" not in loaded:
        raise InvalidInputError(
            f"the dataset {name[:200]!r} has no split 'train', only {', '.join(map(repr, loaded))}; pass `split` with "
            "the one to divide into pool and test rows"
        )
    return {part: rows for part, rows in loaded.items() if part in _USED}


def _advice(error: Exception) -> str:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"ConnectionError", "OfflineModeIsEnabled", "Timeout", "TransportError"}:
        return (
            "check the network and the id, such as 'owner/name'; a dataset that was downloaded before is read from the "
            "cache"
        )
    if kinds & {"DatasetNotFoundError", "FileNotFoundError", "HfHubHTTPError"}:
        return "check the id, such as 'owner/name', or the folder; a private dataset needs `hf auth login` first"
    return "check `split` and `config` against the page of the dataset"


def frame_rows(frame: Any) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Number the rows of a data frame of pandas or Polars from 1.

    Yields:
        The number of a row, and its values by column.

    Raises:
        InvalidInputError: If the object is not a data frame, or two columns have the same name.
    """
    if not hasattr(frame, "columns") or not (hasattr(frame, "iter_rows") or hasattr(frame, "to_dict")):
        raise InvalidInputError(f"`frame` must be a DataFrame of pandas or Polars, got {type(frame).__name__}")
    columns = [str(name) for name in frame.columns]
    if len(set(columns)) < len(columns):
        raise InvalidInputError(f"the columns of a data frame must have different names, got {columns}")
    rows = frame.iter_rows(named=True) if hasattr(frame, "iter_rows") else frame.to_dict("records")
    for number, row in enumerate(rows, 1):
        yield number, dict(zip(columns, row.values(), strict=True))


def hub_parts(path: str | Path) -> tuple[str, str | None] | None:
    """Return the id and the configuration of ``hub:<id>`` or ``hub:<id>:<config>``; None for other paths."""
    kind, _, rest = str(path).partition(":")
    if kind != "hub" or not rest:
        return None
    name, _, config = rest.partition(":")
    return name, config or None
