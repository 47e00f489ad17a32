"""Training of an encoder together with its classification head."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftConfig, get_peft_model
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

from ragkit._progress import progress, quiet_transformers
from ragkit.embedders._sentence_transformer import SentenceTransformerEmbedder, document_prompt
from ragkit.errors import InvalidInputError, TrainingError
from ragkit.finetuning._adapters import add_adapter
from ragkit.finetuning._methods import name_layers
from ragkit.finetuning._pair_loss import PairTraining
from ragkit.finetuning._runs import last_checkpoint
from ragkit.finetuning._settings import ENCODER_BATCH, PAIR_BATCH, Settings
from ragkit.finetuning._training_loop import (
    SealedCheckpoints,
    StepProgress,
    Watched,
    random_state_kept,
    trainer_arguments,
)

Trained = tuple[NDArray[np.float32], NDArray[np.float32], float, int]


def train_encoder(
    embedder: SentenceTransformerEmbedder,
    texts: list[str],
    targets: NDArray[np.int64],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    settings: Settings,
    rate: float,
) -> Trained:
    """Train an encoder on n texts together with a fitted head, and save the encoder to ``folder / "model"``.

    With LoRA, only the head and adapters of the encoder's linear layers are trained, and only the adapter is saved. The
    embedder is not changed.

    Returns:
        The head's weight f32[c, d] and bias f32[c], the mean loss, and the number of training tokens.

    Raises:
        TrainingError: If the loss is not finite.
    """
    fresh = SentenceTransformerEmbedder(embedder.source)
    module, loss, tokens = _trained(
        fresh, lambda: _Classifier(fresh.model, weight, bias), texts, targets, settings, rate, batch_size=ENCODER_BATCH,
        warmup_steps=20, order="group_by_length",
    )  # fmt: skip
    head = module.head
    return head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy(), loss, tokens


def train_on_pairs(
    embedder: SentenceTransformerEmbedder, texts: list[str], targets: NDArray[np.int64], settings: Settings, rate: float
) -> tuple[SentenceTransformerEmbedder, float, int]:
    """Train an encoder on the pairs of n texts with `pair_loss`, and save it to ``folder / "model"``.

    Returns:
        The trained encoder, the mean loss, and the number of training tokens.

    Raises:
        TrainingError: If the loss is not finite.
    """
    fresh = SentenceTransformerEmbedder(embedder.source)
    _, loss, tokens = _trained(
        fresh, lambda: PairTraining(fresh.model), texts, targets, settings, rate, batch_size=PAIR_BATCH, warmup_steps=3,
        order="random",
    )  # fmt: skip
    return fresh, loss, tokens


def _trained(
    fresh: SentenceTransformerEmbedder,
    build: Callable[[], Any],
    texts: list[str],
    targets: NDArray[np.int64],
    settings: Settings,
    rate: float,
    *,
    batch_size: int,
    warmup_steps: int,
    order: str,
) -> tuple[Any, float, int]:
    """Train the module that ``build`` makes of the encoder; return it, the mean loss and the number of tokens."""
    tokenizer, limit = fresh.model.tokenizer, fresh.model.max_seq_length
    arguments = trainer_arguments(
        TrainingArguments, settings.folder, epochs=settings.epochs, learning_rate=rate, batch_size=batch_size,
        seed=settings.seed, given=settings.trainer_config,
        special={
            "warmup_steps": warmup_steps, "train_sampling_strategy": order, "remove_unused_columns": False
        },
    )  # fmt: skip
    prompt = document_prompt(fresh.model)
    ids = tokenizer([prompt + text for text in texts], truncation=True, max_length=limit)["input_ids"]
    rows = [{"input_ids": row, "labels": int(target)} for row, target in zip(ids, targets, strict=True)]
    with random_state_kept(), quiet_transformers(), progress("training the encoder", None, "steps") as stage:
        torch.manual_seed(settings.seed)
        # PEFT adds its layers to the encoder in place; its wrapper is only needed to save them.
        adapter = get_peft_model(fresh.model[0].auto_model, _lora_of(settings)) if settings.method == "lora" else None
        if adapter is not None:
            name_layers(adapter)
        module = build()
        trainer = _EncoderTrainer(
            model=module, args=arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[StepProgress(stage), SealedCheckpoints()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        loss = trainer.train(resume_from_checkpoint=last_checkpoint(settings.folder)).training_loss
        if not math.isfinite(loss):
            raise TrainingError(f"the loss became {loss}; lower `learning_rate` (now {rate:g})")
        if adapter is not None:
            adapter.save_pretrained(settings.folder / "model")
        else:
            fresh.model.save_pretrained(str(settings.folder / "model"))
    return module, float(loss), round(sum(map(len, ids)) * float(trainer.state.epoch))


def load_adapted(base: SentenceTransformerEmbedder, folder: Path) -> SentenceTransformerEmbedder:
    """Load another copy of an encoder with an adapter merged, which makes it as fast as the base."""
    adapted = SentenceTransformerEmbedder(base.source, dtype=base.dtype, name=f"{base.name}+{folder}")
    with quiet_transformers():
        add_adapter(adapted.model[0].auto_model, folder, name="default", source=base.name).merge_and_unload()
    return adapted


def _lora_of(settings: Settings) -> Any:
    given = copy.deepcopy(settings.peft_config)  # PEFT modifies it
    if given is None:
        return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="FEATURE_EXTRACTION")
    if not isinstance(given, PeftConfig) or given.is_prompt_learning:
        raise InvalidInputError(f"`peft_config` must be an adapter's PeftConfig, got {type(given).__name__}")
    return given


class _EncoderTrainer(Watched, Trainer):  # type: ignore[misc]
    pass


class _Classifier(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, encoder: Any, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = torch.nn.Linear(weight.shape[1], weight.shape[0])
        self.head.weight.data.copy_(torch.from_numpy(weight))
        self.head.bias.data.copy_(torch.from_numpy(bias))

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any) -> dict[str, Any]:
        vectors = self.encoder({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]
        logits = self.head(torch.nn.functional.normalize(vectors, dim=-1))
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}
