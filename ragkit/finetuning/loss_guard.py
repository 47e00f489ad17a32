"""Checks of the loss during training."""

from __future__ import annotations

from typing import Any

import torch

from ragkit.errors import TrainingError


class Watched:
    """A mixin for transformers trainers that stops at the first non-finite loss and disables telemetry."""

    def _send_telemetry(self) -> None:
        return

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
