"""What happens beside the steps of a trainer of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from ragkit.models.devices import return_freed_memory


class StepProgress(TrainerCallback):  # type: ignore[misc]
    """Advances a progress bar with each step."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        """Take the function to call with the number of steps just done."""
        self.advance = advance

    def on_train_begin(self, _arguments: Any, state: Any, *_: Any, **__: Any) -> None:
        """Count the steps of an earlier process, from whose checkpoint the run resumes."""
        self.advance(state.global_step)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Count one step; the trainer gives arguments that do not matter here."""
        self.advance(1)


class FreedMemory(TrainerCallback):  # type: ignore[misc]
    """Returns freed memory to the system after each epoch: batches of many shapes fragment it."""

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Return it; the trainer gives arguments that do not matter here."""
        return_freed_memory()
