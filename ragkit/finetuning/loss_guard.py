"""What every trainer does here besides training."""

from __future__ import annotations

from typing import Any

import torch

from ragkit.errors import TrainingError


class Watched:
    """Before a trainer of transformers: ends the run at the first loss that is not a number, and reports to nobody."""

    def _send_telemetry(self) -> None:
        return

    def training_step(self, *arguments: Any, **named: Any) -> Any:
        """Do the trainer's step, whatever its arguments, and look at the loss.

        Returns:
            The loss.

        Raises:
            TrainingError: If it is not a number.
        """
        loss = super().training_step(*arguments, **named)  # type: ignore[misc]
        if not torch.isfinite(loss):
            step = self.state.global_step + 1  # type: ignore[attr-defined]
            raise TrainingError(
                f"the loss became {loss.item()} in step {step}; lower `learning_rate` "
                f"(now {self.args.learning_rate:g}), and check that the base itself gives numbers"  # type: ignore[attr-defined]
            )
        return loss
