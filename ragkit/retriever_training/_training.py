"""Training with the trainers of sentence-transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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

from ragkit._progress import progress, quiet_transformers
from ragkit.embedders._foreign_folders import check_folder
from ragkit.embedders._sentence_transformer import document_prompt, load_from, query_prompt
from ragkit.errors import TrainingError
from ragkit.finetuning._runs import last_checkpoint
from ragkit.finetuning._training_loop import (
    SealedCheckpoints,
    StepProgress,
    Watched,
    random_state_kept,
    trainer_arguments,
)
from ragkit.models._devices import default_device
from ragkit.retriever_training._rows import ScoredPassages, TrainingPair
from ragkit.retriever_training._runs import TrainingSettings, work_folder

Columns = dict[str, list[Any]]
Loss = Callable[[Any], Any]


def train(
    objective: str,
    source: str,
    rows: Sequence[Any],
    settings: TrainingSettings,
    folder: Path,
    extra: Mapping[str, float],
) -> tuple[float, float]:
    """Return the mean loss and elapsed seconds of training a model with the named loss, after saving it to a folder.

    Training resumes from the last checkpoint if there is one. ``extra`` contains the settings of the loss.

    Raises:
        TrainingError: If the loss is not finite.
    """
    columns, loss = _LOSSES[objective](rows, **extra)
    steps = math.ceil(math.ceil(len(rows) / settings.batch_size) * settings.epochs)
    work = work_folder(settings.folder)
    with random_state_kept(), quiet_transformers(), progress("training", steps, "steps") as stage:
        torch.manual_seed(settings.seed)  # for the initialisation of a new head
        model = _loaded(source, settings, reranker=objective == "lambda")
        window = model.max_seq_length
        if settings.max_length is not None:
            model.max_seq_length = min(settings.max_length, window or settings.max_length)
        embeds = isinstance(model, SentenceTransformer)
        special: dict[str, object] = {
            "warmup_steps": steps // 10,
            "save_strategy": "epoch" if settings.epochs > 1 else "no",
            # A passage that occurs twice in a batch would be a negative of the query to which it is relevant.
            "batch_sampler": "no_duplicates" if objective == "multiple-negatives-ranking" else "batch_sampler",
        }
        if embeds and (prompts := _prompts(model, columns)):
            special["prompts"] = prompts
        arguments = trainer_arguments(
            SentenceTransformerTrainingArguments if embeds else CrossEncoderTrainingArguments,
            work, epochs=settings.epochs, learning_rate=settings.learning_rate, batch_size=settings.batch_size,
            seed=settings.seed, special=special, given={},
        )  # fmt: skip
        trainer = (_EmbedderTrainer if embeds else _CrossEncoderTrainer)(
            model=model, args=arguments, train_dataset=Dataset.from_dict(columns), loss=loss(model),
            callbacks=[StepProgress(stage), SealedCheckpoints()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        began = perf_counter()
        mean_loss = float(trainer.train(resume_from_checkpoint=last_checkpoint(work)).training_loss)
        seconds = perf_counter() - began
        if not math.isfinite(mean_loss):
            raise TrainingError(f"the loss became {mean_loss}; lower `learning_rate` (now {settings.learning_rate:g})")
        if embeds:
            model.max_seq_length = window  # the shorter window applies only to training
        model.save_pretrained(str(folder), create_model_card=False)
    return mean_loss, seconds


def _loaded(source: str, settings: TrainingSettings, *, reranker: bool) -> Any:
    if reranker:
        limits = {"num_labels": 1, "max_length": settings.max_length}
        model = load_from(CrossEncoder, source, organization="cross-encoder", device=default_device(), **limits)
    else:
        model = load_from(SentenceTransformer, source, device=default_device())
    model.model_card_data.local_files_only = True  # the hub is not queried about the base model
    return model


def _select_passage(pairs: Sequence[TrainingPair], *, scale: float) -> tuple[Columns, Loss]:
    """Return the columns and the loss for selecting each pair's passage among its negatives and those of the batch."""
    columns: Columns = {"query": [pair.query for pair in pairs], "passage": [pair.passage for pair in pairs]}
    for place in range(len(pairs[0].negatives)):
        columns[f"negative_{place}"] = [pair.negatives[place] for pair in pairs]
    return columns, lambda model: MultipleNegativesRankingLoss(model, scale=scale)


def _rank_like_teacher(rows: Sequence[ScoredPassages], *, scale: float, temperature: float) -> tuple[Columns, Loss]:
    """Return the columns and the loss for ranking passages like a teacher."""
    columns: Columns = {"query": [row.query for row in rows]}
    for place in range(len(rows[0].passages)):
        columns[f"passage_{place}"] = [row.passages[place] for row in rows]
    # A softmax depends only on differences; with a maximum of 0, float32 is precise enough for the other scores.
    columns["label"] = [[score - max(row.scores) for score in row.scores] for row in rows]

    def similarity(queries: Any, passages: Any) -> Any:
        return scale * torch.nn.functional.cosine_similarity(queries, passages, dim=-1)

    # `scale` replaces the student's temperature, because the loss is multiplied by the square of the latter.
    return columns, lambda model: DistillKLDivLoss(
        model, similarity, student_temperature=1.0, teacher_temperature=temperature
    )


def _rank_passage_first(pairs: Sequence[TrainingPair]) -> tuple[Columns, Loss]:
    """Return the columns and the loss for ranking each pair's passage before its negatives."""
    columns: Columns = {
        "query": [pair.query for pair in pairs],
        "passages": [[pair.passage, *pair.negatives] for pair in pairs],
        "labels": [[1.0] + [0.0] * len(pair.negatives) for pair in pairs],
    }
    return columns, LambdaLoss


_LOSSES: dict[str, Callable[..., tuple[Columns, Loss]]] = {
    "multiple-negatives-ranking": _select_passage,
    "kl-divergence": _rank_like_teacher,
    "lambda": _rank_passage_first,
}


def _prompts(model: Any, columns: Iterable[str]) -> dict[str, str]:
    """Return the embedder's prompt for each column, as in inference."""
    asked, stored = query_prompt(model), document_prompt(model)
    prompts = {name: asked if name == "query" else stored for name in columns if name != "label"}
    return {name: prompt for name, prompt in prompts.items() if prompt}


class _Trainer(Watched):
    """A mixin for sentence-transformers trainers that checks checkpoints like other model folders."""

    def _load_from_checkpoint(self, checkpoint: str, *arguments: Any) -> None:
        check_folder(checkpoint)
        super()._load_from_checkpoint(checkpoint, *arguments)

    def add_model_card_callback(self, _default_args: Any) -> None:
        return  # a model card would quote training rows


class _EmbedderTrainer(_Trainer, SentenceTransformerTrainer):  # type: ignore[misc]
    pass


class _CrossEncoderTrainer(_Trainer, CrossEncoderTrainer):  # type: ignore[misc]
    pass
