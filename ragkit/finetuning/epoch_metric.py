"""The task's metric on held-out rows after each epoch, with answers generated and parsed as in inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import mean
from typing import Any

from ragkit.answering import Answering
from ragkit.finetuning.soft_prompt import in_training
from ragkit.metrics import AnyMetric, load_metric, score_answers
from ragkit.models.local import LocalModel
from ragkit.records import Example
from ragkit.templates import Template

NAME = "answers"  # the trainer reports the metric as eval_answers
RANK = "rank"  # the selection criterion: the metric, with ties resolved by the loss
LEAST_GAIN = 1e-6  # more than the loss contributes, and less than one more correct answer in 500,000 rows


class EpochMetric:
    """A mixin for transformers trainers that also scores the model's answers in each evaluation.

    Attributes:
        answer_score: Function that scores the module in training; None to use only the loss.
    """

    answer_score: Callable[[Any], float] | None = None

    def evaluation_loop(self, *arguments: Any, **named: Any) -> Any:
        """Run the trainer's evaluation and add the score of the answers to its metrics.

        Returns:
            The output of the trainer's evaluation.
        """
        output = super().evaluation_loop(*arguments, **named)  # type: ignore[misc]
        if self.answer_score is not None:
            prefix = named.get("metric_key_prefix", "eval")
            score, loss = self.answer_score(self.model), output.metrics[f"{prefix}_loss"]  # type: ignore[attr-defined]
            rank = score - LEAST_GAIN * loss / (1 + loss)
            output.metrics.update({f"{prefix}_{NAME}": score, f"{prefix}_{RANK}": rank})
        return output


def answer_scorer(
    base: LocalModel, held_out: Sequence[tuple[Example, Template]], metric: AnyMetric
) -> Callable[[Any], float]:
    """Return a function that scores a module in training.

    Args:
        base: The model that is trained, whose tokenizer is used.
        held_out: The held-out rows, each with its template.
        metric: The metric.

    Returns:
        A function that maps a module to the mean score of its answers, from 0 to 1.
    """
    judge, rows = load_metric(metric), [row for row, _ in held_out]
    places: dict[Template, list[int]] = {}
    for place, (_, template) in enumerate(held_out):
        places.setdefault(template, []).append(place)

    def score(module: Any) -> float:
        answers = [""] * len(rows)
        with _asked(module, base) as model:
            for template, some in places.items():
                most = 8 + max(model.count_tokens(rows[place].output) for place in some)
                answering = Answering(model, template, max_tokens=most)
                prompts = [answering.template.prompt([], rows[place].input) for place in some]
                for place, (read, _) in zip(some, answering.answers(prompts), strict=True):
                    answers[place] = read.text
        return mean(score_answers(judge, answers, rows))

    return score


@contextmanager
def _asked(module: Any, base: LocalModel) -> Iterator[LocalModel]:
    """Use a module in training as a language model within a block, and restore its training mode afterwards."""
    training = module.training
    try:
        if getattr(module, "peft_type", None) == "PROMPT_TUNING":
            with in_training(module, base) as model:
                yield model
        else:
            yield LocalModel(module, base.tokenizer, name=base.name, fingerprint="training", source=base.source)
    finally:
        module.train(training)
