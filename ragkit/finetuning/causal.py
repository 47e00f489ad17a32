"""Fine-tuning of language models with TRL and PEFT."""

from __future__ import annotations

import copy
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from ragkit.errors import TrainingError
from ragkit.finetuning.base_models import base_of, is_adapted
from ragkit.finetuning.callbacks import FreedMemory, StepProgress
from ragkit.finetuning.cpu_layers import share_frozen, shared_heads
from ragkit.finetuning.encoding import TokenRow, lengths_of, tokens_of
from ragkit.finetuning.epoch_metric import NAME, answer_scorer
from ragkit.finetuning.flops import training_flops
from ragkit.finetuning.four_bit import check_four_bit
from ragkit.finetuning.manifest import Evaluation, Manifest, TemplateRecord, files_hash
from ragkit.finetuning.methods import ADAPTERS, module_to_train, peft_config_of, with_adapter_of
from ragkit.finetuning.preparing import Prepared, prepare
from ragkit.finetuning.result import FineTuned
from ragkit.finetuning.runs import claimed, finish, is_main_process, last_checkpoint
from ragkit.finetuning.settings import Settings
from ragkit.finetuning.trainers import arguments_of, make_trainer
from ragkit.models.devices import return_freed_memory
from ragkit.models.loading import load_tuned
from ragkit.models.local import LocalModel
from ragkit.models.sources import fingerprint_of, weights_of
from ragkit.progress import progress, quiet_transformers


def train_causal(model: Any, train: Any, held_out: Any, settings: Settings) -> FineTuned:
    """Fine-tune a language model; see `ragkit.finetune`.

    Returns:
        The fine-tuned model and its manifest.
    """
    if settings.method == "qlora":
        check_four_bit()
    base = base_of(model, settings)
    prepared = prepare(base, train, held_out, settings)
    peft_config = peft_config_of(settings)
    arguments = arguments_of(settings, prepared.rate, held_out=prepared.held_out is not None)
    with claimed(settings.folder, prepared.run) as finished:
        if not finished:
            base.release_caches()  # training needs the memory
            return_freed_memory()
            _train_and_store(base, prepared, settings, arguments, peft_config)
            return_freed_memory()  # before the tuned model is loaded
    return FineTuned(load_tuned(settings.folder), settings.folder, Manifest.read(settings.folder))


def _train_and_store(
    base: LocalModel, prepared: Prepared, settings: Settings, arguments: Any, peft_config: Any
) -> None:
    started = time.perf_counter()
    with quiet_transformers():
        trainer = make_trainer(
            module_to_train(base, settings), copy.deepcopy(base.tokenizer), arguments, rows=prepared.rows,
            held_out=prepared.held_out, settings=settings, peft_config=peft_config,
            reference=_reference(base, settings), answer_score=_answer_score(base, prepared, settings),
        )  # fmt: skip
        if hasattr(trainer.model, "get_base_model"):
            share_frozen(trainer.model, base.module)
        flops = _flops(trainer.model, prepared.rows, settings)
        loss = _train(trainer, settings.folder, len(prepared.rows))
        form = _save(trainer, base, settings)
    done, evaluations = float(trainer.state.epoch), _evaluations(trainer.state)
    kept = evaluations.get(trainer.state.best_global_step)
    if is_main_process():
        finish(settings.folder, Manifest(
            kind="causal", form=form, method=settings.method, objective=settings.objective, run=prepared.run,
            base=base.source, base_fingerprint=fingerprint_of(base.source),
            weights=files_hash(settings.folder / "model"), data=prepared.data,
            ask_with=TemplateRecord.of(prepared.template), tasks=prepared.tasks, seed=settings.seed, epochs=done,
            learning_rate=prepared.rate, rows=prepared.counts,
            tokens=round(sum(map(tokens_of, prepared.rows)) * done), flops=flops * done,
            seconds=time.perf_counter() - started, loss=loss,
            eval_loss=None if kept is None else kept.loss, eval_metric=None if kept is None else kept.metric,
            evaluations=tuple(evaluations.values()),
            versions={name: version(name) for name in ("torch", "transformers", "peft", "trl")},
        ))  # fmt: skip
    trainer.accelerator.wait_for_everyone()


def _answer_score(base: LocalModel, prepared: Prepared, settings: Settings) -> Callable[[Any], float] | None:
    if settings.metric is None:
        return None
    return answer_scorer(base, prepared.scored, settings.metric)


def _reference(base: LocalModel, settings: Settings) -> Any:
    """Return the reference model for preferences; None for adapters, which can be disabled instead."""
    if settings.objective != "preference" or settings.method in ADAPTERS:
        return None
    return _whole(base)


def _whole(base: LocalModel) -> Any:
    """Load a copy of the base model in float32, with its adapter merged."""
    return with_adapter_of(
        base.module,
        AutoModelForCausalLM.from_pretrained(
            weights_of(base.source).place, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        ),
    )


def _evaluations(state: Any) -> dict[int, Evaluation]:
    """Return the results on the held-out rows by training step, including those before the run was resumed."""
    return {
        logged["step"]: Evaluation(epoch=logged["epoch"], loss=logged["eval_loss"], metric=logged.get(f"eval_{NAME}"))
        for logged in state.log_history
        if "eval_loss" in logged
    }


def _train(trainer: Any, folder: Path, rows: int) -> float:
    """Train, and resume from the last checkpoint if there is one.

    Returns:
        The mean loss of the steps of this process.

    Raises:
        TrainingError: If the loss or the best result on the held-out rows is not finite.
    """
    arguments, checkpoint = trainer.args, last_checkpoint(folder)
    return_freed_memory()  # from the conversion of weights
    batch = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    with progress("fine-tuning", math.ceil(rows / batch * arguments.num_train_epochs)) as advance:
        trainer.add_callback(StepProgress(advance))
        trainer.add_callback(FreedMemory())
        with shared_heads() if arguments.use_cpu else nullcontext():
            loss = trainer.train(resume_from_checkpoint=checkpoint).training_loss
    # The trainer divides the loss of this process by the number of all steps, including those before an interruption.
    before = 0 if checkpoint is None else int(Path(checkpoint).name.split("-")[1])
    loss *= trainer.state.global_step / max(1, trainer.state.global_step - before)
    best = trainer.state.best_metric
    if not math.isfinite(loss) or (best is not None and not math.isfinite(best)):
        raise TrainingError(f"the loss became {loss}, on `eval` {best}; lower `learning_rate`")
    return float(loss)


def _save(trainer: Any, base: LocalModel, settings: Settings) -> Literal["model", "adapter"]:
    """Save an adapter or a whole model to ``folder / "model"``.

    Adapters are merged if the base model has an adapter itself, and for plain text, whose result can be trained
    further.

    Returns:
        The form that was saved.
    """
    folder = settings.folder / "model"
    if is_main_process():
        shutil.rmtree(folder, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(folder), _internal_call=True)
    form: Literal["model", "adapter"] = "adapter" if settings.method in ADAPTERS else "model"
    merged = form == "adapter" and (settings.objective == "text" or is_adapted(base))
    if is_main_process():
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle file; the manifest contains more
        if merged:
            whole = PeftModel.from_pretrained(_whole(base), folder).merge_and_unload()
            shutil.rmtree(folder)
            whole.save_pretrained(folder)
            base.tokenizer.save_pretrained(folder)
    return "model" if merged else form


def _flops(module: Any, rows: Sequence[TokenRow], settings: Settings) -> float:
    virtual = module.active_peft_config.num_virtual_tokens if settings.method == "prompt-tuning" else 0
    lengths = [length + virtual for row in rows for length in lengths_of(row)]
    layers = settings.layers if settings.method == "last-layers" else None
    return training_flops(module, lengths, layers=layers, reference=settings.objective == "preference")
