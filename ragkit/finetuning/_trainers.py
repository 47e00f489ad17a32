"""TRL trainers for tokenized rows, without tokenization, truncation or telemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from datasets import Dataset
from transformers import EarlyStoppingCallback, PrinterCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from typing_extensions import override

from ragkit._answering import Answering
from ragkit.finetuning._answer_loss import add_answer_loss, can_share, shared_tokens
from ragkit.finetuning._batching import Collator, LengthSampler
from ragkit.finetuning._cpu_layers import multiply_in_bfloat16, save_activations
from ragkit.finetuning._encoding import IGNORED, TokenRow
from ragkit.finetuning._methods import name_layers
from ragkit.finetuning._settings import Settings
from ragkit.finetuning._soft_prompt import in_training
from ragkit.finetuning._training_loop import Watched, trainer_arguments
from ragkit.metrics import AnyMetric, load_metric, overall_score
from ragkit.models._devices import has_bfloat16, multiplies_bfloat16, trains_on_gpu
from ragkit.models._local import LocalModel
from ragkit.records import Example
from ragkit.templates import Template

METRIC = "eval_answers"  # the task's metric on held-out rows
_RANK = "eval_rank"  # the selection criterion: the metric, with ties resolved by the loss
_LEAST_GAIN = 1e-6  # more than the loss contributes, and less than one more correct answer in 500,000 rows
_BATCH, _PAIRS = 16, 4  # rows of a step; preferences whose gradients are computed at once
_WHOLE = 2**31  # longer than any row
_MOST_LOGITS = 2**28  # 1 GiB in float32


class CompletionTrainer(Watched, SFTTrainer):  # type: ignore[misc]
    """A trainer that minimises the weighted mean cross-entropy of the labelled tokens.

    Logits are computed only for these tokens, and the common prefix of a batch is computed once. TRL's own loss is used
    if the configuration selects another loss, if the model has a router loss, and if there are so many labels that
    TRL's chunked computation is needed.

    Attributes:
        answer_score: Function that scores the module's answers after each epoch; None to use only the loss.
    """

    answer_score: Callable[[Any], float] | None = None

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
    def evaluation_loop(self, *arguments: Any, **named: Any) -> Any:
        output = super().evaluation_loop(*arguments, **named)
        if self.answer_score is not None:
            score, loss = self.answer_score(self.model), output.metrics["eval_loss"]
            output.metrics.update({METRIC: score, _RANK: score - _LEAST_GAIN * loss / (1 + loss)})
        return output

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
    """Return the ``SFTConfig`` or ``DPOConfig`` of a run with a peak learning rate."""
    special: dict[str, Any] = {
        "warmup_steps": 0.1,  # a fraction of the steps
        "bf16": trains_on_gpu() and has_bfloat16(),
        "activation_checkpointing": settings.gradient_checkpointing,
        "max_length": None,
    }
    if held_out:
        special |= {
            "eval_strategy": "epoch",
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss" if settings.metric is None else _RANK,
            "greater_is_better": settings.metric is not None,
        }
    preference = settings.objective == "preference"
    if not preference:
        special["dataset_kwargs"] = {"skip_prepare_dataset": True}
    elif not {"per_device_train_batch_size", "gradient_accumulation_steps"} & settings.trainer_config.keys():
        # A pair is two whole sequences without a shared prefix: activations of 16 pairs take several gigabytes.
        special |= {"per_device_train_batch_size": _PAIRS, "gradient_accumulation_steps": _BATCH // _PAIRS}
    return trainer_arguments(
        DPOConfig if preference else SFTConfig, settings.folder, epochs=settings.epochs, learning_rate=rate,
        batch_size=_BATCH, seed=settings.seed, special=special, given=settings.trainer_config,
    )  # fmt: skip


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
    """Return a transformers trainer for rows of token ids, which changes the module and its tokenizer in place.

    ``peft_config`` is None if the module's own weights are trained, ``reference`` if disabling the adapter gives the
    reference model of preferences, and ``answer_score`` to select the best epoch only by the loss.
    """
    shared: dict[str, Any] = {
        "model": module,
        "args": arguments,
        "train_dataset": Dataset.from_list(list(rows)),
        "eval_dataset": Dataset.from_list(list(held_out)) if held_out else None,
        "processing_class": tokenizer,
        "peft_config": peft_config,
    }
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    trainer = (
        PreferenceTrainer(ref_model=reference, **shared)
        if settings.objective == "preference"
        else CompletionTrainer(data_collator=Collator(pad), **shared)
    )
    if peft_config is not None:
        name_layers(trainer.model)
    if not arguments.bf16 and arguments.use_cpu and multiplies_bfloat16() and "bf16" not in settings.trainer_config:
        multiply_in_bfloat16(trainer.model, shrink=peft_config is not None)
    if arguments.use_cpu and not arguments.bf16:
        save_activations(trainer.model)
    if answer_score is not None:
        trainer.answer_score = answer_score
    trainer.remove_callback(PrinterCallback)
    if settings.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(settings.patience, 0.0 if settings.metric is None else _LEAST_GAIN))
    return trainer


def answer_scorer(
    base: LocalModel, held_out: Sequence[tuple[Example, Template]], metric: AnyMetric
) -> Callable[[Any], float]:
    """Return a function that maps a module in training to the score of its answers to held-out rows.

    The answers are generated with each row's template and parsed as in inference.
    """
    judge, rows = load_metric(metric), [row for row, _ in held_out]
    places: dict[Template, list[int]] = {}
    for place, (_, template) in enumerate(held_out):
        places.setdefault(template, []).append(place)

    def score(module: Any) -> float:
        answers = [""] * len(rows)
        with _asked(module, base) as model:
            for template, some in places.items():
                most = 8 + max(model.count_tokens(rows[place].output) for place in some)
                answering = Answering(model, template, max_tokens=most)
                prompts = [answering.template.prompt([], rows[place].input) for place in some]
                for place, (read, _) in zip(some, answering.answers(prompts), strict=True):
                    answers[place] = read.text
        return overall_score(judge, answers, rows)

    return score


@contextmanager
def _asked(module: Any, base: LocalModel) -> Iterator[LocalModel]:
    """Use a module in training as a language model within a block, and restore its training mode afterwards."""
    training = module.training
    try:
        if getattr(module, "peft_type", None) == "PROMPT_TUNING":
            with in_training(module, base) as model:
                yield model
        else:
            yield LocalModel(module, base.tokenizer, name=base.name, fingerprint="training", source=base.source)
    finally:
        module.train(training)
