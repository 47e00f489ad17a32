"""Compare the answers of two backends to the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ragkit._progress import progress
from ragkit.errors import EmptyPoolError, RagkitError
from ragkit.models import load_model
from ragkit.models._prompts import checked_prompts, prompt_text
from ragkit.models._results import results_of_each
from ragkit.models._sampling import Sampling
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Completion

__all__ = ["Difference", "Parity", "parity"]

_GROUP = 32  # prompts per batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first difference between two answers to a prompt.

    Attributes:
        index: Index of the prompt.
        prompt: Its text.
        character: Index of the first character that differs.
        token: Index of the first token that differs, counted by the tokenizer of a local model; None if both are API
            models.
        texts: Both answers, or the error message if there is no answer.
        prompt_tokens: Number of prompt tokens of each model. If they differ, so do the chat templates.
        finish_reasons: Finish reason of each answer; ``"error"`` if there is no answer.
    """

    index: int
    prompt: str
    character: int
    token: int | None
    texts: tuple[str, str]
    prompt_tokens: tuple[int, int]
    finish_reasons: tuple[str, str]

    @property
    def place(self) -> int:
        """Raise an error, because this attribute was renamed."""
        raise AttributeError("Difference.place was renamed; use Difference.index")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The result of `parity`.

    Attributes:
        models: Names of both models.
        prompts: Number of prompts.
        equal: Number of prompts with equal answers.
        first: The first difference; None if all answers are equal.
    """

    models: tuple[str, str]
    prompts: int
    equal: int
    first: Difference | None


def parity(
    model: str | LanguageModel,
    other: str | LanguageModel,
    prompts: Sequence[AnyPrompt],
    *,
    max_tokens: int = 64,
    stop: Sequence[str] = (),
) -> Parity:
    """Send the same prompts to two backends with greedy decoding, and find the first difference.

    A merged adapter, or the same model on another server, should give the same answers as the original model. If it
    does not, the chat template, the merged weights or the arithmetic differ. Answers are equal if their texts and
    their finish reasons are equal.

    Args:
        model: A model or its spec.
        other: The model to compare with.
        prompts: The prompts for both.
        max_tokens: Maximum number of tokens per answer.
        stop: Stop sequences.

    Returns:
        The number of equal answers, and the first difference.

    Raises:
        EmptyPoolError: If there are no prompts.
        RagkitError: If both models fail on the same prompt.
    """
    batch = checked_prompts(prompts)
    if not batch:
        raise EmptyPoolError("`prompts` of parity")
    both = load_model(model), load_model(other)
    sampling = Sampling(max_tokens=max_tokens, stop=tuple(stop))
    first: Difference | None = None
    equal = 0
    with progress("comparing answers", len(batch)) as advance:
        for start in range(0, len(batch), _GROUP):
            group = batch[start : start + _GROUP]
            results = zip(*(results_of_each(each, group, sampling) for each in both), strict=True)
            for index, (ours, theirs) in enumerate(results, start):
                if isinstance(ours, RagkitError) and isinstance(theirs, RagkitError):
                    raise ours
                one, two = _answer(ours), _answer(theirs)
                if one[:2] == two[:2]:
                    equal += 1
                elif first is None:
                    first = _difference(both, index, batch[index], one, two)
            advance(len(group))
    return Parity(models=(both[0].name, both[1].name), prompts=len(batch), equal=equal, first=first)


class _Answer(NamedTuple):
    text: str
    finish_reason: str
    prompt_tokens: int


def _answer(result: Completion | RagkitError) -> _Answer:
    if isinstance(result, RagkitError):
        return _Answer(str(result), "error", 0)
    return _Answer(result.text, result.finish_reason, result.usage.prompt_tokens)


def _difference(
    models: tuple[LanguageModel, LanguageModel], index: int, prompt: AnyPrompt, one: _Answer, two: _Answer
) -> Difference:
    encode = next((found for model in models if (found := getattr(model, "encode_text", None)) is not None), None)
    return Difference(
        index=index,
        prompt=prompt_text(prompt),
        character=_shared(one.text, two.text),
        token=None if encode is None else _shared(encode(one.text), encode(two.text)),
        texts=(one.text, two.text),
        prompt_tokens=(one.prompt_tokens, two.prompt_tokens),
        finish_reasons=(one.finish_reason, two.finish_reason),
    )


def _shared(one: Sequence[object], two: Sequence[object]) -> int:
    """Return the length of the common prefix of two sequences."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(two)))
