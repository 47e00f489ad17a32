"""Callbacks for transformers trainers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from ragkit.models.devices import return_freed_memory


class StepProgress(TrainerCallback):  # type: ignore[misc]
    """A callback that advances a progress bar after each step."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        """Create a callback from a function that receives the number of completed steps."""
        self.advance = advance

    def on_train_begin(self, _arguments: Any, state: Any, *_: Any, **__: Any) -> None:
        """Count the steps before the checkpoint from which the run resumes."""
        self.advance(state.global_step)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Count one step."""
        self.advance(1)


class FreedMemory(TrainerCallback):  # type: ignore[misc]
    """A callback that returns freed memory to the system after each epoch, as batches of many shapes fragment it."""

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Return freed memory."""
        return_freed_memory()
