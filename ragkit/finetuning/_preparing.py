"""Preparation of training: the base model, tokenized rows, the learning rate and the hash of the run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from ragkit._progress import quiet_transformers
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.finetuning._encoding import Pairs, TokenRow, encode_rows
from ragkit.finetuning._manifest import MANIFEST, Manifest, TemplateRecord, data_hash, run_hash
from ragkit.finetuning._methods import default_rate
from ragkit.finetuning._mixing import Mixture
from ragkit.finetuning._rows import training_rows
from ragkit.finetuning._settings import Settings
from ragkit.finetuning._soft_prompt import SoftPromptModel
from ragkit.metrics import fingerprint_of as metric_fingerprint
from ragkit.models import load_model
from ragkit.models._local import LocalModel
from ragkit.models._middleware import LayeredModel
from ragkit.models._sources import fingerprint_of, is_named, source_of, weights_of
from ragkit.records import Example
from ragkit.templates import Template

# -- the base model ----------------------------------------------------------------------------------------------------


def base_of(model: Any, settings: Settings) -> LocalModel:
    """Return the base model of a training run, given as a spec or a model.

    For the spec of a whole model, the weights are placeholders on the meta device: the model can tokenize and has a
    context window, but a large base model does not occupy GPU memory twice.

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


# -- rows and settings -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The prepared data and settings of a training run."""

    rows: Sequence[TokenRow]
    counts: dict[str, int]  # of rows that were kept, truncated and dropped
    held_out: Sequence[TokenRow] | None  # for the loss
    scored: Sequence[tuple[Example, Template]]  # held-out examples whose answers are scored by a metric
    rate: float  # peak learning rate
    template: Template  # of the call
    tasks: dict[str, TemplateRecord]  # of a mixture
    data: str  # hash of the rows
    run: str  # hash of everything that determines the result


def prepare(base: LocalModel, train: Any, held_out: Any, settings: Settings) -> Prepared:
    """Check and tokenize the rows of `ragkit.finetune`, and determine the settings that were not specified."""
    template = (settings.template or Template()).for_model(base)
    pairs, tasks = _with_templates(base, train, settings, template, name="train")
    held = None if held_out is None else _with_templates(base, held_out, settings, template, name="eval")[0]
    rate = settings.learning_rate or default_rate(settings.method, settings.objective, base.module.num_parameters())
    window = min(settings.max_length or 10**9, base.capabilities.window or 10**9)
    rows, counts = encode_rows(base, pairs, window)
    data = data_hash(row for row, _ in pairs)
    return Prepared(
        rows=rows, counts=counts, held_out=encode_rows(base, held, window, name="eval")[0] if held else None,
        scored=_scored(held, settings), rate=rate, template=template, tasks=tasks, data=data,
        run=_run_of(base, settings, rate, data, pairs, held, sorted(tasks)),
    )  # fmt: skip


def _scored(held: Pairs | None, settings: Settings) -> list[tuple[Example, Template]]:
    if settings.metric is None:
        return []
    examples = [(row, template) for row, template in held or () if isinstance(row, Example)]
    if len(examples) < len(held or ()):
        raise InvalidInputError("`metric` scores answers to `Example`s, but `eval` contains other rows; pass Examples")
    return examples


def _with_templates(
    base: LocalModel, rows: Any, settings: Settings, template: Template, *, name: str
) -> tuple[Pairs, dict[str, TemplateRecord]]:
    """Return each row with its template, and the templates of a mixture by task."""
    made = training_rows(rows, settings.objective, name=name)
    if not isinstance(rows, Mixture):
        return [(row, template) for row in made], {}
    templates = {task: own.for_model(base) if own else template for task, own in rows.templates.items()}
    records = {task: TemplateRecord.of(own) for task, own in templates.items()}
    return [(row, templates[task]) for row, task in zip(made, rows.tasks, strict=True)], records


def _run_of(
    base: LocalModel,
    settings: Settings,
    rate: float,
    data: str,
    pairs: Pairs,
    held: Pairs | None,
    tasks: Sequence[str],
) -> str:
    templates = {template: place for place, template in enumerate(dict.fromkeys(template for _, template in pairs))}
    return run_hash(
        base=base.fingerprint if is_adapted(base) else fingerprint_of(base.source), method=settings.method,
        objective=settings.objective, data=data, rate=rate,
        templates=list(map(repr, templates)), template_of=[templates[template] for _, template in pairs], tasks=tasks,
        epochs=settings.epochs, seed=settings.seed, max_length=settings.max_length,
        layers=settings.layers if settings.method == "last-layers" else None, patience=settings.patience,
        gradient_checkpointing=settings.gradient_checkpointing, peft=settings.peft_facts(),
        trainer=dict(settings.trainer_config), held_out=data_hash(row for row, _ in held) if held else None,
        **({} if settings.metric is None else {"metric": metric_fingerprint(settings.metric)}),
    )  # fmt: skip
