"""What every model shares: one prompt or many, sync or async, and the checks before any work."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from ragkit.errors import (
    BatchError,
    BudgetExceededError,
    InvalidInputError,
    ModelAccessError,
    ModelError,
    RagkitError,
    UnsupportedError,
)
from ragkit.protocols import AnyPrompt, Capabilities, LanguageModel, Schema
from ragkit.records import Chat, Completion, Prompt, Usage
from ragkit.text import read_json

_AROUND = 64  # tokens that a model may put around a prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to continue a prompt.

    Attributes:
        max_tokens: Tokens written at the most.
        temperature: 0 for the likeliest token each time.
        stop: Sequences at which the answer ends; they are not part of it.
        seed: Seed of the sampling.
        schema: JSON schema that the answer must follow; None for free text.
        choices: Texts one of which must be the answer; None for free text.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    schema: Mapping[str, object] | None = None
    choices: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.max_tokens, int) or self.max_tokens < 1:
            raise InvalidInputError(f"`max_tokens` must be a whole number of at least 1, got {self.max_tokens!r}")
        if not _is_number(self.temperature, int, float) or not 0 <= self.temperature <= 10:
            raise InvalidInputError(f"`temperature` must be a number between 0 and 10, got {self.temperature!r}")
        if not _is_texts(self.stop):
            raise InvalidInputError(f"`stop` must be a sequence of non-empty strings, got {self.stop!r}")
        if not _is_number(self.seed, int):
            raise InvalidInputError(f"`seed` must be a whole number, got {self.seed!r}")
        if self.choices is not None and not (self.choices and _is_texts(self.choices)):
            raise InvalidInputError(f"`choices` must be a sequence of non-empty strings, got {self.choices!r}")
        if self.choices is not None and self.schema is not None:
            raise InvalidInputError("an answer follows `schema` or is one of `choices`; give one of them")

    def options(self) -> dict[str, Any]:
        """The arguments of `LanguageModel.generate`; `schema` and `choices` only where they are given."""
        given: dict[str, Any] = {name: getattr(self, name) for name in ("max_tokens", "temperature", "stop", "seed")}
        if self.schema is not None:
            given["schema"] = self.schema
        if self.choices is not None:
            given["choices"] = self.choices
        return given


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _is_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) and text for text in value)


class CompletionStream(Iterator[str]):
    """Pieces of an answer as they come.

    Attributes:
        completion: The whole answer with its tokens and cost, once the pieces are used up; None before.
    """

    def __init__(self, pieces: Generator[str, None, Completion]) -> None:
        """Take a generator that yields the pieces and returns the whole."""
        self._pieces = pieces
        self.completion: Completion | None = None

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration as end:
            self.completion = end.value or self.completion
            raise

    def close(self) -> None:
        """Give up the rest of the answer."""
        self._pieces.close()


class ModelBase(ABC):
    """A `LanguageModel` but for one method: a subclass answers a batch."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The spec that loads it again."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Equal for two models only where they give the same answers."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return Capabilities()

    def cost_of(self, usage: Usage) -> float | None:  # noqa: ARG002
        """What a call with these tokens costs.

        Returns:
            US dollars, 0 for a model that nobody is paid for; None where the price is not known.
        """
        return 0.0

    def most_tokens(self, prompt: AnyPrompt) -> int:
        """Tokens that a prompt can take at the most, with what the model puts around it.

        Returns:
            The count itself where the tokenizer is at hand, else the bytes, which no tokenizer exceeds, and a margin.
        """
        return len(prompt_text(prompt).encode(errors="surrogatepass")) + _AROUND

    @abstractmethod
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        """Answer a batch, in order; raise `BatchError` where some prompts got no answer."""

    def _pieces(self, prompt: AnyPrompt, sampling: Sampling) -> Generator[str, None, Completion]:
        """Yield an answer in pieces and return the whole; here in one piece."""
        answer = self._complete([prompt], sampling)[0]
        yield answer.text
        return answer

    def _check(self, sampling: Sampling) -> None:
        """Refuse what this model would have to ignore."""
        able = self.capabilities
        for name, asked, can in (
            ("schema", sampling.schema is not None, able.schema),
            ("choices", sampling.choices is not None, able.choices),
            ("seed", bool(sampling.seed and sampling.temperature), able.seed),
        ):
            if asked and not can:
                raise UnsupportedError(f"{self.name} cannot honour `{name}`; leave it out or use another model")

    @overload  # a string is a prompt, and a sequence of strings too; the first overload wins
    def generate(  # type: ignore[overload-overlap]
        self,
        prompts: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        schema: Schema | None = None,
        choices: Sequence[str] | None = None,
    ) -> Completion: ...
    @overload
    def generate(
        self,
        prompts: Sequence[AnyPrompt],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        schema: Schema | None = None,
        choices: Sequence[str] | None = None,
    ) -> list[Completion]: ...
    def generate(
        self,
        prompts: AnyPrompt | Sequence[AnyPrompt],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        schema: Schema | None = None,
        choices: Sequence[str] | None = None,
    ) -> Completion | list[Completion]:
        """Continue one prompt, or each of several.

        Args:
            prompts: A string, a `Prompt` or a `Chat`; or a sequence of these.
            max_tokens: Tokens written at the most, for each prompt.
            temperature: 0 for the likeliest token each time.
            stop: Sequences at which an answer ends; they are not part of it.
            seed: Seed of the sampling.
            schema: A pydantic model, or a JSON schema, that the answer must follow; `Completion.parsed` is the answer
                read by it.
            choices: Texts one of which must be the answer.

        Returns:
            One completion for one prompt, a list in the same order for a sequence.

        Raises:
            BatchError: If some prompts of a sequence got no answer; it carries the answers of the others. Where none
                got one, the first error itself is raised.
            UnsupportedError: If the model cannot do what an argument asks.
        """
        sampling = Sampling(
            max_tokens=max_tokens,
            temperature=temperature,
            stop=_as_tuple(stop),
            seed=seed,
            schema=schema_of(schema),
            choices=None if choices is None else _as_tuple(choices),
        )
        self._check(sampling)
        one = isinstance(prompts, str | Prompt | Chat)
        batch = [prompts] if isinstance(prompts, str | Prompt | Chat) else checked_prompts(prompts)
        answers = self._complete(batch, sampling) if batch else []
        answers = checked_answers(answers, schema, sampling.choices, self.name)
        return answers[0] if one else answers

    @overload  # a string is a prompt, and a sequence of strings too; the first overload wins
    async def agenerate(  # type: ignore[overload-overlap]
        self,
        prompts: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        schema: Schema | None = None,
        choices: Sequence[str] | None = None,
    ) -> Completion: ...
    @overload
    async def agenerate(
        self,
        prompts: Sequence[AnyPrompt],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        schema: Schema | None = None,
        choices: Sequence[str] | None = None,
    ) -> list[Completion]: ...
    async def agenerate(
        self,
        prompts: AnyPrompt | Sequence[AnyPrompt],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        schema: Schema | None = None,
        choices: Sequence[str] | None = None,
    ) -> Completion | list[Completion]:
        """`generate` on a thread, so that the event loop goes on.

        Returns:
            As `generate`.
        """

        def work() -> Completion | list[Completion]:
            return self.generate(
                prompts,
                max_tokens=max_tokens,
                temperature=temperature,
                stop=stop,
                seed=seed,
                schema=schema,
                choices=choices,
            )

        return await asyncio.to_thread(work)

    def stream(
        self,
        prompt: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> CompletionStream:
        """Yield an answer in pieces; a model that cannot do better yields it whole.

        Returns:
            An iterator over pieces that join to the text of `generate`; its `completion` is there at the end.
        """
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, stop=_as_tuple(stop), seed=seed)
        self._check(sampling)
        return CompletionStream(self._pieces(checked_prompts([prompt])[0], sampling))

    async def astream(
        self,
        prompt: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> AsyncIterator[str]:
        """`stream` on a thread, so that the event loop goes on.

        Yields:
            Pieces of the answer.
        """
        pieces = self.stream(prompt, max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed)
        end = object()
        while (piece := await asyncio.to_thread(next, pieces, end)) is not end:
            yield str(piece)

    def score(self, prompts: Sequence[AnyPrompt], choices: Sequence[str]) -> NDArray[np.float64]:  # noqa: ARG002
        """Log-likelihood of each choice after each prompt.

        Args:
            prompts: n prompts.
            choices: c continuations, with the space they begin with.

        Returns:
            f64[n, c], in nats.

        Raises:
            UnsupportedError: If this model gives no probabilities.
        """
        raise UnsupportedError(f"{self.name} gives no probabilities, so it cannot score choices; use generate")

    def count_tokens(self, text: str) -> int:
        """Number of tokens of ``text``, by words and punctuation where the model's tokenizer is not at hand.

        Returns:
            A count; an estimate where the docstring of the model says so.
        """
        return -(-len(text.encode()) // 4)


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


def schema_of(schema: Schema | None) -> Mapping[str, object] | None:
    """The JSON schema that a pydantic model or a mapping stands for.

    Returns:
        A JSON schema with a title, or None.

    Raises:
        InvalidInputError: If it is neither.
    """
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_json_schema()
    if isinstance(schema, Mapping):
        return {"title": "Answer", **schema}
    if schema is None:
        return None
    raise InvalidInputError(f"`schema` must be a pydantic model or a JSON schema, got {schema!r}")


def checked_answers(
    answers: list[Completion], schema: Schema | None, choices: Sequence[str] | None, name: str
) -> list[Completion]:
    """Answers that keep to the form asked for.

    Args:
        answers: What a model gave.
        schema: What they must follow, if anything; they are read by it.
        choices: What they must be one of, if anything.
        name: The model's, for errors.

    Returns:
        The answers.

    Raises:
        ModelError: If none of them does.
        BatchError: If only some do.
    """
    if schema is not None:
        answers = raised([_parsed(answer, schema, name) for answer in answers])
    if choices is not None:
        answers = raised([_chosen(answer, choices, name) for answer in answers])
    return answers


def _parsed(answer: Completion, schema: Schema, name: str) -> Completion | ModelError:
    try:
        if isinstance(schema, type):
            return replace(answer, parsed=schema.model_validate_json(answer.text))
        return replace(answer, parsed=read_json(answer.text))
    except (ValidationError, InvalidInputError) as error:
        cut = "; it was cut off, raise `max_tokens`" if answer.finish_reason == "length" else ""
        return ModelError(f"{name} did not follow the schema ({error}){cut}")


def _chosen(answer: Completion, choices: Sequence[str], name: str) -> Completion | ModelError:
    if answer.text in choices:
        return answer
    return ModelError(f"{name} answered {answer.text[:80]!r}, which is none of the {len(choices)} choices")


def _as_tuple(texts: Any) -> Any:
    return tuple(texts) if isinstance(texts, list) else texts


def checked_prompts(prompts: Iterable[AnyPrompt]) -> list[AnyPrompt]:
    """Prompts as a list, each of a known kind; a bare string would be read letter by letter.

    Returns:
        The prompts.

    Raises:
        InvalidInputError: If something else is among them, or they are one string.
    """
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        raise InvalidInputError(f"`prompts` must be a sequence of prompts, got {type(prompts).__name__}")
    batch = list(prompts)
    for place, prompt in enumerate(batch):
        if not isinstance(prompt, str | Prompt | Chat):
            raise InvalidInputError(
                f"`prompts[{place}]` must be a string, a Prompt or a Chat, got {type(prompt).__name__}"
            )
    return batch


def prompt_text(prompt: AnyPrompt) -> str:
    """A prompt as plain text; the turns of a conversation follow each other after their roles.

    Returns:
        The text.
    """
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Prompt):
        return prompt.text
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt.messages)


def until_stop(pieces: Iterable[str], stop: Sequence[str]) -> Iterator[str]:
    """Pieces of a text up to the first stop sequence; what may be the beginning of one is held back.

    Yields:
        Pieces, none of them empty.
    """
    held, reach = "", max(map(len, stop), default=1) - 1
    for piece in pieces:
        held, stopped = cut_at_stop(held + piece, stop)
        ready = len(held) if stopped else len(held) - reach
        if ready > 0:
            yield held[:ready]
            held = held[ready:]
        if stopped:
            return
    if held:
        yield held


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Cut a text at the first stop sequence.

    Returns:
        What comes before it, and whether there was one.
    """
    places = [place for place in map(text.find, stop) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)
