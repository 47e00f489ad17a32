"""What every model shares: one prompt or many, sync or async, and the checks before any work."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import UnsupportedError
from ragkit.models.prompts import checked_prompts, in_form, prompt_text
from ragkit.models.sampling import Sampling, checked_answers
from ragkit.protocols import AnyPrompt, Capabilities, Schema
from ragkit.records import Chat, Completion, Prompt, Usage

_AROUND = 48  # tokens that a model may put around a prompt
_AROUND_TURN = 16  # tokens that a chat template may put around a turn


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
        given = in_form(prompt, chat=True, name=self.name) if self.capabilities.chat else prompt
        texts = [turn.content for turn in given.messages] if isinstance(given, Chat) else [prompt_text(given)]
        return _AROUND + sum(len(text.encode(errors="surrogatepass")) + _AROUND_TURN for text in texts)

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
        sampling = Sampling.of(
            max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed, schema=schema, choices=choices
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
        sampling = Sampling.of(max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed)
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

    def score(
        self,
        prompts: Sequence[AnyPrompt],  # noqa: ARG002
        choices: Sequence[str],  # noqa: ARG002
        *,
        end_of_turn: bool = False,  # noqa: ARG002
    ) -> NDArray[np.float64]:
        """Compute the log-likelihood of each choice after each prompt.

        Args:
            prompts: n prompts.
            choices: c continuations, with the space they begin with.
            end_of_turn: Also score the token that ends an answer after each choice, so that the score is that of
                exactly this answer.

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
