"""Training with the trainers of sentence-transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.cross_encoder.losses import LambdaLoss
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MultipleNegativesRankingLoss
from transformers import PrinterCallback

from ragkit.embedders.sentence_transformer import document_prompt, query_prompt
from ragkit.errors import InvalidInputError, TrainingError
from ragkit.finetuning.callbacks import StepProgress
from ragkit.finetuning.loss_guard import Watched
from ragkit.finetuning.random_state import random_state_kept
from ragkit.finetuning.runs import CHECKPOINTS, last_checkpoint
from ragkit.finetuning.settings import trainer_arguments
from ragkit.models.devices import default_device, trains_on_gpu
from ragkit.progress import progress, quiet_transformers
from ragkit.retriever_training.rows import ScoredPassages, TrainingPair
from ragkit.retriever_training.runs import TrainingSettings, work_folder

Finished = tuple[float, float]


def train_on_pairs(
    source: str, pairs: Sequence[TrainingPair], settings: TrainingSettings, folder: Path, *, scale: float
) -> Finished:
    """Train an embedder to select each pair's passage among its negatives and the passages of the batch.

    Args:
        source: Hub id or folder of the base model.
        pairs: At least one pair, all with the same number of negatives.
        settings: Settings of the training run.
        folder: Folder for the trained model.
        scale: Factor for cosine similarities in the softmax.

    Returns:
        Mean loss and elapsed seconds.
    """
    columns: dict[str, list[Any]] = {
        "query": [pair.query for pair in pairs],
        "passage": [pair.passage for pair in pairs],
    }
    for place in range(len(pairs[0].negatives)):
        columns[f"negative_{place}"] = [pair.negatives[place] for pair in pairs]
    # A passage that occurs twice in a batch would be a negative of the query to which it is relevant.
    return _train_embedder(
        source, columns, lambda model: MultipleNegativesRankingLoss(model, scale=scale), settings, folder,
        batch_sampler="no_duplicates",
    )  # fmt: skip


def train_on_scores(
    source: str,
    rows: Sequence[ScoredPassages],
    settings: TrainingSettings,
    folder: Path,
    *,
    scale: float,
    temperature: float,
) -> Finished:
    """Train an embedder to rank passages like a teacher.

    Args:
        source: Hub id or folder of the base model.
        rows: At least one row, all with the same number of passages.
        settings: Settings of the training run.
        folder: Folder for the trained model.
        scale: Factor for cosine similarities in the softmax.
        temperature: Temperature of the softmax of the teacher's scores.

    Returns:
        Mean loss and elapsed seconds.
    """
    columns: dict[str, list[Any]] = {"query": [row.query for row in rows]}
    for place in range(len(rows[0].passages)):
        columns[f"passage_{place}"] = [row.passages[place] for row in rows]
    # A softmax depends only on differences; with a maximum of 0, float32 is precise enough for the other scores.
    columns["label"] = [[score - max(row.scores) for score in row.scores] for row in rows]

    def loss(model: Any) -> Any:
        # `scale` replaces the student's temperature, because the loss is multiplied by the square of the latter.
        return DistillKLDivLoss(model, _scaled_dot(scale), student_temperature=1.0, teacher_temperature=temperature)

    return _train_embedder(source, columns, loss, settings, folder, batch_sampler="batch_sampler")


def train_cross_encoder(
    source: str, pairs: Sequence[TrainingPair], settings: TrainingSettings, folder: Path
) -> Finished:
    """Train a cross-encoder to rank each pair's passage before its negatives.

    Args:
        source: Hub id or folder of the base model.
        pairs: At least one pair, each with negatives.
        settings: Settings of the training run.
        folder: Folder for the trained model.

    Returns:
        Mean loss and elapsed seconds.
    """
    columns: dict[str, list[Any]] = {
        "query": [pair.query for pair in pairs],
        "passages": [[pair.passage, *pair.negatives] for pair in pairs],
        "labels": [[1.0] + [0.0] * len(pair.negatives) for pair in pairs],
    }

    def build() -> Any:
        return CrossEncoder(source, num_labels=1, max_length=settings.max_length, device=default_device())

    return _run(
        build, source, _CrossEncoderTrainer, CrossEncoderTrainingArguments, columns, LambdaLoss, settings, folder
    )


def _train_embedder(
    source: str,
    columns: dict[str, list[Any]],
    loss: Callable[[Any], Any],
    settings: TrainingSettings,
    folder: Path,
    *,
    batch_sampler: str,
) -> Finished:
    def build() -> Any:
        return SentenceTransformer(source, device=default_device())

    return _run(
        build, source, _EmbedderTrainer, SentenceTransformerTrainingArguments, columns, loss, settings, folder,
        batch_sampler=batch_sampler,
    )  # fmt: skip


def _run(
    build: Callable[[], Any],
    source: str,
    trainer_class: Any,
    arguments_class: Any,
    columns: dict[str, list[Any]],
    loss: Callable[[Any], Any],
    settings: TrainingSettings,
    folder: Path,
    *,
    batch_sampler: str = "batch_sampler",
) -> Finished:
    """Train, resuming from the last checkpoint if there is one, and save the model."""
    rows = len(columns["query"])
    steps = math.ceil(math.ceil(rows / settings.batch_size) * settings.epochs)
    work = work_folder(settings.folder)
    with random_state_kept(), quiet_transformers(), progress("training", steps) as advance:
        torch.manual_seed(settings.seed)  # for the initialisation of a new head
        model = _built(build, source)
        window = model.max_seq_length
        if settings.max_length is not None:
            model.max_seq_length = min(settings.max_length, window or settings.max_length)
        prompts = _prompts(model, columns) if isinstance(model, SentenceTransformer) else {}
        trainer = trainer_class(
            model=model,
            args=_arguments(arguments_class, settings, work / CHECKPOINTS, steps, batch_sampler, prompts),
            train_dataset=Dataset.from_dict(columns),
            loss=loss(model),
            callbacks=[StepProgress(advance)],
        )
        trainer.remove_callback(PrinterCallback)
        began = perf_counter()
        mean_loss = float(trainer.train(resume_from_checkpoint=last_checkpoint(work)).training_loss)
        seconds = perf_counter() - began
        if not math.isfinite(mean_loss):
            raise TrainingError(f"the loss became {mean_loss}; lower `learning_rate` (now {settings.learning_rate:g})")
        if isinstance(model, SentenceTransformer):
            model.max_seq_length = window  # the shorter window applies only to training
        model.save_pretrained(str(folder), create_model_card=False)
    return mean_loss, seconds


def _built(build: Callable[[], Any], source: str) -> Any:
    try:
        model = build()
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{source!r} cannot be loaded ({str(error).splitlines()[0]}); give a folder of sentence-transformers or a "
            "model of the hub"
        ) from error
    model.model_card_data.local_files_only = True  # the hub is not queried about the base model
    return model


def _arguments(
    kind: Any, settings: TrainingSettings, checkpoints: Path, steps: int, batch_sampler: str, prompts: dict[str, str]
) -> Any:
    gpu = trains_on_gpu()
    ours: dict[str, Any] = {
        "output_dir": str(checkpoints),
        "per_device_train_batch_size": settings.batch_size,
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": steps // 10,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "batch_sampler": batch_sampler,
        "save_strategy": "epoch" if settings.epochs > 1 else "no",
        "save_total_limit": 1,
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "use_cpu": not gpu,
        "dataloader_pin_memory": gpu,
    }
    return trainer_arguments(kind, ours | ({"prompts": prompts} if prompts else {}), {})


def _prompts(model: Any, columns: Iterable[str]) -> dict[str, str]:
    """Return the embedder's prompt for each column, as in inference."""
    asked, stored = query_prompt(model), document_prompt(model)
    prompts = {name: asked if name == "query" else stored for name in columns if name != "label"}
    return {name: prompt for name, prompt in prompts.items() if prompt}


def _scaled_dot(scale: float) -> Callable[[Any, Any], Any]:
    def similarity(queries: Any, passages: Any) -> Any:
        cosines = torch.nn.functional.cosine_similarity(queries, passages, dim=-1)
        return scale * cosines

    return similarity


class _NoModelCard:
    """A mixin for sentence-transformers trainers that disables model cards, which would quote training rows."""

    def add_model_card_callback(self, _default_args: Any) -> None:
        return


class _EmbedderTrainer(Watched, _NoModelCard, SentenceTransformerTrainer):  # type: ignore[misc]
    pass


class _CrossEncoderTrainer(Watched, _NoModelCard, CrossEncoderTrainer):  # type: ignore[misc]
    pass
