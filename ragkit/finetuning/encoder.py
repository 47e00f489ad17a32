"""Training of an encoder with its classification head, by the trainer of transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PrinterCallback, Trainer, TrainingArguments

from ragkit.embedders.sentence_transformer import SentenceTransformerEmbedder
from ragkit.errors import TrainingError
from ragkit.finetuning.step_progress import StepProgress
from ragkit.progress import progress, quiet_transformers

Head = tuple[NDArray[np.float32], NDArray[np.float32], float]


def train_encoder(
    embedder: SentenceTransformerEmbedder,
    texts: list[str],
    targets: NDArray[np.int64],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    *,
    folder: Path,
    epochs: float,
    rate: float,
    seed: int,
    trainer_config: Mapping[str, object],
) -> Head:
    """Train encoder and head together from a fitted head, and write the encoder to ``folder / "model"``.

    Returns:
        The head's weight f32[c, d] and bias f32[c], and the mean loss.

    Raises:
        TrainingError: If the loss is not a number.
    """
    fresh = SentenceTransformerEmbedder(embedder.source)  # the embedder given stays what it is
    module = _Classifier(fresh.model, weight, bias)
    arguments: dict[str, Any] = {
        "output_dir": str(folder / "checkpoints"),
        "per_device_train_batch_size": 32,
        "num_train_epochs": epochs,
        "learning_rate": rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 20,
        "seed": seed,
        "data_seed": seed,
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "no",
        "train_sampling_strategy": "group_by_length",
        "remove_unused_columns": False,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    ids = fresh.model.tokenizer(texts, truncation=True, max_length=fresh.model.max_seq_length)["input_ids"]
    rows = [{"input_ids": row, "labels": int(target)} for row, target in zip(ids, targets, strict=True)]
    steps = math.ceil(len(rows) / 32) * math.ceil(epochs)
    with torch.random.fork_rng(), quiet_transformers(), progress("training the encoder", steps) as advance:
        trainer = Trainer(
            model=module,
            args=TrainingArguments(**(arguments | dict(trainer_config))),
            train_dataset=rows,
            data_collator=_Collator(fresh.model.tokenizer.pad_token_id),
            callbacks=[StepProgress(advance)],
        )
        trainer.remove_callback(PrinterCallback)
        checkpoints = sorted((folder / "checkpoints").glob("checkpoint-*"))
        loss = trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None).training_loss
        if not math.isfinite(loss):
            raise TrainingError(f"the loss became {loss}; lower `learning_rate` (now {rate:g})")
        fresh.model.save_pretrained(str(folder / "model"))
    head = module.head
    return head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy(), loss


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


class _Collator:
    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=self.pad)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
        return {"input_ids": padded, "attention_mask": mask, "labels": torch.tensor([row["labels"] for row in rows])}
