"""The cost of fine-tuning at a vendor before it begins, and the checkpoints that the vendor stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragkit.models._api import LangChainModel

_AROUND_TURN = 4  # tokens that a vendor adds to a turn


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEstimate:
    """The expected cost of fine-tuning at a vendor.

    Attributes:
        rows: Number of training rows.
        epochs: Number of passes over the rows.
        tokens: Training tokens in all epochs, estimated from the length of the texts.
        cost: Cost in US dollars; None if the price of training is unknown.
    """

    rows: int
    epochs: int
    tokens: int
    cost: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorCheckpoint:
    """A model that the vendor stored during training.

    Attributes:
        step: The training step after which it was stored.
        model: Its spec, which `ragkit.load_model` and `compare` take.
        loss: Loss on the training rows; None if the vendor does not report it.
        eval_loss: Loss on the held-out rows; None if there are none, or the vendor does not report it.
    """

    step: int
    model: str
    loss: float | None
    eval_loss: float | None


def estimated(base: LangChainModel, lines: bytes, epochs: int) -> TrainingEstimate:
    """Estimate the cost of training on the lines of a training file."""
    rows = [json.loads(line) for line in lines.splitlines()]
    turns = [str(turn["content"]) for row in rows for turn in row["messages"]]
    tokens = epochs * sum(base.count_tokens(text) + _AROUND_TURN for text in turns)
    return TrainingEstimate(
        rows=len(rows), epochs=epochs, tokens=tokens, cost=base.prices.training_cost(base.name, tokens)
    )


def checkpoints_of(provider: str, stored: Sequence[Any]) -> list[VendorCheckpoint]:
    """Convert the checkpoints of a job, in the order of their steps."""
    found = []
    for each in stored:
        metrics: Mapping[str, Any] = each.metrics.model_dump() if each.metrics else {}
        loss, eval_loss = metrics.get("train_loss"), metrics.get("full_valid_loss")
        model = f"{provider}:{each.fine_tuned_model_checkpoint}"
        eval_loss = metrics.get("valid_loss") if eval_loss is None else eval_loss
        found.append(VendorCheckpoint(step=each.step_number, model=model, loss=loss, eval_loss=eval_loss))
    return sorted(found, key=lambda each: each.step)
