"""Folders of training runs: claimed before training, resumed after an interruption, and removed after a failure."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ragkit._files import file_sha256, make_folder, write_atomic
from ragkit._text import read_json
from ragkit.errors import InvalidInputError, TrainingError
from ragkit.finetuning._manifest import MANIFEST, Manifest

RUN = "run.json"
CHECKPOINTS = "checkpoints"
_SEAL = "checksums.json"  # in each checkpoint


def is_main_process() -> bool:
    """Return whether this process writes files: it is the first or only one that a launcher such as accelerate runs."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def claimed(folder: Path, run: str) -> Iterator[bool]:
    """Claim a folder for the run with a hash, and yield whether it is already finished.

    After an error, the files are kept if a checkpoint exists from which the run can resume, and removed otherwise.
    After a `TrainingError` they are always removed, because the same run would fail again.
    """
    if not is_main_process():
        yield (folder / MANIFEST).is_file()
        return
    finished = open_run(folder, run)
    try:
        yield finished
    except BaseException as error:
        if not finished and (isinstance(error, TrainingError) or last_checkpoint(folder) is None):
            _discard(folder)
        raise


def last_checkpoint(folder: Path) -> str | None:
    """Return the path of a run's latest complete checkpoint; None if there is none."""
    found = [
        path for path in (folder / CHECKPOINTS).glob("checkpoint-*") if re.fullmatch("[0-9]{1,15}", path.name[11:])
    ]
    newest = sorted(found, key=lambda path: -int(path.name[11:]))
    return next((str(path) for path in newest if _is_intact(path)), None)


def seal_checkpoint(path: Path) -> None:
    """Write the checksums of a checkpoint's files, which mark it as complete."""
    write_atomic(path / _SEAL, json.dumps({str(file.relative_to(path)): file_sha256(file) for file in _files(path)}))


def _is_intact(path: Path) -> bool:
    """Return whether a checkpoint and the best one, from which weights are read at the end, are those of this run."""
    try:
        state = read_json((path / "trainer_state.json").read_bytes())
        best = Path(state.get("best_model_checkpoint") or path) if isinstance(state, dict) else Path()
        is_inside = best.resolve().parent == path.resolve().parent
        return is_inside and all(_is_sealed(each) for each in {path, path.with_name(best.name)})
    except (OSError, ValueError, TypeError):
        return False


def _is_sealed(path: Path) -> bool:
    """Return whether a checkpoint has exactly the files that were sealed."""
    sealed = read_json((path / _SEAL).read_bytes())
    return sealed == {str(file.relative_to(path)): file_sha256(file) for file in _files(path)}


def _files(checkpoint: Path) -> list[Path]:
    """Return the files to seal: all except the random states that further processes write at the same time."""
    files = (path for path in checkpoint.rglob("*") if path.is_file() and path.name != _SEAL)
    return sorted(path for path in files if not re.fullmatch(r"rng_state_\d+\.pth", path.name))


def finish(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, which marks the run as finished, and delete the checkpoints."""
    manifest.write(folder)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def open_run(folder: Path, run: str) -> bool:
    """Create the folder of a run, or open that of the same run.

    Returns:
        Whether the same run is already finished.

    Raises:
        InvalidInputError: If the folder contains anything else or is not writable.
    """
    if (folder / MANIFEST).is_file():
        if Manifest.read(folder).run == run:
            return True
        raise InvalidInputError(f"{folder} holds another fine-tuned model; give another `output_dir` or delete it")
    if (folder / RUN).is_file():
        if read_json((folder / RUN).read_bytes()) != {"run": run}:
            raise InvalidInputError(
                f"{folder} holds an unfinished run with other data or settings; give another `output_dir` or delete it"
            )
    elif folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"{folder} is a file; give another `output_dir`")
    elif folder.exists() and any(not path.name.startswith(f".{RUN}") for path in folder.iterdir()):
        raise InvalidInputError(f"{folder} is not empty and holds no run of ragkit; give another `output_dir`")
    try:
        make_folder(folder)
        write_atomic(folder / RUN, json.dumps({"run": run}))
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be written ({error}); give another `output_dir`") from error
    return False


def _discard(folder: Path) -> None:
    (folder / RUN).unlink(missing_ok=True)
    for name in (CHECKPOINTS, "model"):
        shutil.rmtree(folder / name, ignore_errors=True)
    with suppress(OSError):  # the folder contains other files
        folder.rmdir()
