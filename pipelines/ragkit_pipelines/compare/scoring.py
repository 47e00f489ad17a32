"""Classification by what a language model holds likely, where others let it write."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from ragkit.errors import InvalidInputError
from ragkit.protocols import LanguageModel
from ragkit.tasks import Task
from ragkit_pipelines.compare.setting import SHOTS, Outcome, Setting, at_k, need_model, selector_of
from ragkit_pipelines.few_shot import FewShot


@dataclass(frozen=True)
class Scoring:
    """Answer with the class that the model holds likeliest, after examples or (``selector=None``) without.

    Each class is scored as a whole answer, with what ends it: the score is that of writing exactly this, so classes of
    different length compare without a correction. The confidence is the likeliest one's share of all. Known as rank
    classification (https://arxiv.org/abs/2110.08207). Classes are the task's labels, else the outputs of the pool.

    Attributes:
        selector: Where examples come from.
        k: How many.
    """

    selector: str | None = None
    k: int = SHOTS

    @property
    def name(self) -> str:
        """``score`` or ``score:<selector>``, with ``@<k>`` where k is not 8."""
        return f"score:{self.selector}{at_k(self.k)}" if self.selector else "score"

    def check(self, task: Task, model: LanguageModel | None) -> None:
        """Refuse a model without probabilities, and outputs that are no classes.

        Raises:
            InvalidInputError: If there is no model, it cannot score, or outputs hardly ever come twice.
        """
        need_model(self.name, model)
        if model is not None and not model.capabilities.score:
            raise InvalidInputError(
                f"strategy {self.name!r} needs probabilities, which {model.name} does not give; take few-shot, or a "
                "local model"
            )
        outputs = {example.output for example in task.examples}
        if not task.labels and 2 * len(outputs) > len(task.examples):
            raise InvalidInputError(
                f"strategy {self.name!r} chooses among classes, but {len(task.examples)} examples have {len(outputs)} "
                "outputs; take few-shot, or a `Task` with `labels`"
            )

    def run(self, setting: Setting) -> Outcome:
        """Choose examples and score all classes.

        Returns:
            The outcome.
        """
        chooser = selector_of(self.selector, setting) if self.selector else None
        model, template = setting.language_model(self.name), setting.task.template
        labels = sorted(set(setting.task.labels or (example.output for example in setting.pool)))
        choices = [template.render_answer(label) for label in labels]
        written = [model.count_tokens(choice) for choice in choices]
        k = min(self.k, len(setting.pool))
        pipeline = FewShot.from_task(setting.task, model, chooser, k=k, max_tokens=max(written))
        prompts = [prompt for prompt, _ in pipeline.prompts([row.input for row in setting.task.test])]
        started = perf_counter()
        scores = model.score(prompts, choices)
        seconds = perf_counter() - started
        shares = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
        return Outcome(
            [labels[place] for place in scores.argmax(axis=1)],
            prompt_tokens=sum(model.count_tokens(prompt.text) for prompt in prompts),
            completion_tokens=sum(written) * len(prompts),
            seconds=seconds,
            prompts=[prompt.text for prompt in prompts],
            labels=None if self.selector else 0,
            confidence=shares.max(axis=1).tolist(),
        )
