"""Base models of training runs, whose weights are not loaded if only the trainer needs them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from ragkit.errors import UnsupportedError
from ragkit.finetuning.manifest import MANIFEST, Manifest
from ragkit.finetuning.settings import Settings
from ragkit.finetuning.soft_prompt import SoftPromptModel
from ragkit.models import load_model
from ragkit.models.local import LocalModel
from ragkit.models.middleware import LayeredModel
from ragkit.models.sources import is_named, source_of, weights_of
from ragkit.progress import quiet_transformers


def base_of(model: Any, settings: Settings) -> LocalModel:
    """Return the base model of a training run.

    For the spec of a whole model, the weights are placeholders on the meta device: the model can tokenize and has a
    context window, but a large base model does not occupy GPU memory twice.

    Args:
        model: A spec or a model.
        settings: Settings of the training run.

    Returns:
        The base model.

    Raises:
        UnsupportedError: If the model does not support the method.
    """
    source = _whole_model(model)
    base = load_model(model) if source is None else _without_weights(source, name=model)
    base = base.model if isinstance(base, LayeredModel) else base
    if not isinstance(base, LocalModel) or isinstance(base, SoftPromptModel):
        raise UnsupportedError(f"only a local model without a soft prompt can be fine-tuned here, got {base.name}")
    if settings.method in {"qlora", "prompt-tuning"} and is_adapted(base):
        raise UnsupportedError(
            f"{settings.method!r} needs a whole model, but {base.name} is an adapter; train the adapter with "
            "method='full' or objective='text', of which a whole model is stored"
        )
    return base


def is_adapted(base: LocalModel) -> bool:
    """Return whether a base model has an adapter."""
    return isinstance(base.module, PeftModel)


def _whole_model(model: Any) -> str | None:
    """Return the source of a whole model; None for anything else, which `load_model` must load."""
    if isinstance(model, str) and is_named(model):
        return model
    if not isinstance(model, str) or not model.startswith("hf:"):
        return None
    source = source_of(model)
    folder = Path(source)
    if (folder / MANIFEST).is_file():
        manifest = Manifest.read(folder)
        manifest.check_weights(folder)
        return str(folder / "model") if manifest.kind == "causal" and manifest.form == "model" else None
    if folder.is_dir():
        whole = (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file()
        return source if whole else None
    try:
        with quiet_transformers():
            AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError):  # the repository of an adapter has no config.json
        return None
    return source


def _without_weights(source: str, *, name: str) -> LocalModel:
    weights = weights_of(source)
    with quiet_transformers():
        config = AutoConfig.from_pretrained(weights.place, trust_remote_code=False)
        with torch.device("meta"):
            module = AutoModelForCausalLM.from_config(config)
        with suppress(OSError):  # without this file, the end tokens are those of the model configuration
            module.generation_config = GenerationConfig.from_pretrained(weights.place)
        tokenizer = AutoTokenizer.from_pretrained(weights.place, padding_side="left", trust_remote_code=False)
    return LocalModel(module, tokenizer, name=name, fingerprint=weights.fingerprint, source=source)
