"""Settings of training runs, which are validated before anything is loaded or written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragkit.errors import InvalidInputError, UnknownSpecError, UnsupportedError
from ragkit.templates import Template

ENCODER_BATCH, PAIR_BATCH = 32, 64  # rows of a training step of an encoder, and of `setfit`
METHODS = ("lora", "rslora", "qlora", "full", "last-layers", "prompt-tuning", "classifier-head", "setfit", "api")
OBJECTIVES = ("completion", "text", "preference")

_API_OPTIONS = ("suffix", "batch_size", "learning_rate_multiplier")
# Fields of the trainers' configurations that are set by an argument of `finetune` or by ragkit.
_OURS = {
    "output_dir": "give `output_dir`",
    "num_train_epochs": "give `epochs`",
    "learning_rate": "give `learning_rate`",
    "seed": "give `seed`",
    "data_seed": "give `seed`",
    "max_length": "give `max_length`",
    "gradient_checkpointing": "give `gradient_checkpointing`",
    "activation_checkpointing": "give `gradient_checkpointing`",
    "eval_strategy": "give `eval`, on which the loss is measured after each epoch",
    "load_best_model_at_end": "give `eval`, of which the best epoch is kept",
    "metric_for_best_model": "the loss on `eval` decides",
    "push_to_hub": "call `push_to_hub` of what `finetune` returns",
    "hub_model_id": "call `push_to_hub` of what `finetune` returns",
    "dataset_kwargs": "rows are tokenized before the trainer sees them",
    "packing": "rows are tokenized before the trainer sees them",
    "logging_nan_inf_filter": "a loss that is not a number always ends the run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The arguments of `ragkit.finetune`, except the model and data; see there."""

    method: str = "lora"
    objective: str = "completion"
    folder: Path
    template: Template | None = None
    epochs: float = 3
    learning_rate: float | None = None
    layers: int = 2
    max_length: int | None = None
    metric: Any = None
    patience: int | None = None
    gradient_checkpointing: bool = False
    seed: int = 0
    peft_config: Any = None
    trainer_config: Mapping[str, object] = field(default_factory=dict)
    watched: bool = False  # whether `eval` is not None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UnknownSpecError("fine-tuning method", self.method, METHODS)
        if self.objective not in OBJECTIVES:
            raise UnknownSpecError("objective", self.objective, OBJECTIVES)
        check_schedule(self.epochs, self.learning_rate, self.seed)
        check_whole(1, layers=self.layers)
        check_whole(1, patience=self.patience, optional=True)
        check_whole(16, max_length=self.max_length, optional=True)
        self._check_combination()

    def check_for_encoder(self) -> None:
        """Check that no setting applies only to language models."""
        if self.method not in {"classifier-head", "setfit", "lora", "full"}:
            raise UnsupportedError(
                f"an encoder takes 'classifier-head', 'setfit', 'full' and 'lora', got {self.method!r}"
            )
        unused = ("template", "max_length", "metric", "patience", "gradient_checkpointing", "watched")
        given = ["eval" if name == "watched" else name for name in unused if getattr(self, name)]
        if self.objective != "completion":
            given.append(f"objective={self.objective!r}")
        if given:
            raise UnsupportedError(f"an encoder takes no {' and no '.join(given)}; it learns labels from bare inputs")

    def check_for_api(self) -> None:
        """Check that a vendor supports all settings."""
        unused = ("learning_rate", "max_length", "metric", "patience", "gradient_checkpointing")
        given = [f"`{name}`" for name in unused if getattr(self, name)]
        given += [f"`trainer_config` with {name!r}" for name in self.trainer_config if name not in _API_OPTIONS]
        if self.objective != "completion":
            given.append(f"objective={self.objective!r}")
        if given:
            raise UnsupportedError(
                f"'api' takes no {' and no '.join(given)}; `trainer_config` takes {', '.join(_API_OPTIONS)}"
            )
        if self.epochs != int(self.epochs):
            raise InvalidInputError(f"`epochs` must be a whole number for 'api', got {self.epochs}")

    def _check_combination(self) -> None:
        if self.peft_config is not None and self.method not in {"lora", "rslora", "qlora", "prompt-tuning"}:
            raise InvalidInputError(
                f"`peft_config` requires 'lora', 'rslora', 'qlora' or 'prompt-tuning', got method={self.method!r}"
            )
        if self.peft_config is not None and not hasattr(self.peft_config, "to_dict"):
            given = type(self.peft_config).__name__
            raise InvalidInputError(f"`peft_config` must be a PeftConfig such as peft.LoraConfig, got {given}")
        if self.method == "prompt-tuning" and self.objective != "completion":
            raise UnsupportedError(
                f"a soft prompt is trained on completions, got objective={self.objective!r}; use method='lora'"
            )
        if self.patience is not None and not self.watched:
            raise InvalidInputError("`patience` requires `eval`, the rows on which improvement is measured")
        if self.metric is not None and (not self.watched or self.objective != "completion"):
            raise InvalidInputError("`metric` requires `eval` and objective='completion'")
        for name in self.trainer_config:
            if name in _OURS:
                raise InvalidInputError(f"`trainer_config` must not hold {name!r}; {_OURS[name]}")

    def peft_facts(self) -> object:
        """Return the PEFT configuration with sorted sets, which are the same in every process."""
        if self.peft_config is None:
            return None
        facts = self.peft_config.to_dict()
        return {name: sorted(value) if isinstance(value, set) else value for name, value in facts.items()}


def check_schedule(epochs: float, learning_rate: float | None, seed: object) -> None:
    """Check the settings that every trainer takes."""
    if not 0 < epochs < math.inf:
        raise InvalidInputError(f"`epochs` must be above 0, got {epochs}")
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise InvalidInputError(f"`seed` must be a whole number from 0 to {2**32 - 1}, got {seed!r}")
    if learning_rate is not None and not 0 < learning_rate < 1:
        raise InvalidInputError(f"`learning_rate` must be between 0 and 1, got {learning_rate}")


def check_whole(least: int, *, optional: bool = False, **values: object) -> None:
    """Check that arguments are whole numbers of at least ``least``, or None if they are optional."""
    for name, value in values.items():
        if value is None and optional:
            continue
        if type(value) is not int or value < least:
            raise InvalidInputError(f"`{name}` must be a whole number of at least {least}, got {value!r}")
