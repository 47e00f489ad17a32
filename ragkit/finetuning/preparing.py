"""Preparation of training: tokenized rows, the learning rate and the hash of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ragkit.errors import InvalidInputError
from ragkit.finetuning.base_models import is_adapted
from ragkit.finetuning.encoding import Pairs, TokenRow, encode_rows
from ragkit.finetuning.manifest import TemplateRecord, data_hash, run_hash
from ragkit.finetuning.methods import default_rate
from ragkit.finetuning.mixing import Mixture
from ragkit.finetuning.rows import training_rows
from ragkit.finetuning.settings import Settings
from ragkit.metrics import fingerprint_of as metric_fingerprint
from ragkit.models.local import LocalModel
from ragkit.models.sources import fingerprint_of
from ragkit.records import Example
from ragkit.templates import Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The prepared data and settings of a training run.

    Attributes:
        rows: Rows of token ids.
        counts: Numbers of rows that were kept, truncated and dropped.
        held_out: Held-out rows for the loss; None if there are none.
        scored: Held-out examples whose answers are scored, each with its template, if there is a metric.
        rate: Peak learning rate.
        template: The template of the call.
        tasks: The templates of a mixture, by task.
        data: Hash of the rows.
        run: Hash of everything that determines the result.
    """

    rows: Sequence[TokenRow]
    counts: dict[str, int]
    held_out: Sequence[TokenRow] | None
    scored: Sequence[tuple[Example, Template]]
    rate: float
    template: Template
    tasks: dict[str, TemplateRecord]
    data: str
    run: str


def prepare(base: LocalModel, train: Any, held_out: Any, settings: Settings) -> Prepared:
    """Check and tokenize rows, and determine the settings that were not specified.

    Args:
        base: The model to train.
        train: The rows, in the formats of `ragkit.finetune`.
        held_out: Held-out rows, or None.
        settings: Settings of the training run.

    Returns:
        The prepared data and settings.
    """
    template = (settings.template or Template()).for_model(base)
    pairs, tasks = _with_templates(base, train, settings, template, name="train")
    held = None if held_out is None else _with_templates(base, held_out, settings, template, name="eval")[0]
    rate = settings.learning_rate or default_rate(settings.method, settings.objective, base.module.num_parameters())
    window = min(settings.max_length or 10**9, base.capabilities.window or 10**9)
    rows, counts = encode_rows(base, pairs, window)
    return Prepared(
        rows=rows, counts=counts, held_out=encode_rows(base, held, window, name="eval")[0] if held else None,
        scored=_scored(held, settings), rate=rate,
        template=template, tasks=tasks, data=data_hash(row for row, _ in pairs),
        run=_run_of(base, settings, rate, pairs, held, sorted(tasks)),
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
    base: LocalModel, settings: Settings, rate: float, pairs: Pairs, held: Pairs | None, tasks: Sequence[str]
) -> str:
    templates = {template: place for place, template in enumerate(dict.fromkeys(template for _, template in pairs))}
    return run_hash(
        base=base.fingerprint if is_adapted(base) else fingerprint_of(base.source), method=settings.method,
        objective=settings.objective, data=data_hash(row for row, _ in pairs), rate=rate,
        templates=list(map(repr, templates)), template_of=[templates[template] for _, template in pairs], tasks=tasks,
        epochs=settings.epochs, seed=settings.seed, max_length=settings.max_length,
        layers=settings.layers if settings.method == "last-layers" else None, patience=settings.patience,
        gradient_checkpointing=settings.gradient_checkpointing, peft=settings.peft_facts(),
        trainer=dict(settings.trainer_config), held_out=data_hash(row for row, _ in held) if held else None,
        **({} if settings.metric is None else {"metric": metric_fingerprint(settings.metric)}),
    )  # fmt: skip
