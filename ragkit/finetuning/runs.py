"""The folder of a run: claimed before training, taken up again after a kill, given back after a failure."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ragkit.errors import InvalidInputError, TrainingError
from ragkit.files import write_atomic
from ragkit.finetuning.manifest import MANIFEST, Manifest
from ragkit.text import read_json

RUN = "run.json"
CHECKPOINTS = "checkpoints"


def is_main_process() -> bool:
    """Whether this process writes, where a launcher such as accelerate runs several.

    Returns:
        True in the first process, and where there is only one.
    """
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def claimed(folder: Path, run: str) -> Iterator[bool]:
    """Hold a folder for a run.

    What an error leaves is kept where a checkpoint lets the run go on, and removed otherwise. After a `TrainingError`
    nothing is kept, since the same run would come to the same end.

    Args:
        folder: The run's folder.
        run: Hash of everything that decides the result.

    Yields:
        True where the same run is finished already.
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
    """The newest checkpoint that was written to its end.

    Args:
        folder: The run's folder.

    Returns:
        Its path, None where there is none.
    """
    found = [path for path in (folder / CHECKPOINTS).glob("checkpoint-*") if path.name.split("-")[1].isdigit()]
    for path in sorted(found, key=lambda path: -int(path.name.split("-")[1])):
        try:  # the trainer writes its state last
            read_json((path / "trainer_state.json").read_bytes())
        except (OSError, ValueError):
            continue
        return str(path)
    return None


def finish(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, which makes the run a finished one, and drop what only training needed."""
    manifest.write(folder)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def open_run(folder: Path, run: str) -> bool:
    """Take a folder for a run, or find it taken for the same one.

    Args:
        folder: The run's folder.
        run: Hash of everything that decides the result.

    Returns:
        True where the same run is finished already.

    Raises:
        InvalidInputError: If the folder belongs to something else or cannot be written.
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
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / RUN, json.dumps({"run": run}))
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be written ({error}); give another `output_dir`") from error
    return False


def _discard(folder: Path) -> None:
    (folder / RUN).unlink(missing_ok=True)
    for name in (CHECKPOINTS, "model"):
        shutil.rmtree(folder / name, ignore_errors=True)
    with suppress(OSError):  # the folder held something else before
        folder.rmdir()
