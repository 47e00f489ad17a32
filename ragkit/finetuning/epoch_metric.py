"""The task's own metric on held-out rows after each epoch, from answers generated and read as they are in use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

from ragkit.answering import Answering
from ragkit.metrics import AnyMetric, load_metric, score_answers
from ragkit.models.local import LocalModel
from ragkit.records import Example
from ragkit.templates import Template

NAME = "answers"  # the trainer calls the metric eval_answers


class EpochMetric:
    """Mixin for a trainer of transformers that scores the model's answers whenever it evaluates.

    Attributes:
        answer_score: Scores the module in training; None for the loss alone.
    """

    answer_score: Callable[[Any], float] | None = None

    def evaluation_loop(self, *arguments: Any, **named: Any) -> Any:
        """Add the score of the answers to the trainer's own metrics.

        Returns:
            The output of the trainer's evaluation.
        """
        output = super().evaluation_loop(*arguments, **named)  # type: ignore[misc]
        if self.answer_score is not None:
            prefix = named.get("metric_key_prefix", "eval")
            output.metrics[f"{prefix}_{NAME}"] = self.answer_score(self.model)  # type: ignore[attr-defined]
        return output


def answer_scorer(
    base: LocalModel, template: Template, rows: Sequence[Example], metric: AnyMetric
) -> Callable[[Any], float]:
    """Make a function that scores a module in training.

    Args:
        base: The model that is trained; its tokenizer is used.
        template: The template of training.
        rows: The held-out rows.
        metric: The metric.

    Returns:
        A function from a module to the mean score of its answers, from 0 to 1.
    """
    judge = load_metric(metric)
    prompts = [template.prompt([], row.input) for row in rows]

    def score(module: Any) -> float:
        training = module.training
        try:
            model = LocalModel(module, base.tokenizer, name=base.name, fingerprint="training", source=base.source)
            most = 8 + max(model.count_tokens(row.output) for row in rows)
            answers = Answering(model, template, max_tokens=most).answers(prompts)
        finally:
            module.train(training)
        return mean(score_answers(judge, [read.text for read, _ in answers], rows))

    return score
