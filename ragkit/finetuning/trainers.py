"""TRL's trainers, given token ids: they pad and train, and neither tokenize, cut nor report to anyone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import EarlyStoppingCallback, PrinterCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from ragkit.finetuning.encoding import TokenRow
from ragkit.finetuning.runs import CHECKPOINTS
from ragkit.finetuning.settings import Settings, trainer_arguments
from ragkit.finetuning.watched import Watched
from ragkit.models.devices import has_bfloat16, trains_on_gpu


class CompletionTrainer(Watched, SFTTrainer):  # type: ignore[misc]
    """Cross-entropy on the tokens that carry a label."""


class PreferenceTrainer(Watched, DPOTrainer):  # type: ignore[misc]
    """Direct preference optimization (Rafailov et al., NeurIPS 2023) on rows that are token ids already."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def arguments_of(settings: Settings, rate: float, *, held_out: bool) -> Any:
    """The trainer's configuration: ours, with the user's fields in it.

    Args:
        settings: What is trained.
        rate: The highest learning rate.
        held_out: Whether there are rows to measure the loss on.

    Returns:
        An ``SFTConfig`` or a ``DPOConfig``.

    Raises:
        UnsupportedError: If several GPUs are visible and no launcher was used.
    """
    gpu = trains_on_gpu()
    ours: dict[str, Any] = {
        "output_dir": str(settings.folder / CHECKPOINTS),
        "per_device_train_batch_size": 16,
        "num_train_epochs": settings.epochs,
        "learning_rate": rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 10,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "use_cpu": not gpu,
        "bf16": has_bfloat16(),
        "activation_checkpointing": settings.gradient_checkpointing,
        "dataloader_pin_memory": gpu,
        "max_length": None,
    }
    if held_out:
        ours |= {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    if settings.objective == "preference":
        return trainer_arguments(DPOConfig, ours, settings.trainer_config)
    return trainer_arguments(
        SFTConfig, ours | {"dataset_kwargs": {"skip_prepare_dataset": True}}, settings.trainer_config
    )


def make_trainer(
    module: Any,
    tokenizer: Any,
    arguments: Any,
    *,
    rows: Sequence[TokenRow],
    held_out: Sequence[TokenRow] | None,
    settings: Settings,
    peft_config: Any,
    reference: Any,
) -> Any:
    """Put a trainer together.

    Args:
        module: The model to train; it is changed.
        tokenizer: Its tokenizer; it may be changed too.
        arguments: What `arguments_of` made.
        rows: Rows of token ids.
        held_out: Rows to measure the loss on after each epoch.
        settings: What is trained.
        peft_config: The adapter to train, None for the model's own weights.
        reference: The model that preferences are measured against, None where an adapter is taken off for that.

    Returns:
        A trainer of transformers.
    """
    shared: dict[str, Any] = {
        "model": module,
        "args": arguments,
        "train_dataset": Dataset.from_list(list(rows)),
        "eval_dataset": Dataset.from_list(list(held_out)) if held_out else None,
        "processing_class": tokenizer,
        "peft_config": peft_config,
    }
    trainer = (
        PreferenceTrainer(ref_model=reference, **shared)
        if settings.objective == "preference"
        else CompletionTrainer(**shared)
    )
    trainer.remove_callback(PrinterCallback)
    if settings.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(settings.patience))
    return trainer
