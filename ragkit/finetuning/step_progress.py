"""The trainers' steps, shown as progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback


class StepProgress(TrainerCallback):  # type: ignore[misc]
    """Tells a progress bar of each step that a trainer of transformers has done."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        """Take the function to call with the number of steps just done."""
        self.advance = advance

    def on_train_begin(self, _arguments: Any, state: Any, *_: Any, **__: Any) -> None:
        """Count the steps of an earlier process, from whose checkpoint the run goes on."""
        self.advance(state.global_step)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Count one step; the trainer gives arguments that do not matter here."""
        self.advance(1)
