"""What every model shares: one prompt or many, sync or async, and the checks before any work."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.protocols import AnyPrompt, Capabilities
from ragkit.records import Chat, Completion, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to continue a prompt.

    Attributes:
        max_tokens: Tokens written at the most.
        temperature: 0 for the likeliest token each time.
        stop: Sequences at which the answer ends; they are not part of it.
        seed: Seed of the sampling.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not _is_number(self.max_tokens, int) or self.max_tokens < 1:
            raise InvalidInputError(f"`max_tokens` must be a whole number of at least 1, got {self.max_tokens!r}")
        if not _is_number(self.temperature, int, float) or not 0 <= self.temperature <= 10:
            raise InvalidInputError(f"`temperature` must be a number between 0 and 10, got {self.temperature!r}")
        if not _is_texts(self.stop):
            raise InvalidInputError(f"`stop` must be a sequence of non-empty strings, got {self.stop!r}")
        if not _is_number(self.seed, int):
            raise InvalidInputError(f"`seed` must be a whole number, got {self.seed!r}")


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _is_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) and text for text in value)


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

    @abstractmethod
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        """Answer a batch, in order."""

    @overload  # a string is a prompt, and a sequence of strings too; the first overload wins
    def generate(  # type: ignore[overload-overlap]
        self,
        prompts: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
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
    ) -> list[Completion]: ...
    def generate(
        self,
        prompts: AnyPrompt | Sequence[AnyPrompt],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> Completion | list[Completion]:
        """Continue one prompt, or each of several.

        Args:
            prompts: A string, a `Prompt` or a `Chat`; or a sequence of these.
            max_tokens: Tokens written at the most, for each prompt.
            temperature: 0 for the likeliest token each time.
            stop: Sequences at which an answer ends; they are not part of it.
            seed: Seed of the sampling.

        Returns:
            One completion for one prompt, a list in the same order for a sequence.
        """
        kept: Any = tuple(stop) if isinstance(stop, list) else stop
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, stop=kept, seed=seed)
        if isinstance(prompts, str | Prompt | Chat):
            return self._complete([prompts], sampling)[0]
        batch = checked_prompts(prompts)
        return self._complete(batch, sampling) if batch else []

    @overload  # a string is a prompt, and a sequence of strings too; the first overload wins
    async def agenerate(  # type: ignore[overload-overlap]
        self,
        prompts: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
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
    ) -> list[Completion]: ...
    async def agenerate(
        self,
        prompts: AnyPrompt | Sequence[AnyPrompt],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> Completion | list[Completion]:
        """`generate` on a thread, so that the event loop goes on.

        Returns:
            As `generate`.
        """

        def work() -> Completion | list[Completion]:
            return self.generate(prompts, max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed)

        return await asyncio.to_thread(work)

    def stream(
        self,
        prompt: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> Iterator[str]:
        """Yield an answer in pieces; a model that cannot do better yields it whole.

        Yields:
            Pieces that join to the text of `generate`.
        """
        yield self.generate(prompt, max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed).text

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


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Cut a text at the first stop sequence.

    Returns:
        What comes before it, and whether there was one.
    """
    places = [place for place in map(text.find, stop) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)
