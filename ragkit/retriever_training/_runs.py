"""Folders of training runs, which are hidden working folders until the last file is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ragkit._files import make_folder, sync, write_atomic
from ragkit.errors import InvalidInputError, TrainingError
from ragkit.finetuning._manifest import StoredRecord, run_hash
from ragkit.finetuning._runs import RUN, last_checkpoint
from ragkit.finetuning._settings import check_schedule, check_whole

RECORD = "training.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """The arguments of a training run that embedders and rerankers share; see `finetune_embedder`."""

    folder: Path
    epochs: float
    learning_rate: float
    batch_size: int
    max_length: int | None
    seed: int

    def __post_init__(self) -> None:
        check_schedule(self.epochs, self.learning_rate, self.seed)
        check_whole(1, batch_size=self.batch_size)
        check_whole(8, max_length=self.max_length, optional=True)

    def facts(self) -> dict[str, object]:
        """Return the settings that determine the result."""
        names = ("learning_rate", "batch_size", "max_length", "seed")
        return {"epochs": float(self.epochs)} | {name: getattr(self, name) for name in names}


class TrainingRecord(StoredRecord):
    """The record of a training run: its data, base model, settings and results.

    Attributes:
        kind: ``"embedder"`` or ``"reranker"``.
        objective: Name of the loss.
        run: Hash of everything that determines the result.
        base: Spec of the base model.
        base_fingerprint: Fingerprint of the base model.
        rows: Number of training rows.
        loss: Mean loss of the steps; if the run was resumed, only that of the last process.
        seconds: Elapsed time of training in seconds; if the run was resumed, only that of the last process.
        settings: Epochs, learning rate and other settings.
        versions: Versions of the libraries.
    """

    file_name = RECORD

    format: Literal[1] = 1
    kind: Literal["embedder", "reranker"]
    objective: str
    run: str
    base: str
    base_fingerprint: str
    rows: int
    loss: float
    seconds: float
    settings: dict[str, Any]
    versions: dict[str, str]


@contextmanager
def claimed(folder: Path, run: str) -> Iterator[Path | None]:
    """Claim a folder for a run, and create it when the block is complete.

    If the block raises an exception, the folder is not changed. The unfinished run remains in a hidden folder next to
    it if a checkpoint exists from which it can resume, and is removed otherwise.

    Yields:
        A working folder for the model; None if the same run is already finished.

    Raises:
        InvalidInputError: If the folder contains anything else.
    """
    if (folder / RECORD).is_file():
        if TrainingRecord.read(folder).run != run:
            raise InvalidInputError(f"{folder} holds another trained model; give another `output_dir` or delete it")
        yield None
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInputError(f"{folder} is not empty and holds no model trained here; give another `output_dir`")
    work = work_folder(folder)
    if _run_in(work) != run:
        shutil.rmtree(work, ignore_errors=True)
    try:
        make_folder(work / "model")
        write_atomic(work / RUN, json.dumps({"run": run}))
    except OSError as error:
        raise InvalidInputError(f"{work} cannot be written ({error}); give another `output_dir`") from error
    try:
        yield work / "model"
    except BaseException as error:
        if isinstance(error, TrainingError) or last_checkpoint(work) is None:
            shutil.rmtree(work, ignore_errors=True)
        raise
    for path in (*(work / "model").rglob("*"), work / "model"):
        sync(path)
    if folder.exists():
        folder.rmdir()  # empty, as checked above
    (work / "model").rename(folder)
    sync(folder.parent)
    shutil.rmtree(work, ignore_errors=True)


def work_folder(folder: Path) -> Path:
    """Return the working folder of an unfinished run."""
    return folder.with_name(f".{folder.name}.training")


def hash_of(base: str, objective: str, rows: Sequence[object], settings: TrainingSettings, extra: object) -> str:
    """Hash everything that determines the result of a run; ``base`` is the fingerprint of the base model."""
    return run_hash(base=base, objective=objective, rows=list(map(repr, rows)), extra=extra, **settings.facts())


def _run_in(work: Path) -> str | None:
    try:
        found = json.loads((work / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(found.get("run")) if isinstance(found, dict) else None
