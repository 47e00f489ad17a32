"""Strategies that fine-tune language models, with or without in-context examples, and encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np

from ragkit._progress import in_parts, progress
from ragkit.errors import InvalidInputError
from ragkit.finetuning import FineTuned, finetune
from ragkit.finetuning._settings import ENCODER_BATCH, PAIR_BATCH
from ragkit.protocols import LanguageModel
from ragkit.records import Chat, Example, Message, Prompt
from ragkit.templates import Template
from ragkit_pipelines.compare.private import file_name
from ragkit_pipelines.compare.strategies.base import (
    Outcome,
    Setting,
    held_out_rows,
    need_model,
    prompted,
    sum_known,
)
from ragkit_pipelines.compare.strategies.timing import TimedEmbedder, warm_up
from ragkit_pipelines.few_shot import FewShot

_BATCH = 16  # rows of a training step of language models
_PAIR_STEPS = 30  # of `setfit`, whatever the size of the pool
# Candidates for trials: factors of the default learning rate and number of epochs, most promising first.
_FACTORS = sorted(
    product((1.0, 0.3, 3.0, 0.1), (1.0, 2.0, 0.5, 4.0)), key=lambda each: sum(factor != 1 for factor in each)
)


@dataclass(frozen=True)
class Tuning:
    """Fine-tune the language model on the pool, then prompt it.

    If the comparison has trials, learning rates and epochs are tried on held-out examples first, and the best setting
    is trained on the whole pool. All trials count as fitting.

    Attributes:
        method: A method of `finetune` for language models.
        pretrain: Whether to continue pre-training on the inputs of the pool first (Gururangan et al., ACL 2020).
        selector: Spec of the selector of in-context examples, for training and prediction; None for no examples. A
            training row is never its own example.
        k: Number of in-context examples.
        epochs: Number of epochs; `usual_epochs` if None.
        learning_rate: The peak learning rate; the default of `finetune` if None.
        max_tokens: Maximum number of tokens of an answer; fits the longest output of the pool if None.
    """

    method: str = "lora"
    pretrain: bool = False
    selector: str | None = None
    k: int = 4
    epochs: float | None = None
    learning_rate: float | None = None
    max_tokens: int | None = None

    @property
    def name(self) -> str:
        """The method, with pre-training and in-context examples: ``text+lora``, ``lora+few-shot:bm25@4``."""
        shown = f"+few-shot:{self.selector}@{self.k}" if self.selector else ""
        return f"{'text+' if self.pretrain else ''}{self.method}{shown}"

    @property
    def needs_model(self) -> bool:
        """Whether it trains a language model; ``full`` trains the encoder if there is none."""
        return self.name != "full"

    def run(self, setting: Setting) -> Outcome:
        """Train, or load the trained model, and prompt it."""
        if isinstance(chosen := self.chosen(setting.model), EncoderTuning):
            return chosen.run(setting)
        if not self._tries(setting.trials):
            return self._once(setting, self.name)[0]
        learn, dev = setting.held_out(self.name)
        inner = setting.on(learn, dev)
        tried: list[tuple[float, Outcome, Tuning]] = []
        candidate = replace(self, epochs=self._epochs(len(setting.pool)))
        with progress("trying settings", setting.trials) as stage:
            for number, (rate, epochs) in enumerate(_FACTORS[: setting.trials]):
                changed = replace(candidate, epochs=(candidate.epochs or 3) * epochs)
                if number:
                    changed = replace(changed, learning_rate=(candidate.learning_rate or 0) * rate)
                outcome, used = changed._once(inner, f"{self.name} trial {number}")
                if not number:  # the default rate is known after the first run
                    candidate = changed = replace(changed, learning_rate=used)
                tried.append((inner.overall_score(outcome.answers), outcome, changed))
                stage(1)
        score, _, best = max(tried, key=lambda each: each[0])
        final, _ = best._once(setting, self.name)
        note = (
            f"learning rate {best.learning_rate:.2g}, {best.epochs:g} epochs: {score:.3f} on {len(dev)} held-out rows"
        )
        return replace(final.after(*(outcome for _, outcome, _ in tried)), note=note)

    def chosen(self, model: LanguageModel | None) -> Tuning | EncoderTuning:
        """Return the training of the encoder for ``full`` without a language model, otherwise this strategy."""
        if self.name != "full" or model is not None:
            return self
        return EncoderTuning("full", epochs=None if self.epochs is None else ceil(self.epochs))

    def shortened(self, steps: int, rows: int) -> Tuning:
        """Return the same strategy with few epochs; a provider's training is paid for, so it cannot be tried."""
        if self.method == "api":
            raise InvalidInputError("training by a provider is not tried for an estimate, because it is paid for")
        return replace(self, epochs=ceil(steps / ceil(rows / _BATCH)))

    def training_steps(self, rows: int, trials: int) -> int:
        """Return the number of training steps; the best of several trials is taken to have the usual epochs."""
        epochs, batches = self._epochs(rows), ceil(rows / _BATCH)
        tried = _FACTORS[:trials] if self._tries(trials) else []
        learn = ceil((rows - held_out_rows(rows)) / _BATCH)
        steps = ceil(batches * epochs) + sum(ceil(learn * epochs * factor) for _, factor in tried)
        return 2 * steps if self.pretrain else steps  # on the inputs, then on inputs and outputs

    def fitting_calls(self, rows: int, trials: int) -> int:
        """Return the number of answers to held-out rows."""
        return min(trials, len(_FACTORS)) * held_out_rows(rows) if self._tries(trials) else 0

    def _tries(self, trials: int) -> bool:
        return trials > 1 and self.method != "api"  # providers choose the learning rate themselves

    def _epochs(self, rows: int) -> float:
        return self.epochs or usual_epochs(rows)

    def _once(self, setting: Setting, folder: str) -> tuple[Outcome, float | None]:
        """Train once and answer; also return the learning rate, or None if a provider trained the model."""
        base, earlier = self._base(setting, setting.folder / file_name(f"{folder} text"))
        selector, selecting = None, 0.0
        if self.selector and len(setting.pool) > 1:
            selector, selecting = setting.selector(self.selector)
        # A row of the pool is not its own example.
        k = min(setting.within_pool(self.k, self.name), len(setting.pool) - 1) if self.selector else 0
        most = setting.answer_tokens(self.max_tokens)
        # Training and prediction use the same prompts.
        rows, template = _training_rows(FewShot.from_task(setting.task, base, selector, k=k, max_tokens=most), setting)
        tuned = finetune(
            base,
            rows,
            method=self.method,
            output_dir=setting.folder / file_name(folder),
            template=template,
            epochs=self._epochs(len(setting.pool)),
            learning_rate=self.learning_rate,
            seed=setting.seed_of("model"),
        )
        warm_up(tuned.model)
        model = setting.cached(tuned.model)
        pipeline = FewShot.from_task(setting.task, model, selector, k=k, max_tokens=most)
        spent = [tuned, *earlier]
        outcome = replace(
            prompted(pipeline, setting),
            fit_seconds=selecting + sum(run.manifest.seconds for run in spent),
            fit_tokens=sum(run.manifest.tokens for run in spent),
            trained_tokens=sum(run.manifest.tokens for run in spent),
            trained_flops=sum_known([run.manifest.flops for run in spent]),
            fit_cost=tuned.manifest.cost if self.method == "api" else 0.0,
        )
        return outcome, tuned.manifest.learning_rate

    def _base(self, setting: Setting, folder: Path) -> tuple[LanguageModel, list[FineTuned]]:
        model = need_model(self.name, setting.model)
        if not self.pretrain:
            return model, []
        texts = [row.text() for row in setting.pool]
        first = finetune(
            model, texts, method="lora", objective="text", output_dir=folder,
            epochs=self._epochs(len(texts)), seed=setting.seed_of("model"),
        )  # fmt: skip
        return first.model, [first]


def usual_epochs(rows: int) -> int:
    """Return the epochs that make about 60 steps in batches of 16: three for large pools, up to 15 for small ones."""
    return min(15, max(3, ceil(60 / ceil(rows / _BATCH))))


def _training_rows(pipeline: FewShot, setting: Setting) -> tuple[Sequence[Example | Chat], Template]:
    """Return the pool as training rows, with in-context examples if the pipeline has a selector, and their template."""
    template, selector = pipeline.template, pipeline.selector
    if selector is None:
        return setting.pool, setting.task.template
    rows: list[Example | Chat] = []
    for index, row in enumerate(setting.pool):
        own = str(index) if row.id is None else row.id  # a row must not be its own example
        prompt = pipeline.build(row.input, selector.select(row.input, pipeline.k, exclude=[own]))[0]
        rows.append(_whole_chat(prompt, row.output) if template.form == "chat" else Example(prompt.text, row.output))
    # Prompts of the text form are complete: instruction, examples and query.
    return rows, replace(template, query="{input}", instruction="", labels=())


def _whole_chat(prompt: Prompt, answer: str) -> Chat:
    """Return a conversation in which only the last answer is trained on."""
    assert prompt.chat is not None  # noqa: S101 - templates write both forms
    turns = [replace(turn, weight=0.0) if turn.role == "assistant" else turn for turn in prompt.chat.messages]
    return Chat((*turns, Message("assistant", answer)))


@dataclass(frozen=True)
class EncoderTuning:
    """Classify with an encoder, by a head on frozen embeddings or by training the whole encoder."""

    method: str = "classifier-head"
    epochs: int | None = None

    @property
    def name(self) -> str:
        """The method."""
        return self.method

    def shortened(self, steps: int, rows: int) -> EncoderTuning:
        """Return the same strategy with few epochs."""
        return replace(self, epochs=ceil(steps / self._batches(rows)))

    def training_steps(self, rows: int, _trials: int) -> int:
        """Return the number of training steps; a head on frozen embeddings is not trained in steps."""
        return 0 if self.method == "classifier-head" else self._batches(rows) * self._epochs(rows)

    def _batches(self, rows: int) -> int:
        return ceil(rows / (PAIR_BATCH if self.method == "setfit" else ENCODER_BATCH))

    def _epochs(self, rows: int) -> int:
        usual = ceil(_PAIR_STEPS / self._batches(rows)) if self.method == "setfit" else 2 if rows > 5000 else 4
        return self.epochs or usual

    def run(self, setting: Setting) -> Outcome:
        """Train, or load the trained classifier, and classify."""
        tuned = finetune(
            embedder.embedder if isinstance(embedder := setting.embedder, TimedEmbedder) else embedder,
            setting.pool,
            method=self.method,
            output_dir=setting.folder / self.method,
            epochs=self._epochs(len(setting.pool)),
            seed=setting.seed_of("model"),
        )
        started = setting.clock.now()
        texts = [row.text() for row in setting.task.test]
        labels = list(tuned.manifest.labels or ())
        log_probabilities = in_parts("classifying", lambda part: tuned.model.score(part, labels), texts)
        best = log_probabilities.argmax(axis=1)
        return Outcome(
            [labels[index] for index in best],
            seconds=setting.clock.now() - started,
            fit_seconds=tuned.manifest.seconds,
            cost=0.0,
            confidence=np.exp(log_probabilities.max(axis=1)).clip(0, 1).tolist(),
            confidence_kind="probability",
        )
