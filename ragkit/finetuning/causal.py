"""Fine-tuning of language models, on TRL and PEFT.

Rows are tokenized here, by the same code that tokenizes prompts in use, and handed to the trainer as ids and labels:
nothing is re-tokenized across the join of prompt and answer, and nothing is cut without being counted.
"""

from __future__ import annotations

import math
import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, PrinterCallback
from trl import SFTConfig, SFTTrainer

from ragkit.errors import TrainingError, TruncationWarning, UnsupportedError
from ragkit.finetuning import FineTuned
from ragkit.finetuning.manifest import Manifest, data_hash, open_run, run_hash
from ragkit.finetuning.step_progress import StepProgress
from ragkit.models import load_model
from ragkit.models.loading import fingerprint_of, load_tuned
from ragkit.models.local import LocalModel
from ragkit.progress import progress, quiet_transformers
from ragkit.records import Example
from ragkit.templates import Template


def train_causal(  # noqa: PLR0913
    model: Any,
    train: Sequence[Example],
    *,
    method: str,
    held_out: Sequence[Example] | None,
    folder: Path,
    template: Template | None,
    epochs: float,
    learning_rate: float | None,
    seed: int,
    peft_config: Any,
    trainer_config: Mapping[str, object],
) -> FineTuned:
    """Train a language model; see `ragkit.finetune`.

    Returns:
        The tuned model with its record.

    Raises:
        TrainingError: If the loss is not a number.
        UnsupportedError: If the model is not a local base model.
    """
    base = load_model(model)
    if not isinstance(base, LocalModel) or hasattr(base.module, "peft_config"):
        raise UnsupportedError(f"only a local base model can be fine-tuned here, got {base.name}")
    template = template or Template()
    rate = learning_rate or default_rate(method, base.module.num_parameters())
    facts = {
        "base": fingerprint_of(base.source), "method": method, "data": data_hash(train), "template": repr(template),
        "epochs": epochs, "rate": rate, "seed": seed, "peft": peft_config, "trainer": dict(trainer_config),
        "held_out": data_hash(held_out) if held_out else None,
    }  # fmt: skip
    run = run_hash(**facts)
    rows, counts = encode_rows(base, train, template)
    if open_run(folder, run):
        tuned = load_tuned(folder)
        return FineTuned(tuned, folder, Manifest.read(folder))
    started = time.perf_counter()
    with _random_state_kept(), quiet_transformers(), progress("fine-tuning", None) as advance:
        trainer = _trainer(base, rows, folder, method, epochs, rate, seed, peft_config, trainer_config,
                           encode_rows(base, held_out, template)[0] if held_out else None)  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(StepProgress(advance))
        checkpoints = sorted((folder / "checkpoints").glob("checkpoint-*"))
        result = trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
        if not math.isfinite(result.training_loss):
            raise TrainingError(f"the loss became {result.training_loss}; lower `learning_rate` (now {rate:g})")
        trainer.model.save_pretrained(folder / "model")
        base.tokenizer.save_pretrained(folder / "model")
    manifest = Manifest(
        kind="causal",
        method=method,
        run=run,
        base="tiny" if base.name == "tiny" else base.source,
        base_fingerprint=fingerprint_of(base.source),
        query=template.query,
        answer=template.answer,
        separator=template.separator,
        instruction=template.instruction,
        seed=seed,
        epochs=epochs,
        learning_rate=rate,
        rows=counts,
        tokens=round(sum(len(row["input_ids"]) for row in rows) * epochs),
        seconds=time.perf_counter() - started,
        loss=result.training_loss,
        versions={name: version(name) for name in ("torch", "transformers", "peft", "trl")},
    )
    manifest.write(folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return FineTuned(load_tuned(folder), folder, manifest)


def default_rate(method: str, parameters: int) -> float:
    """A learning rate by method and size: small models and adapters take larger steps.

    Returns:
        The highest rate of the schedule.
    """
    if method == "lora":
        return 5e-3 if parameters < 10**7 else 1e-3 if parameters < 10**8 else 2e-4
    return 1e-3 if parameters < 10**7 else 1e-4 if parameters < 10**8 else 2e-5


def encode_rows(
    model: LocalModel, examples: Sequence[Example], template: Template
) -> tuple[list[dict[str, list[int]]], dict[str, int]]:
    """Tokenize examples for training: the prompt without loss, then the answer and the end of text.

    A prompt that does not fit the window with its answer loses tokens from its beginning; an answer that alone does
    not fit is dropped with its row. Neither happens silently.

    Returns:
        Rows of ``input_ids`` and ``labels``, and how many rows were kept, truncated and dropped.

    Raises:
        TrainingError: If no row is left.
    """
    window = model.capabilities.window or 10**9
    end = [model.tokenizer.eos_token_id] if model.tokenizer.eos_token_id is not None else []
    rows, counts = [], {"kept": 0, "truncated": 0, "dropped": 0}
    for example in examples:
        prompt = model.encode_prompt(template.prompt([], example.input))
        answer = model.encode_text(template.render_answer(example.output)) + end
        room = window - len(answer)
        if room < 8:
            counts["dropped"] += 1
            continue
        counts["truncated" if len(prompt) > room else "kept"] += 1
        prompt = prompt if len(prompt) <= room else prompt[:1] + prompt[1 - room :]
        rows.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    if not rows:
        raise TrainingError(f"no answer fits the model's window of {window} tokens; use a model with a larger one")
    if counts["truncated"] or counts["dropped"]:
        said = (
            f"of {len(examples)} training rows {counts['truncated']} lost the beginning of their prompt "
            f"and {counts['dropped']} were dropped (window {window} tokens)"
        )
        warn(TruncationWarning(said), stacklevel=4)
    return rows, counts


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer, reporting to nobody."""

    def _send_telemetry(self) -> None:
        return


def _trainer(
    base: LocalModel,
    rows: list[dict[str, list[int]]],
    folder: Path,
    method: str,
    epochs: float,
    rate: float,
    seed: int,
    peft_config: Any,
    trainer_config: Mapping[str, object],
    held_out: list[dict[str, list[int]]] | None,
) -> Any:
    # The base is read afresh: PEFT changes the model it is given, and `base` must stay what it was.
    module = AutoModelForCausalLM.from_pretrained(base.source, dtype=torch.float32)
    settings: dict[str, Any] = {
        "output_dir": str(folder / "checkpoints"),
        "per_device_train_batch_size": 16,
        "num_train_epochs": epochs,
        "learning_rate": rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 10,
        "seed": seed,
        "data_seed": seed,
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "no",
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "activation_checkpointing": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    if held_out:
        settings |= {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    if method == "lora" and peft_config is None:
        peft_config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return _Trainer(
        model=module,
        args=SFTConfig(**(settings | dict(trainer_config))),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(held_out) if held_out else None,
        processing_class=base.tokenizer,
        peft_config=peft_config,
    )


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Trainers seed every generator there is; the caller's are put back afterwards."""
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
