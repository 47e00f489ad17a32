"""Fine-tuning of language models with TRL and PEFT."""

from __future__ import annotations

import copy
import math
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from ragkit._progress import progress, quiet_transformers
from ragkit.errors import TrainingError
from ragkit.finetuning._adapters import add_adapter
from ragkit.finetuning._cpu_layers import share_frozen, shared_heads
from ragkit.finetuning._encoding import TokenRow, lengths_of, tokens_of
from ragkit.finetuning._flops import training_flops
from ragkit.finetuning._four_bit import four_bit_config
from ragkit.finetuning._manifest import Evaluation, Manifest, TemplateRecord, files_hash
from ragkit.finetuning._methods import ADAPTERS, copy_of, module_to_train, peft_config_of
from ragkit.finetuning._preparing import Prepared, base_of, is_adapted, prepare
from ragkit.finetuning._result import FineTuned
from ragkit.finetuning._runs import claimed, finish, is_main_process, last_checkpoint
from ragkit.finetuning._settings import Settings
from ragkit.finetuning._trainers import METRIC, answer_scorer, arguments_of, make_trainer
from ragkit.finetuning._training_loop import FreedMemory, SealedCheckpoints, StepProgress
from ragkit.models._devices import return_freed_memory
from ragkit.models._loading import load_tuned
from ragkit.models._local import LocalModel
from ragkit.models._sources import fingerprint_of


def train_causal(model: Any, train: Any, held_out: Any, settings: Settings) -> FineTuned:
    """Fine-tune a language model; see `ragkit.finetune`."""
    if settings.method == "qlora":
        four_bit_config()  # raises an error before anything is loaded
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
    # An adapter can be disabled, which gives the reference model of preferences.
    needs_reference = settings.objective == "preference" and settings.method not in ADAPTERS
    scorer = None if settings.metric is None else answer_scorer(base, prepared.scored, settings.metric)
    with quiet_transformers():
        trainer = make_trainer(
            module_to_train(base, settings), copy.deepcopy(base.tokenizer), arguments, rows=prepared.rows,
            held_out=prepared.held_out, settings=settings, peft_config=peft_config,
            reference=copy_of(base) if needs_reference else None, answer_score=scorer,
        )  # fmt: skip
        if hasattr(trainer.model, "get_base_model"):
            share_frozen(trainer.model, base.module)
        flops = _flops(trainer.model, prepared.rows, settings)
        loss = _train(trainer, settings.folder)
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


def _evaluations(state: Any) -> dict[int, Evaluation]:
    """Return the results on the held-out rows by training step, including those before the run was resumed."""
    return {
        logged["step"]: Evaluation(epoch=logged["epoch"], loss=logged["eval_loss"], metric=logged.get(METRIC))
        for logged in state.log_history
        if "eval_loss" in logged
    }


def _train(trainer: Any, folder: Path) -> float:
    """Train, resuming from the last checkpoint if there is one, and return the mean loss of this process's steps."""
    arguments, checkpoint = trainer.args, last_checkpoint(folder)
    return_freed_memory()  # from the conversion of weights
    with progress("fine-tuning", None, "steps") as stage:
        trainer.add_callback(StepProgress(stage))
        trainer.add_callback(FreedMemory())
        trainer.add_callback(SealedCheckpoints())
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
    """Return whether a whole model or an adapter was saved to ``folder / "model"``.

    Adapters are merged if the base model has an adapter itself, and for plain text, whose result can be trained
    further.
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
            whole = add_adapter(copy_of(base), folder, name="default", source=base.source).merge_and_unload()
            shutil.rmtree(folder)
            whole.save_pretrained(folder)
            base.tokenizer.save_pretrained(folder)
    return "model" if merged else form


def _flops(module: Any, rows: Sequence[TokenRow], settings: Settings) -> float:
    virtual = module.active_peft_config.num_virtual_tokens if settings.method == "prompt-tuning" else 0
    lengths = [length + virtual for row in rows for length in lengths_of(row)]
    layers = settings.layers if settings.method == "last-layers" else None
    return training_flops(module, lengths, layers=layers, reference=settings.objective == "preference")
