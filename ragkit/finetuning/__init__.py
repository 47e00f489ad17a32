"""Fine-tuning of language models and encoders with `finetune`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit._extras import require
from ragkit._lazy import lazy_names
from ragkit.errors import EmptyPoolError, UnsupportedError
from ragkit.finetuning._result import FineTuned as FineTuned
from ragkit.finetuning._settings import METHODS as METHODS
from ragkit.finetuning._settings import OBJECTIVES as OBJECTIVES
from ragkit.finetuning._settings import Settings

if TYPE_CHECKING:
    from ragkit.finetuning._exporting import export_merged as export_merged
    from ragkit.finetuning._imitation import Imitation as Imitation
    from ragkit.finetuning._imitation import imitate as imitate
    from ragkit.finetuning._memorization import Memorisation as Memorisation
    from ragkit.finetuning._memorization import memorisation as memorisation
    from ragkit.finetuning._mixing import Mixture as Mixture
    from ragkit.finetuning._mixing import mix as mix
    from ragkit.finetuning._remote import cancel_finetuning as cancel_finetuning
    from ragkit.finetuning._remote import estimate_finetuning as estimate_finetuning
    from ragkit.finetuning._remote import finetuning_checkpoints as finetuning_checkpoints
    from ragkit.finetuning._remote_costs import TrainingEstimate as TrainingEstimate
    from ragkit.finetuning._remote_costs import VendorCheckpoint as VendorCheckpoint
    from ragkit.finetuning._rows import Row
    from ragkit.metrics import AnyMetric
    from ragkit.protocols import Embedder, LanguageModel
    from ragkit.templates import Template


def finetune(  # noqa: PLR0913 - the settings of a training run, as keyword arguments
    model: str | LanguageModel | Embedder,
    train: Sequence[Row | Mapping[str, object]],
    *,
    method: str = "lora",
    objective: str = "completion",
    eval: Sequence[Row | Mapping[str, object]] | None = None,  # noqa: A002 - the usual term
    output_dir: str | Path,
    template: Template | None = None,
    epochs: float = 3,
    learning_rate: float | None = None,
    layers: int = 2,
    max_length: int | None = None,
    metric: AnyMetric | None = None,
    patience: int | None = None,
    gradient_checkpointing: bool = False,
    seed: int = 0,
    peft_config: Any = None,
    trainer_config: Mapping[str, object] | None = None,
) -> FineTuned:
    """Fine-tune a language model, or train an embedder as a classifier.

    A language model is trained on the answers only, with the template that is used for inference. An embedder becomes a
    classifier: ``"classifier-head"`` fits a logistic regression on its frozen embeddings; ``"full"`` and ``"lora"``
    start from this head and also train the encoder (Kumar et al., "Fine-Tuning can Distort Pretrained Features", ICLR
    2022). ``"setfit"`` first trains the encoder on pairs of texts, which is meant for a few rows per label
    (Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022).

    An interrupted run resumes from its last epoch if it is called again with the same arguments; a finished run is
    loaded. If `accelerate launch` starts several processes, all of them train, and only the first writes files.

    Args:
        model: The model to train: a spec or a local model, or for a classifier, an embedder or its spec (``"minilm"``,
            ``"st:…"``). The output folder of an earlier run can also be used as a base.
        train: Training rows: `Example`s or `Chat`s for completions, strings or `Document`s for plain text,
            `Preference`s for preferences, or mappings with the usual keys, such as
            ``{"prompt": …, "completion": …}``. `mix` combines rows of several tasks.
        method: ``"lora"`` (Hu et al., 2021), ``"rslora"`` (rank 64, scaled by the square root of the rank:
            Kalajdzievski, 2023), ``"qlora"`` (4-bit base model, requires a GPU), ``"full"``, ``"last-layers"``,
            ``"prompt-tuning"`` (Lester et al., 2021), ``"classifier-head"``, ``"setfit"``, or ``"api"``, which
            trains ``"openai:<model>"`` at the vendor; this costs money and continues if the process ends.
        objective: ``"completion"``; ``"text"`` for continued pre-training on plain text (Gururangan et al., "Don't Stop
            Pretraining", ACL 2020), which stores a whole model that can be trained further; or ``"preference"`` (direct
            preference optimization, Rafailov et al., 2023).
        eval: Held-out rows, by which the best epoch is selected. Language models only.
        output_dir: A new or empty folder, or the folder of the same unfinished run.
        template: Template that converts examples to text; a classifier receives the input without a template.
        epochs: Number of passes over the rows.
        learning_rate: Peak learning rate; chosen by the method and size of the model if None.
        layers: Number of blocks that ``"last-layers"`` trains.
        max_length: Maximum number of tokens per row; the context window of the model if None. Longer prompts are
            truncated, answers are not.
        metric: A metric of `ragkit.metrics` by which the best epoch is selected: after each epoch, the model answers
            the `Example`s of ``eval`` as in inference, and the answers are scored. If None, the loss is used.
        patience: Number of epochs without improvement on ``eval`` after which training stops; None to disable.
        gradient_checkpointing: Whether to recompute activations instead of storing them, which saves memory but takes
            more time.
        seed: Seed for the weights and the order of the rows.
        peft_config: A PEFT configuration that replaces the default of ``method``.
        trainer_config: Additional fields of TRL's ``SFTConfig`` or ``DPOConfig`` (``TrainingArguments`` for an
            encoder), such as the batch size, except those that have an argument here. For ``"api"``: ``suffix``,
            ``batch_size`` and ``learning_rate_multiplier``.

    Returns:
        The fine-tuned model and its manifest.

    Raises:
        EmptyPoolError: If there are no training rows.
        InvalidInputError: If an argument or a row is invalid, or the folder is in use.
        UnknownSpecError: If the method or objective is unknown.
        UnsupportedError: If this model does not support the method or objective.
        TrainingError: If a loss is not finite, in which case the run is deleted; or if a vendor's job fails, in which
            case the same call starts a new job.
    """
    settings = Settings(
        method=method, objective=objective, folder=Path(output_dir), template=template, epochs=epochs,
        learning_rate=learning_rate, layers=layers, max_length=max_length, metric=metric,
        patience=patience,
        gradient_checkpointing=gradient_checkpointing, seed=seed, peft_config=peft_config,
        trainer_config=trainer_config or {}, watched=eval is not None,
    )  # fmt: skip
    if not train:
        raise EmptyPoolError("finetune")
    if method == "api":
        from ragkit.finetuning._remote import train_remote

        return train_remote(model, train, eval, settings)
    embedder = _as_embedder(model, method)
    if embedder is not None:
        settings.check_for_encoder()
        if method != "classifier-head":
            require("torch", "transformers", "accelerate", "peft", "sentence_transformers")
        from ragkit.finetuning._classifier import train_classifier

        return train_classifier(embedder, train, settings)
    require("torch", "transformers", "peft", "trl", "datasets")
    from ragkit.finetuning._training_loop import random_state_kept

    with random_state_kept():  # importing trl draws random numbers
        from ragkit.finetuning._causal import train_causal

        return train_causal(model, train, eval, settings)


def _as_embedder(model: str | LanguageModel | Embedder, method: str) -> Embedder | None:
    """Return the embedder, or None if the model is a language model."""
    from ragkit.embedders import load_embedder
    from ragkit.protocols import Embedder
    from ragkit.registry import is_known

    if isinstance(model, str):
        is_encoder = is_known("embedder", model)
        if method in {"classifier-head", "setfit"} and not is_encoder:
            raise UnsupportedError(f"{method!r} takes an embedder such as 'minilm' or 'st:<folder>', got {model!r}")
        return load_embedder(model) if is_encoder else None
    return model if isinstance(model, Embedder) else None


_HOME_OF = {
    "Imitation": "_imitation",
    "Memorisation": "_memorization",
    "Mixture": "_mixing",
    "TrainingEstimate": "_remote_costs",
    "VendorCheckpoint": "_remote_costs",
    "cancel_finetuning": "_remote",
    "estimate_finetuning": "_remote",
    "export_merged": "_exporting",
    "finetuning_checkpoints": "_remote",
    "imitate": "_imitation",
    "memorisation": "_memorization",
    "mix": "_mixing",
}
__all__ = ["FineTuned", "finetune", *_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
