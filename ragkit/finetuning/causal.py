"""Fine-tuning of language models, on TRL and PEFT."""

from __future__ import annotations

import copy
import math
import shutil
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from ragkit.errors import TrainingError, UnsupportedError
from ragkit.finetuning import FineTuned
from ragkit.finetuning.encoding import Pairs, TokenRow, encode_rows, lengths_of, tokens_of
from ragkit.finetuning.flops import training_flops
from ragkit.finetuning.four_bit import check_four_bit
from ragkit.finetuning.manifest import Manifest, TemplateRecord, data_hash, files_hash, run_hash
from ragkit.finetuning.methods import ADAPTERS, default_rate, module_to_train, peft_config_of, with_adapter_of
from ragkit.finetuning.mixing import Mixture
from ragkit.finetuning.rows import training_rows
from ragkit.finetuning.runs import claimed, finish, is_main_process, last_checkpoint
from ragkit.finetuning.settings import Settings
from ragkit.finetuning.soft_prompt import SoftPromptModel
from ragkit.finetuning.step_progress import StepProgress
from ragkit.finetuning.trainers import arguments_of, make_trainer
from ragkit.models import load_model
from ragkit.models.loading import fingerprint_of, load_tuned
from ragkit.models.local import LocalModel
from ragkit.progress import progress, quiet_transformers
from ragkit.templates import Template


def train_causal(model: Any, train: Any, held_out: Any, settings: Settings) -> FineTuned:
    """Train a language model; see `ragkit.finetune`.

    Returns:
        The tuned model with its record.
    """
    if settings.method == "qlora":
        check_four_bit()
    base = _base_model(model, settings)
    template = settings.template or Template()
    pairs, tasks = _with_templates(train, settings, template, name="train")
    held = _with_templates(held_out, settings, template, name="eval")[0] if held_out is not None else []
    rate = settings.learning_rate or default_rate(settings.method, settings.objective, base.module.num_parameters())
    peft_config = peft_config_of(settings)
    arguments = arguments_of(settings, rate, held_out=bool(held))
    window = min(settings.max_length or 10**9, base.capabilities.window or 10**9)
    rows, counts = encode_rows(base, pairs, window)
    held_rows = encode_rows(base, held, window)[0] if held else None
    data = data_hash(row for row, _ in pairs)
    run = _run_of(base, settings, rate, data, pairs, held, tasks)
    with claimed(settings.folder, run) as finished:
        if finished:
            return _loaded(settings.folder)
        started = time.perf_counter()
        with quiet_transformers():
            trainer = make_trainer(
                module_to_train(base, settings), copy.deepcopy(base.tokenizer), arguments, rows=rows,
                held_out=held_rows, settings=settings, peft_config=peft_config, reference=_reference(base, settings),
            )  # fmt: skip
            flops = _flops(trainer.model, rows, settings)
            loss, eval_loss = _train(trainer, settings.folder, len(rows), rate)
            form = _save(trainer, base, settings)
        done = float(trainer.state.epoch)
        if is_main_process():
            finish(settings.folder, Manifest(
                kind="causal", form=form, method=settings.method, objective=settings.objective, run=run,
                base="tiny" if base.name == "tiny" else base.source, base_fingerprint=fingerprint_of(base.source),
                weights=files_hash(settings.folder / "model"), data=data, ask_with=TemplateRecord.of(template),
                tasks=tasks, seed=settings.seed, epochs=done, learning_rate=rate, rows=counts,
                tokens=round(sum(map(tokens_of, rows)) * done), flops=flops * done,
                seconds=time.perf_counter() - started, loss=loss, eval_loss=eval_loss,
                versions={name: version(name) for name in ("torch", "transformers", "peft", "trl")},
            ))  # fmt: skip
        trainer.accelerator.wait_for_everyone()
    return _loaded(settings.folder)


def _base_model(model: Any, settings: Settings) -> LocalModel:
    base = load_model(model)
    if not isinstance(base, LocalModel) or isinstance(base, SoftPromptModel):
        raise UnsupportedError(f"only a local model without a soft prompt can be fine-tuned here, got {base.name}")
    if settings.method in {"qlora", "prompt-tuning"} and isinstance(base.module, PeftModel):
        raise UnsupportedError(
            f"{settings.method!r} goes on a whole model, and {base.name} is an adapter; train that with "
            "method='full' or objective='text', of which a whole model is stored"
        )
    return base


def _with_templates(
    rows: Any, settings: Settings, template: Template, *, name: str
) -> tuple[Pairs, dict[str, TemplateRecord]]:
    """Rows with the template of each, and the templates of a mixture by task."""
    made = training_rows(rows, settings.objective, name=name)
    if not isinstance(rows, Mixture):
        return [(row, template) for row in made], {}
    templates = {task: own or template for task, own in rows.templates.items()}
    records = {task: TemplateRecord.of(own) for task, own in templates.items()}
    return [(row, templates[task]) for row, task in zip(made, rows.tasks, strict=True)], records


def _run_of(base: LocalModel, settings: Settings, rate: float, data: str, pairs: Pairs, held: Pairs, tasks: Any) -> str:
    templates = {template: place for place, template in enumerate(dict.fromkeys(template for _, template in pairs))}
    return run_hash(
        base=base.fingerprint, method=settings.method, objective=settings.objective, data=data, rate=rate,
        templates=list(map(repr, templates)), template_of=[templates[template] for _, template in pairs],
        tasks=sorted(tasks), epochs=settings.epochs, seed=settings.seed, max_length=settings.max_length,
        layers=settings.layers if settings.method == "last-layers" else None, patience=settings.patience,
        gradient_checkpointing=settings.gradient_checkpointing, peft=settings.peft_facts(),
        trainer=dict(settings.trainer_config), held_out=data_hash(row for row, _ in held) if held else None,
    )  # fmt: skip


def _reference(base: LocalModel, settings: Settings) -> Any:
    """What preferences are measured against; an adapter is taken off for it, other methods need a copy."""
    if settings.objective != "preference" or settings.method in ADAPTERS:
        return None
    fresh = AutoModelForCausalLM.from_pretrained(base.source, dtype=torch.float32)
    return with_adapter_of(base.module, fresh)


def _train(trainer: Any, folder: Path, rows: int, rate: float) -> tuple[float, float | None]:
    """Train, from the last checkpoint if there is one.

    Returns:
        The mean loss, and the least loss on the held-out rows.

    Raises:
        TrainingError: If one of them is not a number.
    """
    arguments = trainer.args
    batch = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    with progress("fine-tuning", math.ceil(rows / batch * arguments.num_train_epochs)) as advance:
        trainer.add_callback(StepProgress(advance))
        loss = trainer.train(resume_from_checkpoint=last_checkpoint(folder)).training_loss
    best = trainer.state.best_metric
    if not math.isfinite(loss) or (best is not None and not math.isfinite(best)):
        raise TrainingError(f"the loss became {loss}, on `eval` {best}; lower `learning_rate` (now {rate:g})")
    return float(loss), None if best is None else float(best)


def _save(trainer: Any, base: LocalModel, settings: Settings) -> Any:
    """Write ``folder / "model"``: an adapter alone where there is a plain base for it, else the whole model.

    What is trained on plain text is a base for what follows, and an adapter on an adapter has no plain base.

    Returns:
        The form that was written.
    """
    folder = settings.folder / "model"
    if is_main_process():
        shutil.rmtree(folder, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(folder), _internal_call=True)
    if not is_main_process():
        return "model"
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle of paths and settings; the manifest says more
    if settings.method not in ADAPTERS:
        return "model"
    if settings.objective != "text" and not isinstance(base.module, PeftModel):
        return "adapter"
    fresh = with_adapter_of(base.module, AutoModelForCausalLM.from_pretrained(base.source, dtype=torch.float32))
    whole = PeftModel.from_pretrained(fresh, folder).merge_and_unload()
    shutil.rmtree(folder)
    whole.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return "model"


def _flops(module: Any, rows: Sequence[TokenRow], settings: Settings) -> float:
    extra = settings.method == "prompt-tuning" and module.active_peft_config.num_virtual_tokens
    lengths = [length + (extra or 0) for row in rows for length in lengths_of(row)]
    layers = settings.layers if settings.method == "last-layers" else None
    return training_flops(module, lengths, layers=layers, reference=settings.objective == "preference")


def _loaded(folder: Path) -> FineTuned:
    return FineTuned(load_tuned(folder), folder, Manifest.read(folder))
