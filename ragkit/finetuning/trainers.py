"""TRL trainers for tokenized rows, without tokenization, truncation or telemetry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset
from transformers import EarlyStoppingCallback, PrinterCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from typing_extensions import override

from ragkit.finetuning.answer_loss import add_answer_loss, can_share, shared_tokens
from ragkit.finetuning.batching import Collator, LengthSampler
from ragkit.finetuning.cpu_layers import multiply_in_bfloat16, save_activations
from ragkit.finetuning.encoding import IGNORED, TokenRow
from ragkit.finetuning.epoch_metric import LEAST_GAIN, RANK, EpochMetric
from ragkit.finetuning.loss_guard import Watched
from ragkit.finetuning.runs import CHECKPOINTS
from ragkit.finetuning.settings import Settings, trainer_arguments
from ragkit.models.devices import has_bfloat16, multiplies_bfloat16, trains_on_gpu

_WHOLE = 2**31  # longer than any row
_MOST_LOGITS = 2**28  # 1 GiB in float32


class CompletionTrainer(EpochMetric, Watched, SFTTrainer):  # type: ignore[misc]
    """A trainer that minimises the weighted mean cross-entropy of the labelled tokens.

    Logits are computed only for these tokens, and the common prefix of a batch is computed once. TRL's own loss is used
    if the configuration selects another loss, if the model has a router loss, and if there are so many labels that
    TRL's chunked computation is needed.
    """

    def __init__(self, **arguments: Any) -> None:
        """Create a trainer from the arguments of TRL's trainer."""
        super().__init__(**arguments)
        add_answer_loss(self.model)
        self.shares = can_share(self.model) and not self.args.gradient_checkpointing
        usual = self.args.loss_type == "nll" and not self.args.label_smoothing_factor
        self.is_usual = usual and not getattr(self, "aux_loss_enabled", False)

    @override
    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        weights = inputs.pop("weights", None)
        learned = inputs["labels"][:, 1:] != IGNORED
        logits = int(learned.sum()) * self.model.config.get_text_config().vocab_size
        if not self.is_usual or (logits > _MOST_LOGITS and weights is None):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        ids, mask, labels = (inputs[name] for name in ("input_ids", "attention_mask", "labels"))
        own = ids.shape[1] - shared_tokens(ids, mask, labels) if self.shares else _WHOLE
        losses = model(input_ids=ids, attention_mask=mask, labels=labels, own=own)
        if weights is not None:
            losses = losses * weights[:, 1:][learned]
        count = learned.sum() if num_items_in_batch is None else num_items_in_batch
        loss = losses.sum() / count
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # the gradients of all processes are averaged
        return (loss, {}) if return_outputs else loss

    @override
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        lengths = list(map(len, rows["input_ids"]))
        return LengthSampler(lengths, batch_size=self.args.train_batch_size, seed=self.args.seed)


class PreferenceTrainer(Watched, DPOTrainer):  # type: ignore[misc]
    """A trainer for direct preference optimization (Rafailov et al., NeurIPS 2023) on tokenized rows."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def arguments_of(settings: Settings, rate: float, *, held_out: bool) -> Any:
    """Return the trainer's configuration from the settings of ragkit and the user's fields.

    Args:
        settings: Settings of the training run.
        rate: Peak learning rate.
        held_out: Whether there are held-out rows.

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
        "warmup_steps": 0.1,  # a fraction of the steps
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
        decides = "eval_loss" if settings.metric is None else f"eval_{RANK}"
        ours |= {
            "eval_strategy": "epoch",
            "load_best_model_at_end": True,
            "metric_for_best_model": decides,
            "greater_is_better": settings.metric is not None,
        }
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
    answer_score: Callable[[Any], float] | None = None,
) -> Any:
    """Create a trainer.

    Args:
        module: The model to train, which is changed in place.
        tokenizer: Its tokenizer, which may also be changed.
        arguments: The result of `arguments_of`.
        rows: Rows of token ids.
        held_out: Held-out rows for the loss after each epoch.
        settings: Settings of the training run.
        peft_config: Configuration of the adapter to train; None for the model's own weights.
        reference: Reference model for preferences; None if disabling the adapter gives the reference model.
        answer_score: Function that scores the module's answers after each epoch; None to use only the loss.

    Returns:
        A transformers trainer.
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
        else CompletionTrainer(data_collator=Collator(_pad_of(tokenizer)), **shared)
    )
    if not arguments.bf16 and arguments.use_cpu and multiplies_bfloat16() and "bf16" not in settings.trainer_config:
        multiply_in_bfloat16(trainer.model, shrink=peft_config is not None)
    if arguments.use_cpu and not arguments.bf16:
        save_activations(trainer.model)
    if answer_score is not None:
        trainer.answer_score = answer_score
    trainer.remove_callback(PrinterCallback)
    if settings.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(settings.patience, 0.0 if settings.metric is None else LEAST_GAIN))
    return trainer


def _pad_of(tokenizer: Any) -> int:
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
