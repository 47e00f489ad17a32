"""Generation and parsing of answers, shared by all strategies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from ragkit.answers import AnswerReader, FinalAnswer, ReadAnswer, load_reader
from ragkit.errors import AnswerFormError, RagkitError, ReasoningTruncatedError, RefusalError
from ragkit.models._results import raised, results_of_requests
from ragkit.models._sampling import Sampling
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Completion
from ragkit.templates import Template


class Answering:
    """A model with a template and an answer reader.

    If the template has labels and the reader extracts a label, generation is constrained to the labels, provided that
    the model supports it.

    Attributes:
        model: The model.
        template: The template in the form that suits the model.
        labels: The labels of the task; the template lists them only as long as they fit.
        reader: The answer reader.
        max_tokens: Maximum number of tokens of an answer.
        reasons: Whether the completions contain reasoning before the answer.
    """

    def __init__(
        self,
        model: LanguageModel,
        template: Template,
        *,
        reader: str | AnswerReader = "auto",
        max_tokens: int = 64,
        reasons: bool = False,
    ) -> None:
        """Set the form of the template for the model, and load the reader; `Task.reader` describes ``"auto"``."""
        self.model, self.template, self.labels = model, template.for_model(model), template.labels
        spec = ("label" if self.labels else "whole") if reader == "auto" else reader
        self.reader = load_reader(spec, labels=self.labels or None)
        self.max_tokens, self.reasons = max_tokens, reasons
        constrains = self.reader.spec == "label" and model.capabilities.choices and all(map(str.strip, self.labels))
        self._choices = tuple(map(self.template.render_answer, self.labels)) if constrains else None

    @cached_property
    def longest(self) -> int:
        """Maximum number of tokens of an answer: `max_tokens`, or more if a label with its end needs more."""
        longest = sorted(self._choices or (), key=len)[-8:]
        return max([self.max_tokens, *(self.model.count_tokens(choice) + 2 for choice in longest)])

    def answers(
        self, prompts: Sequence[AnyPrompt], *, temperature: float = 0.0, seed: int = 0
    ) -> list[tuple[ReadAnswer, Completion]]:
        """Generate an answer to each prompt and extract it from the completion.

        An API model may return a completion that is not a label although it was constrained to the labels; it is read
        like any other completion. A refusal counts as unreadable, and so does reasoning without an answer. If
        completions contain reasoning, the last line of a truncated one is not read, because it is incomplete.

        Args:
            prompts: Prompts rendered by the template.
            temperature: Sampling temperature; 0 for greedy decoding.
            seed: Seed of the sampling.

        Returns:
            The answers with their completions, in the same order.
        """
        return self.sampled(prompts, [(temperature, seed)])[0]

    def sampled(
        self, prompts: Sequence[AnyPrompt], draws: Sequence[tuple[float, int]], *, logprobs: bool = False
    ) -> list[list[tuple[ReadAnswer, Completion]]]:
        """Generate several answers to each prompt, all in one call of the model.

        Args:
            prompts: Prompts rendered by the template.
            draws: Temperature and seed of each sample.
            logprobs: Whether to request the log-probabilities of the answers, if the model is an API that returns them.

        Returns:
            For each sample, what `answers` returns.
        """
        # An earlier answer may have shown that the server ignores constraints.
        choices = self._choices if self.model.capabilities.choices else None
        common = Sampling(
            max_tokens=self.longest, stop=self.template.stop, choices=choices,
            logprobs=logprobs and getattr(self.model, "requests_logprobs", False),
        )  # fmt: skip
        settings = [replace(common, temperature=temperature, seed=seed) for temperature, seed in draws]
        results = results_of_requests(self.model, [(prompt, each) for each in settings for prompt in prompts])
        done = raised([_completion(result) for result in results])
        read = [(self._read(result, each), each) for result, each in zip(results, done, strict=True)]
        size = len(prompts)
        return [read[number * size : (number + 1) * size] for number in range(len(draws))]

    def _read(self, result: Completion | RagkitError, completion: Completion) -> ReadAnswer:
        if isinstance(result, RefusalError | ReasoningTruncatedError):
            return ReadAnswer(completion.text, readable=False, why=str(result))
        text = self.template.read_answer(completion.text)
        if not (self.reasons and completion.finish_reason == "length"):
            return self.reader.read(text)
        complete = text.rpartition("\n")[0]
        marked = replace(self.reader, unmarked=None) if isinstance(self.reader, FinalAnswer) else self.reader
        read = marked.read(complete)
        if read.readable:
            return read
        why = f"the reasoning was truncated after {completion.usage.completion_tokens} tokens, before an answer"
        return ReadAnswer(text.strip(), readable=False, why=why)


def _completion(result: Completion | RagkitError) -> Completion | RagkitError:
    with_completion = AnswerFormError | RefusalError | ReasoningTruncatedError
    return result.completion if isinstance(result, with_completion) else result
