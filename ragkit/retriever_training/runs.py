"""Folders of training runs, which are hidden working folders until the last file is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ragkit.errors import IntegrityError, InvalidInputError, TrainingError
from ragkit.files import make_folder, sync, write_atomic
from ragkit.finetuning.manifest import run_hash
from ragkit.finetuning.runs import RUN, last_checkpoint
from ragkit.finetuning.settings import check_seed

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
        check_seed(self.seed)
        if not 0 < self.epochs < float("inf"):
            raise InvalidInputError(f"`epochs` must be above 0, got {self.epochs}")
        if not 0 < self.learning_rate < 1:
            raise InvalidInputError(f"`learning_rate` must be between 0 and 1, got {self.learning_rate}")
        for name, least in (("batch_size", 1), ("max_length", 8)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise InvalidInputError(f"`{name}` must be a whole number of at least {least}, got {value!r}")

    def facts(self) -> dict[str, object]:
        """Return the settings that determine the result."""
        names = ("learning_rate", "batch_size", "max_length", "seed")
        return {"epochs": float(self.epochs)} | {name: getattr(self, name) for name in names}


class TrainingRecord(BaseModel):
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

    model_config = ConfigDict(extra="forbid")

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

    @classmethod
    def read(cls, folder: Path) -> TrainingRecord:
        """Read the record of a finished run.

        Returns:
            The record.

        Raises:
            IntegrityError: If the record is damaged or has another format.
        """
        try:
            return cls.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise IntegrityError(
                f"{folder / RECORD} is damaged or of another version of ragkit; train again"
            ) from error

    def write(self, folder: Path) -> None:
        """Write the record atomically."""
        write_atomic(folder / RECORD, self.model_dump_json(indent=1))


@contextmanager
def claimed(folder: Path, run: str) -> Iterator[Path | None]:
    """Claim a folder for a run, and create it when the block is complete.

    If the block raises an exception, the folder is not changed. The unfinished run remains in a hidden folder next to
    it if a checkpoint exists from which it can resume, and is removed otherwise.

    Args:
        folder: Final folder of the model.
        run: Hash of everything that determines the result.

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


def hash_of(base: str, objective: str, rows: Sequence[object], settings: TrainingSettings, extra: object = None) -> str:
    """Hash everything that determines the result of a run.

    Args:
        base: Fingerprint of the base model.
        objective: Name of the loss.
        rows: Records of texts and numbers.
        settings: Settings of the run.
        extra: Other settings that affect the result.

    Returns:
        A short hash.
    """
    return run_hash(base=base, objective=objective, rows=list(map(repr, rows)), extra=extra, **settings.facts())


def _run_in(work: Path) -> str | None:
    try:
        found = json.loads((work / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(found.get("run")) if isinstance(found, dict) else None
