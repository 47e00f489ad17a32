"""Results of batches: a completion or an error for each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from ragkit.errors import (
    AnswerFormError,
    BatchError,
    BudgetExceededError,
    ModelAccessError,
    RagkitError,
    ReasoningTruncatedError,
    RefusalError,
)
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Completion, Usage

if TYPE_CHECKING:
    from ragkit.models._sampling import Sampling


def price_of(model: LanguageModel, usage: Usage) -> float | None:
    """Compute the cost of a call of a model in US dollars; None if the price is unknown."""
    cost_of = getattr(model, "cost_of", None)
    return None if cost_of is None else cost_of(usage)


def results_of(
    model: LanguageModel, prompts: Sequence[AnyPrompt], sampling: Sampling
) -> list[Completion | RagkitError]:
    """Call a model with a batch, and return a completion or an error for each prompt."""
    separate = getattr(model, "results", None)  # of a `LayeredModel`, which keeps the error of each prompt if all fail
    try:
        if separate is not None:
            return list(separate([(prompt, sampling) for prompt in prompts]))
        return list(model.generate(list(prompts), **sampling.options()))
    except BatchError as error:
        return error.results
    except RagkitError as error:
        each = error.__cause__  # see `raised`
        return (
            each.results
            if isinstance(each, BatchError) and len(each.results) == len(prompts)
            else [error] * len(prompts)
        )


def results_of_requests(
    model: LanguageModel, requests: Sequence[tuple[AnyPrompt, Sampling]]
) -> list[Completion | RagkitError]:
    """Call a model with prompts that may have different settings; neighbours with equal settings are one batch.

    A model with middleware receives all requests at once.

    Returns:
        A completion or an error for each request.
    """
    separate = getattr(model, "results", None)
    if separate is not None and any(sampling != requests[0][1] for _, sampling in requests):
        try:
            return list(separate(requests))
        except RagkitError as error:
            return [error] * len(requests)
    parts = groupby(requests, key=lambda request: request[1])
    return [
        result for sampling, part in parts for result in results_of(model, [prompt for prompt, _ in part], sampling)
    ]


def results_of_each(
    model: LanguageModel, prompts: Sequence[AnyPrompt], sampling: Sampling
) -> list[Completion | RagkitError]:
    """Call a model like `results_of`, but retry each prompt separately if the whole batch fails."""
    results = results_of(model, prompts, sampling)
    if not failed_as_a_whole(results):
        return results
    return [results_of(model, [prompt], sampling)[0] for prompt in prompts]


def failed_as_a_whole(results: Sequence[Completion | RagkitError | None]) -> bool:
    """Whether one prompt may have caused the failure of all, so that the others could succeed on their own."""
    first = results[0] if results else None
    whole = isinstance(first, RagkitError) and len(results) > 1 and all(result is first for result in results)
    return whole and not isinstance(first, ModelAccessError | BudgetExceededError)  # these would be raised again


def raised(results: Sequence[Completion | RagkitError]) -> list[Completion]:
    """Return the completions, or raise an error if any prompt failed.

    Returns:
        The completions.

    Raises:
        RagkitError: The first error, if all prompts failed.
        BatchError: If some prompts failed.
    """
    answers = [result for result in results if isinstance(result, Completion)]
    if len(answers) == len(results):
        return answers
    first = next(result for result in results if isinstance(result, RagkitError))
    if not answers:
        if len(results) > 1 and isinstance(first, AnswerFormError | RefusalError | ReasoningTruncatedError):
            raise first from BatchError(results)  # each prompt has its own completion
        raise first
    raise BatchError(results) from first
