"""Parts that all trainers share: their common arguments, callbacks, and a guard of the loss and of the random state."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from ragkit._stages import Stage
from ragkit.errors import IntegrityError, InvalidInputError, RagkitError, TrainingError, UnknownSpecError
from ragkit.finetuning._adapter_files import check_checkpoint
from ragkit.finetuning._runs import CHECKPOINTS, seal_checkpoint
from ragkit.models._devices import return_freed_memory, trains_on_gpu


def trainer_arguments(
    kind: Any,
    folder: Path,
    *,
    epochs: float,
    learning_rate: float,
    batch_size: int,
    seed: int,
    special: Mapping[str, object],
    given: Mapping[str, object],
) -> Any:
    """Return a trainer's configuration, without logging and with one checkpoint after each epoch.

    The fields for this kind of training, ``special``, take precedence over the common ones, and those of the user,
    ``given``, over both.

    Raises:
        UnknownSpecError: If a field does not exist.
        InvalidInputError: If the configuration is rejected.
    """
    gpu, known = trains_on_gpu(), kind.__dataclass_fields__
    for name in given:
        if name not in known:
            raise UnknownSpecError(f"field of {kind.__name__} in `trainer_config`", name, known)
    common = {
        "output_dir": str(folder / CHECKPOINTS),
        "per_device_train_batch_size": batch_size,
        "num_train_epochs": epochs,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "linear",
        "seed": seed,
        "data_seed": seed,
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "use_cpu": not gpu,
        "dataloader_pin_memory": gpu,
    }
    try:
        return kind(**{**common, **special, **given})
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"`trainer_config` is refused by {kind.__name__}: {error}") from error


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the caller's random state after a block: trainers seed the generators of Python, NumPy and torch."""
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002


class Watched:
    """A mixin for transformers trainers that stops at the first non-finite loss, without telemetry.

    A checkpoint whose files cannot be read raises an `IntegrityError`. Its pickle files contain the state of the
    optimizer and of random generators; transformers reads them without running code.
    """

    def _send_telemetry(self) -> None:
        return

    def _load_from_checkpoint(self, checkpoint: str, *arguments: Any) -> None:
        with _readable(checkpoint):
            check_checkpoint(Path(checkpoint))
            super()._load_from_checkpoint(checkpoint, *arguments)  # type: ignore[misc]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _readable(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _readable(checkpoint):
            super()._load_rng_state(checkpoint)  # type: ignore[misc]

    def training_step(self, *arguments: Any, **named: Any) -> Any:
        """Run a training step of the trainer and check the loss.

        Returns:
            The loss.

        Raises:
            TrainingError: If the loss is not finite.
        """
        loss = super().training_step(*arguments, **named)  # type: ignore[misc]
        if not torch.isfinite(loss):
            step = self.state.global_step + 1  # type: ignore[attr-defined]
            raise TrainingError(
                f"the loss became {loss.item()} in step {step}; lower `learning_rate` "
                f"(now {self.args.learning_rate:g}), and check that the base itself gives numbers"  # type: ignore[attr-defined]
            )
        return loss


@contextmanager
def _readable(checkpoint: str | None) -> Iterator[None]:
    try:
        yield
    except RagkitError:
        raise
    except Exception as error:
        problem = (str(error).splitlines() or [type(error).__name__])[0]
        raise IntegrityError(f"{checkpoint} cannot be read ({problem}); delete the folder and train again") from error


class SealedCheckpoints(TrainerCallback):  # type: ignore[misc]
    """A callback that marks each checkpoint as complete."""

    def on_save(self, arguments: Any, state: Any, *_: Any, **__: Any) -> None:
        """Write the checksums of the checkpoint's files."""
        if state.is_world_process_zero:
            seal_checkpoint(Path(arguments.output_dir) / f"checkpoint-{state.global_step}")


class StepProgress(TrainerCallback):  # type: ignore[misc]
    """A callback that reports the steps of a training run."""

    def __init__(self, stage: Stage) -> None:
        """Create a callback from the stage whose steps it counts."""
        self.stage = stage

    def on_train_begin(self, _arguments: Any, state: Any, *_: Any, **__: Any) -> None:
        """Set the number of steps, and skip those before the checkpoint from which the run resumes."""
        self.stage.total = state.max_steps
        self.stage.skip(state.global_step)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Count one step."""
        self.stage(1)


class FreedMemory(TrainerCallback):  # type: ignore[misc]
    """A callback that returns freed memory to the system after each epoch, as batches of many shapes fragment it."""

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Return freed memory."""
        return_freed_memory()
