"""The same prompts through two backends: do they answer the same, and where do they part?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragkit.errors import EmptyPoolError, RagkitError
from ragkit.models import load_model
from ragkit.models.prompts import checked_prompts, prompt_text
from ragkit.models.results import results_of_each
from ragkit.models.sampling import Sampling
from ragkit.progress import progress
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Completion

__all__ = ["Difference", "Parity", "parity"]

_GROUP = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where two answers to one prompt part.

    Attributes:
        place: Place of the prompt, from 0.
        prompt: Its text.
        character: The first character that differs, from 0.
        token: The first token that differs, from 0, by the tokenizer of a local model; None where there is none.
        texts: Both answers; an error's message in the place of an answer that failed.
        prompt_tokens: Tokens that either read; where these differ, so do the templates around the prompt.
        finish_reasons: Why either ended; ``"error"`` for an answer that failed.
    """

    place: int
    prompt: str
    character: int
    token: int | None
    texts: tuple[str, str]
    prompt_tokens: tuple[int, int]
    finish_reasons: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What came of a comparison of two backends.

    Attributes:
        models: Names of both.
        prompts: Prompts that both were asked.
        equal: Prompts with the same answer from both.
        first: The first difference, None where there is none.
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
    """Ask two backends the same, greedily, and find the first answer that differs.

    An adapter merged for another server, or another server altogether, should answer as the model here does; where it
    does not, the template, the merge or the arithmetic differs. An answer differs in its text or the reason of its end.

    Args:
        model: A model or its spec.
        other: The other one.
        prompts: What both are asked.
        max_tokens: Tokens written at the most.
        stop: Sequences at which answers end.

    Returns:
        How many answers are equal, and the first difference.

    Raises:
        EmptyPoolError: If there are no prompts.
        RagkitError: If neither model gives an answer to a prompt.
    """
    batch = checked_prompts(prompts)
    if not batch:
        raise EmptyPoolError("`prompts` of parity")
    both = load_model(model), load_model(other)
    sampling = Sampling(max_tokens=max_tokens, stop=tuple(stop))
    first: Difference | None = None
    equal = 0
    with progress("asking both", len(batch)) as advance:
        for start in range(0, len(batch), _GROUP):
            some = batch[start : start + _GROUP]
            answers = zip(*(results_of_each(one, some, sampling) for one in both), strict=True)
            for place, (ours, theirs) in enumerate(answers, start):
                if _same(ours, theirs):
                    equal += 1
                elif first is None:
                    first = _difference(both, place, batch[place], ours, theirs)
            advance(len(some))
    return Parity(models=(both[0].name, both[1].name), prompts=len(batch), equal=equal, first=first)


def _same(ours: Completion | RagkitError, theirs: Completion | RagkitError) -> bool:
    if isinstance(ours, RagkitError) and isinstance(theirs, RagkitError):
        raise ours
    if isinstance(ours, RagkitError) or isinstance(theirs, RagkitError):
        return False
    return (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)


def _difference(
    both: tuple[LanguageModel, LanguageModel],
    place: int,
    prompt: AnyPrompt,
    ours: Completion | RagkitError,
    theirs: Completion | RagkitError,
) -> Difference:
    texts = _text(ours), _text(theirs)
    return Difference(
        place=place,
        prompt=prompt_text(prompt),
        character=_shared(*texts),
        token=_token(both, texts),
        texts=texts,
        prompt_tokens=(_read(ours), _read(theirs)),
        finish_reasons=(_reason(ours), _reason(theirs)),
    )


def _text(answer: Completion | RagkitError) -> str:
    return answer.text if isinstance(answer, Completion) else str(answer)


def _read(answer: Completion | RagkitError) -> int:
    return answer.usage.prompt_tokens if isinstance(answer, Completion) else 0


def _reason(answer: Completion | RagkitError) -> str:
    return answer.finish_reason if isinstance(answer, Completion) else "error"


def _token(both: tuple[LanguageModel, LanguageModel], texts: tuple[str, str]) -> int | None:
    encode = next((found for model in both if (found := getattr(model, "encode_text", None)) is not None), None)
    if encode is None:
        return None
    ids: list[list[int]] = [encode(text) for text in texts]
    return _shared(*ids)


def _shared(one: Sequence[object], two: Sequence[object]) -> int:
    """How long two sequences are the same."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(two)))
