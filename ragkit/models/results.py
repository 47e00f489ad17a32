"""What a batch gives: completions, and errors in the place of those that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ragkit.errors import BatchError, BudgetExceededError, ModelAccessError, RagkitError
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Completion, Usage

if TYPE_CHECKING:
    from ragkit.models.sampling import Sampling


def price_of(model: LanguageModel, usage: Usage) -> float | None:
    """What a call with these tokens costs on a model.

    Returns:
        US dollars; None where the price is not known.
    """
    cost_of = getattr(model, "cost_of", None)
    return None if cost_of is None else cost_of(usage)


def results_of(
    model: LanguageModel, prompts: Sequence[AnyPrompt], sampling: Sampling
) -> list[Completion | RagkitError]:
    """Ask a model a batch, an error in the place of an answer where there is none.

    Returns:
        For each prompt its completion or its error.
    """
    try:
        return list(model.generate(list(prompts), **sampling.options()))
    except BatchError as error:
        return error.results
    except RagkitError as error:
        return [error] * len(prompts)


def results_of_each(
    model: LanguageModel, prompts: Sequence[AnyPrompt], sampling: Sampling
) -> list[Completion | RagkitError]:
    """`results_of`, but where a batch fails as a whole each prompt is asked alone, so that one spoils no other.

    Returns:
        For each prompt its completion or its error.
    """
    results = results_of(model, prompts, sampling)
    first = results[0] if results else None
    whole = isinstance(first, RagkitError) and len(results) > 1 and all(result is first for result in results)
    if not whole or isinstance(first, ModelAccessError | BudgetExceededError):  # these would be told again
        return results
    return [results_of(model, [prompt], sampling)[0] for prompt in prompts]


def raised(results: Sequence[Completion | RagkitError]) -> list[Completion]:
    """Completions, if that is all there is.

    Returns:
        The completions.

    Raises:
        RagkitError: The first error, where nothing was answered.
        BatchError: Where only some prompts were answered.
    """
    answers = [result for result in results if isinstance(result, Completion)]
    if len(answers) == len(results):
        return answers
    first = next(result for result in results if isinstance(result, RagkitError))
    if not answers:
        raise first
    raise BatchError(results) from first
