"""Fine-tuning: `finetune` is the one entry, for language models and for encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.errors import EmptyPoolError, InvalidInputError, UnknownSpecError, UnsupportedError
from ragkit.extras import require

if TYPE_CHECKING:
    from ragkit.finetuning.manifest import Manifest
    from ragkit.protocols import Embedder, LanguageModel
    from ragkit.records import Example
    from ragkit.templates import Template

METHODS = ("lora", "full", "classifier-head")


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A finished run.

    Attributes:
        model: The tuned model, one more `LanguageModel`; ``load_model("hf:<folder>")`` gives the same one later.
        folder: Where it is stored.
        manifest: What was trained, on what, and what came of it; holds the template to ask with.
    """

    model: LanguageModel
    folder: Path
    manifest: Manifest


def finetune(  # noqa: PLR0913 - the whole of a training run, each argument by name
    model: str | LanguageModel | Embedder,
    train: Sequence[Example],
    *,
    method: str = "lora",
    eval: Sequence[Example] | None = None,  # noqa: A002 - the field's own word
    output_dir: str | Path,
    template: Template | None = None,
    epochs: float = 3,
    learning_rate: float | None = None,
    seed: int = 0,
    peft_config: Any = None,
    trainer_config: Mapping[str, object] | None = None,
) -> FineTuned:
    """Train a model on examples.

    A language model learns the answers only, in the template in which it is asked later. An embedder becomes a
    classifier: ``"classifier-head"`` fits a logistic regression on its frozen vectors, ``"full"`` goes on from there
    and trains the encoder too (Kumar et al., "Fine-Tuning can Distort Pretrained Features", ICLR 2022).

    A run that was killed goes on from its last epoch when it is called again with the same arguments; a finished
    one is loaded.

    Args:
        model: What to train: a spec or a local model; an embedder's spec (``"minilm"``, ``"st:…"``) or an embedder
            for a classifier.
        train: The examples.
        method: ``"lora"`` (Hu et al., 2021), ``"full"`` or ``"classifier-head"``.
        eval: Examples to watch the loss on after each epoch; the best epoch is kept. Language models only.
        output_dir: A new or empty folder, or one in which the same run was begun.
        template: How examples become text; a classifier is given the bare input.
        epochs: Passes over the examples.
        learning_rate: The highest rate; chosen by method and size of the model if None.
        seed: Seed of weights and order.
        peft_config: A configuration of PEFT, in place of the one that ``method`` stands for.
        trainer_config: Fields of TRL's ``SFTConfig`` (of ``TrainingArguments`` for an encoder) that replace ours.

    Returns:
        The tuned model with its record.

    Raises:
        EmptyPoolError: If there is nothing to train on.
        InvalidInputError: If an argument makes no sense or the folder is taken.
        UnknownSpecError: If the method is unknown.
        UnsupportedError: If this model cannot be trained so.
    """
    if method not in METHODS:
        raise UnknownSpecError("fine-tuning method", method, METHODS)
    if not train:
        raise EmptyPoolError("finetune")
    if epochs <= 0:
        raise InvalidInputError(f"`epochs` must be above 0, got {epochs}")
    if learning_rate is not None and not 0 < learning_rate < 1:
        raise InvalidInputError(f"`learning_rate` must be between 0 and 1, got {learning_rate}")
    folder = Path(output_dir)
    embedder = _as_embedder(model, method)
    if embedder is not None:
        if method == "lora" or eval is not None or peft_config is not None or template is not None:
            raise UnsupportedError(
                "an encoder takes the methods 'classifier-head' and 'full', and no eval, template or peft_config"
            )
        if method == "full":
            require("torch", "transformers", "accelerate", "sentence_transformers")
        from ragkit.finetuning.classifier import train_classifier

        return train_classifier(
            embedder, train, method=method, folder=folder, epochs=epochs, learning_rate=learning_rate, seed=seed,
            trainer_config=trainer_config or {},
        )  # fmt: skip
    require("torch", "transformers", "peft", "trl", "datasets")
    from ragkit.finetuning.causal import train_causal

    return train_causal(
        model, train, method=method, held_out=eval, folder=folder, template=template, epochs=epochs,
        learning_rate=learning_rate, seed=seed, peft_config=peft_config, trainer_config=trainer_config or {},
    )  # fmt: skip


def _as_embedder(model: str | LanguageModel | Embedder, method: str) -> Embedder | None:
    """The embedder that is meant, or None where a language model is.

    Returns:
        An embedder or None.

    Raises:
        UnsupportedError: If the method wants an encoder and the model is none.
    """
    from ragkit.embedders import load_embedder
    from ragkit.protocols import Embedder

    if isinstance(model, str):
        is_encoder = model == "minilm" or model.startswith(("st:", "hash:"))
        if method == "classifier-head" and not is_encoder:
            raise UnsupportedError(
                f"'classifier-head' takes an embedder such as 'minilm' or 'st:<folder>', got {model!r}"
            )
        return load_embedder(model) if is_encoder else None
    return model if isinstance(model, Embedder) else None
