"""Fine-tuning: `finetune` is the one entry, for language models and for encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.errors import EmptyPoolError, UnsupportedError
from ragkit.extras import require
from ragkit.finetuning.random_state import random_state_kept
from ragkit.finetuning.result import FineTuned as FineTuned
from ragkit.finetuning.settings import METHODS as METHODS
from ragkit.finetuning.settings import OBJECTIVES as OBJECTIVES
from ragkit.finetuning.settings import Settings
from ragkit.lazy import lazy_names

if TYPE_CHECKING:
    from ragkit.finetuning.exporting import export_merged as export_merged
    from ragkit.finetuning.imitation import Imitation as Imitation
    from ragkit.finetuning.imitation import imitate as imitate
    from ragkit.finetuning.memorization import Memorisation as Memorisation
    from ragkit.finetuning.memorization import memorisation as memorisation
    from ragkit.finetuning.mixing import Mixture as Mixture
    from ragkit.finetuning.mixing import mix as mix
    from ragkit.finetuning.remote import cancel_finetuning as cancel_finetuning
    from ragkit.finetuning.rows import Row
    from ragkit.metrics import AnyMetric
    from ragkit.protocols import Embedder, LanguageModel
    from ragkit.templates import Template


def finetune(  # noqa: PLR0913 - the whole of a training run, each argument by name
    model: str | LanguageModel | Embedder,
    train: Sequence[Row | Mapping[str, object]],
    *,
    method: str = "lora",
    objective: str = "completion",
    eval: Sequence[Row | Mapping[str, object]] | None = None,  # noqa: A002 - the field's own word
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
    """Train a model.

    A language model learns the answers only, in the template in which it is asked later. An embedder becomes a
    classifier: ``"classifier-head"`` fits a logistic regression on its frozen vectors, ``"full"`` and ``"lora"`` go on
    from there and train the encoder too (Kumar et al., "Fine-Tuning can Distort Pretrained Features", ICLR 2022).

    A run that was killed goes on from its last epoch when it is called again with the same arguments; a finished
    one is loaded. Where `accelerate launch` starts several processes, all of them train and the first one writes.

    Args:
        model: What to train: a spec or a local model; an embedder's spec (``"minilm"``, ``"st:…"``) or an embedder
            for a classifier. A folder that an earlier run wrote is a base like any other.
        train: The rows. For completions `Example`s or `Chat`s, for plain text strings or `Document`s, for preferences
            `Preference`s; or mappings with the usual names, such as ``{"prompt": …, "completion": …}``. `mix` makes
            them of several tasks.
        method: ``"lora"`` (Hu et al., 2021), ``"rslora"`` (of rank 64, scaled by the square root of the rank:
            Kalajdzievski, 2023), ``"qlora"`` (the base in 4 bits, on a GPU), ``"full"``, ``"last-layers"``,
            ``"prompt-tuning"`` (Lester et al., 2021), ``"classifier-head"``, or ``"api"``: the vendor of
            ``"openai:<model>"`` trains, which costs money and continues when this process ends.
        objective: ``"completion"``; ``"text"`` to go on pre-training on plain text (Gururangan et al., "Don't Stop
            Pretraining", ACL 2020), which stores a whole model, a base for what follows; or ``"preference"`` (direct
            preference optimization, Rafailov et al., 2023).
        eval: Held-out rows; the epoch that is best on them is kept. Language models only.
        output_dir: A new or empty folder, or one in which the same run was begun.
        template: How examples become text; a classifier is given the bare input.
        epochs: Passes over the rows.
        learning_rate: The highest rate; chosen by method and size of the model if None.
        layers: How many blocks ``"last-layers"`` trains.
        max_length: The most tokens of a row; the model's window if None. A longer prompt is shortened, an answer never.
        metric: A metric of `ragkit.metrics` that decides which epoch is best: after each epoch the model answers the
            `Example`s of ``eval`` as it will in use, and the answers are scored. The loss decides if None.
        patience: Epochs without improvement on ``eval`` after which training stops; never if None.
        gradient_checkpointing: Whether activations are computed again instead of kept: less memory, more time.
        seed: Seed of weights and order.
        peft_config: A configuration of PEFT, in place of the one that ``method`` stands for.
        trainer_config: More fields of TRL's ``SFTConfig`` or ``DPOConfig`` (of ``TrainingArguments`` for an encoder),
            such as the batch size; not those that have an argument here. For ``"api"`` ``suffix``, ``batch_size`` and
            ``learning_rate_multiplier``.

    Returns:
        The tuned model with its record.

    Raises:
        EmptyPoolError: If there is nothing to train on.
        InvalidInputError: If an argument or a row makes no sense, or the folder is taken.
        UnknownSpecError: If the method or objective is unknown.
        UnsupportedError: If this model cannot be trained so.
        TrainingError: If a loss is not a number; nothing is left of the run then. If a vendor's job fails; the same
            call begins another one.
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
        from ragkit.finetuning.remote import train_remote

        return train_remote(model, train, eval, settings)
    embedder = _as_embedder(model, method)
    if embedder is not None:
        settings.check_for_encoder()
        if method != "classifier-head":
            require("torch", "transformers", "accelerate", "peft", "sentence_transformers")
        from ragkit.finetuning.classifier import train_classifier

        return train_classifier(embedder, train, settings)
    require("torch", "transformers", "peft", "trl", "datasets")
    with random_state_kept():
        from ragkit.finetuning.causal import train_causal

        return train_causal(model, train, eval, settings)


def _as_embedder(model: str | LanguageModel | Embedder, method: str) -> Embedder | None:
    """The embedder that is meant, or None where a language model is.

    Returns:
        An embedder or None.

    Raises:
        UnsupportedError: If the method wants an encoder and the model is none.
    """
    from ragkit.embedders import load_embedder
    from ragkit.protocols import Embedder
    from ragkit.registry import is_known

    if isinstance(model, str):
        is_encoder = is_known("embedder", model)
        if method == "classifier-head" and not is_encoder:
            raise UnsupportedError(
                f"'classifier-head' takes an embedder such as 'minilm' or 'st:<folder>', got {model!r}"
            )
        return load_embedder(model) if is_encoder else None
    return model if isinstance(model, Embedder) else None


_HOME_OF = {
    "Imitation": "imitation",
    "Memorisation": "memorization",
    "Mixture": "mixing",
    "cancel_finetuning": "remote",
    "export_merged": "exporting",
    "imitate": "imitation",
    "memorisation": "memorization",
    "mix": "mixing",
}
__all__ = ["FineTuned", "finetune", *_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
