"""Classification by the likelihood that a language model assigns to each class, with calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ragkit._progress import progress
from ragkit.errors import InvalidInputError
from ragkit.models._middleware import LayeredModel
from ragkit.protocols import LanguageModel
from ragkit.records import Example, Fields, Prompt, Selection
from ragkit.tasks import Task
from ragkit.templates import Template
from ragkit_pipelines.compare.strategies.base import SHOTS, Outcome, Setting, at_k, shown_prompts
from ragkit_pipelines.compare.strategies.calls import ROWS
from ragkit_pipelines.few_shot import FewShot

Direction = Literal["score", "channel"]
Calibrated = Literal["contextual", "batch", "pmi"]
CALIBRATIONS: tuple[Calibrated, ...] = get_args(Calibrated)
CONTENT_FREE = ("N/A", "[MASK]", "none")  # inputs without information about the class

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Scoring:
    """Predict the most probable class under the model, with in-context examples or without (``selector=None``).

    ``score`` compares the likelihood of each class after the input, as a whole answer with its end, so that classes of
    different length need no correction (rank classification, https://arxiv.org/abs/2110.08207). ``channel`` compares
    the likelihood of the input after each class, with the roles of the examples reversed (Min et al., "Noisy Channel
    Language Model Prompting", ACL 2022). The confidence is the softmax over the classes. Classes are the task's labels,
    or the outputs of the pool if it has none.

    An API that returns only the probabilities of the first token cannot tell classes apart that begin alike. They are
    then listed with letters, which stand for them in the examples and the answer.

    Language models prefer some classes whatever the input is. A calibration removes that preference:

    - ``contextual`` divides by the probability of each class after the same examples and inputs without content (Zhao
      et al., "Calibrate Before Use", ICML 2021).
    - ``batch`` divides by the mean probability of each class over all test inputs, which it needs together, without
      their labels (Zhou et al., "Batch Calibration", ICLR 2024).
    - ``pmi`` divides by the likelihood of the class after an input without content and no examples (Holtzman et al.,
      "Surface Form Competition", EMNLP 2021). With ``channel``, it divides by that of the input without content after
      the class.

    Attributes:
        selector: Spec of the selector of examples; None for no examples.
        k: Number of examples.
        direction: ``"score"`` or ``"channel"``.
        calibration: How scores are calibrated; None for raw scores.
    """

    needs_model: ClassVar[bool] = True
    selector: str | None = None
    k: int = SHOTS
    direction: Direction = "score"
    calibration: Calibrated | None = None

    @property
    def name(self) -> str:
        """``score`` or ``score:<selector>``, with ``@<k>`` if k is not 8 and ``+<calibration>``."""
        source = f":{self.selector}{at_k(self.k)}" if self.selector else ""
        return f"{self.direction}{source}{f'+{self.calibration}' if self.calibration else ''}"

    def check(self, task: Task, model: LanguageModel | None) -> None:
        """Raise an error if the model returns no probabilities, or most outputs occur only once."""
        able = model is None or model.capabilities.score
        if model is not None and not able and not (self.direction == "score" and model.capabilities.logprobs):
            raise InvalidInputError(
                f"strategy {self.name!r} needs log-probabilities, which {model.name} does not provide; use a local "
                "model, or few-shot with several samples (--samples), whose agreement is a confidence too"
            )
        outputs = {example.output for example in task.examples}
        labels = sorted(set(task.labels or outputs))
        if not able and model is not None and len(labels) > len(ascii_uppercase) and _begin_alike(labels):
            raise InvalidInputError(
                f"strategy {self.name!r} would need letters for {len(labels)} classes that begin alike, because "
                f"{model.name} returns only the probabilities of the first token; at most {len(ascii_uppercase)} are "
                "supported, so use few-shot, or a model that scores whole answers"
            )
        if not task.labels and 2 * len(outputs) > len(task.examples):
            raise InvalidInputError(
                f"strategy {self.name!r} needs classes, but {len(task.examples)} examples have {len(outputs)} "
                "different outputs; use few-shot, or a `Task` with `labels`"
            )

    def run(self, setting: Setting) -> Outcome:
        """Select examples and score all classes."""
        labels = sorted(set(setting.task.labels or (example.output for example in setting.pool)))
        queries, chosen, fit_seconds = setting.queries, [Selection()] * len(setting.queries), 0.0
        kind = _Direct if self.direction == "score" else _Channel
        scorer = kind(setting.language_model(self.name), setting.task, labels)
        started = setting.clock.now()
        if self.selector:
            selector, fit_seconds = setting.selector(self.selector)
            chosen = selector.select_many(queries, setting.within_pool(self.k, self.name))
        selecting = setting.clock.now() - started - fit_seconds
        scores = self._calibrated(scorer, queries, chosen)
        seconds = selecting + scorer.model.score_seconds
        shares = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
        return Outcome(
            [labels[index] for index in scores.argmax(axis=1)],
            prompt_tokens=scorer.prompt_tokens,
            completion_tokens=scorer.scored_tokens,
            seconds=seconds,
            fit_seconds=fit_seconds,
            prompts=shown_prompts(scorer.prompts, scorer.model),
            labels=None if self.selector else 0,
            confidence=shares.max(axis=1).tolist(),
            confidence_kind=scorer.confidence_kind,
            note="classes are listed with letters" if isinstance(scorer, _Direct) and scorer.letters else "",
        )

    def _calibrated(
        self, scorer: _Direct | _Channel, queries: Sequence[str | Fields], chosen: Sequence[Selection]
    ) -> Scores:
        scores = scorer.scores(queries, chosen)
        if self.calibration == "batch":
            return scores - _log_mean(_log_softmax(scores))
        if self.calibration == "pmi":
            return scores - scorer.scores([_empty(queries[0])], [Selection()])
        if self.calibration == "contextual":
            priors = [scorer.scores([_empty(query, text) for query in queries], chosen) for text in CONTENT_FREE]
            mean: Scores = np.logaddexp.reduce([_log_softmax(each) for each in priors], axis=0)
            return _log_softmax(scores) - mean
        return scores


class _Direct:
    """Likelihoods of the classes after the inputs; ``prompts`` are those of the first call, one for each query."""

    def __init__(self, model: LayeredModel, task: Task, labels: Sequence[str]) -> None:
        exact = model.capabilities.score
        self.letters = dict(zip(labels, ascii_uppercase, strict=False)) if not exact and _begin_alike(labels) else {}
        self.confidence_kind = f"probability of the {'letter' if self.letters else 'first token'}"
        self.confidence_kind = "probability" if exact else self.confidence_kind
        template = _lettered(task.template, self.letters).for_model(model)
        self.model, self.labels, self.chat = model, labels, template.form == "chat"
        self.choices = [template.render_answer(self.letters.get(label, label)) for label in labels]
        self.lengths = [model.count_tokens(choice) + self.chat for choice in self.choices]
        self.pipeline = FewShot(model, None, template=template, max_tokens=max(self.lengths))
        self.prompts: list[Prompt] = []
        self.prompt_tokens = self.scored_tokens = 0

    def scores(self, queries: Sequence[str | Fields], chosen: Sequence[Selection]) -> Scores:
        """Log-likelihoods, f64[queries, labels]."""
        prompts = [
            self.pipeline.build(query, self._with_letters(shown))[0]
            for query, shown in zip(queries, chosen, strict=True)
        ]
        self.prompts = self.prompts or prompts
        self.prompt_tokens += sum(map(self.model.max_prompt_tokens, prompts))
        self.scored_tokens += sum(self.lengths) * len(prompts)
        return self.model.score(prompts, self.choices, end_of_turn=self.chat)

    def _with_letters(self, shown: Selection) -> Selection:
        examples = (replace(each, output=self.letters.get(each.output, each.output)) for each in shown)
        return replace(shown, examples=tuple(examples)) if self.letters else shown


class _Channel:
    """Likelihoods of the inputs after each class; the examples' inputs and outputs change roles.

    ``prompts`` are those of the first call, one for each query and class.
    """

    confidence_kind = "probability"

    def __init__(self, model: LayeredModel, task: Task, labels: Sequence[str]) -> None:
        reversed_template = Template(query="Output: {input}\nInput:", form=task.template.form).for_model(model)
        self.template = replace(reversed_template, separator=task.template.separator)
        self.model, self.labels, self.chat = model, labels, self.template.form == "chat"
        self.window = model.capabilities.window
        self.prompts: list[Prompt] = []
        self.prompt_tokens = self.scored_tokens = 0

    def scores(self, queries: Sequence[str | Fields], chosen: Sequence[Selection]) -> Scores:
        """Log-likelihoods, f64[queries, labels]."""
        made, first = np.empty((len(queries), len(self.labels))), not self.prompts
        with progress("scoring", len(queries), ROWS) as stage:
            for row, (query, shown) in enumerate(zip(queries, chosen, strict=True)):
                answer = self.template.render_answer(_text(query))
                examples = [Example(each.output, _text(each.input)) for each in shown]
                most = self.model.count_tokens(answer) + 1
                pipeline = FewShot(self.model, None, template=self.template, max_tokens=most)
                turned = replace(shown, examples=tuple(examples))
                prompts = [pipeline.build(label, turned)[0] for label in self.labels]
                self.prompts += prompts if first else []
                self.prompt_tokens += sum(map(self.model.max_prompt_tokens, prompts))
                self.scored_tokens += (most - 1 + self.chat) * len(prompts)
                made[row] = self.model.score(prompts, [answer], end_of_turn=self.chat)[:, 0]
                stage(1)
        return made


def _begin_alike(labels: Sequence[str]) -> bool:
    """Whether one token may begin several labels: a common token begins with a common character."""
    return len({label.strip()[:1] for label in labels}) < len(labels)


def _lettered(template: Template, letters: Mapping[str, str]) -> Template:
    """Return a template that lists the labels with their letters and asks for a letter."""
    if not letters:
        return template
    listed = "\n".join(f"{letter}: {label}" for label, letter in letters.items())
    task = "\n".join(filter(None, (template.instruction, "Answer with the letter of one of the following:", listed)))
    return replace(template, instruction=task, labels=())


def _text(query: str | Fields) -> str:
    return query if isinstance(query, str) else "\n".join(f"{name}: {text}" for name, text in query.items())


def _empty(query: str | Fields, text: str = CONTENT_FREE[0]) -> str | Fields:
    return text if isinstance(query, str) else dict.fromkeys(query, text)


def _log_softmax(scores: Scores) -> Scores:
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


def _log_mean(scores: Scores) -> Scores:
    found: Scores = np.logaddexp.reduce(scores, axis=0, keepdims=True) - np.log(len(scores))
    return found
