"""The base class of models: single prompts and batches, sync and async, and argument checks."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from functools import partial
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import UnsupportedError
from ragkit.models._grammar_check import grammar_check
from ragkit.models._prompts import checked_prompts, in_form, prompt_text
from ragkit.models._sampling import Sampling, checked_answers
from ragkit.protocols import AnyPrompt, Capabilities, Schema
from ragkit.records import Chat, Completion, Prompt, Usage

_AROUND = 48  # upper bound on tokens that a model adds to a prompt
_AROUND_TURN = 16  # upper bound on tokens that a chat template adds to a turn


class CompletionStream(Iterator[str]):
    """An iterator over the pieces of an answer as they are generated.

    Attributes:
        completion: The whole answer with its usage and cost after the last piece; None before.
    """

    def __init__(self, pieces: Generator[str, None, Completion]) -> None:
        """Wrap a generator that yields the pieces and returns the completion."""
        self._pieces = pieces
        self.completion: Completion | None = None

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration as end:
            self.completion = end.value or self.completion
            raise

    def close(self) -> None:
        """Abandon the rest of the answer."""
        self._pieces.close()


class ModelBase(ABC):
    """A base class for language models.

    A subclass implements `_complete`, and sets ``_name`` and ``_fingerprint`` or overrides the properties.
    """

    _name: str
    _fingerprint: str

    @property
    def name(self) -> str:
        """The spec from which the model can be loaded."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """An identifier that is equal for two models only if they give the same answers."""
        return self._fingerprint

    @property
    def capabilities(self) -> Capabilities:
        """The features that the model supports."""
        return Capabilities()

    def cost_of(self, usage: Usage) -> float | None:  # noqa: ARG002
        """Compute the cost of a call with this token usage.

        Returns:
            US dollars, 0 for a model that is free of charge; None if the price is unknown.
        """
        return 0.0

    def max_prompt_tokens(self, prompt: AnyPrompt) -> int:
        """Return an upper bound on the tokens of a prompt, including those that the model adds.

        Returns:
            The exact count if the tokenizer is available, otherwise the number of bytes, which no tokenizer exceeds,
            plus a margin.
        """
        given = in_form(prompt, chat=True, name=self.name) if self.capabilities.chat else prompt
        texts = [turn.content for turn in given.messages] if isinstance(given, Chat) else [prompt_text(given)]
        return _AROUND + sum(len(text.encode(errors="surrogatepass")) + _AROUND_TURN for text in texts)

    @abstractmethod
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        """Answer a batch, in order; raise `BatchError` if some prompts failed."""

    def _pieces(self, prompt: AnyPrompt, sampling: Sampling) -> Generator[str, None, Completion]:
        """Yield an answer in pieces and return the completion; by default there is one piece."""
        answer = self._complete([prompt], sampling)[0]
        yield answer.text
        return answer

    def _check(self, sampling: Sampling) -> None:
        """Raise `UnsupportedError` for settings that this model would ignore, and an error for an invalid grammar."""
        able = self.capabilities
        for name, asked, can in (
            ("schema", sampling.schema is not None, able.schema),
            ("choices", sampling.choices is not None, able.choices),
            ("grammar", sampling.grammar is not None, able.grammar),
            ("seed", bool(sampling.seed and sampling.temperature), able.seed),
        ):
            if asked and not can:
                raise UnsupportedError(f"{self.name} cannot honour `{name}`; leave it out or use another model")
        if sampling.grammar is not None:
            grammar_check(sampling.grammar)  # an invalid grammar is an error before any call

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
        grammar: str | None = None,
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
        grammar: str | None = None,
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
        grammar: str | None = None,
    ) -> Completion | list[Completion]:
        """Generate an answer to one prompt, or to each prompt of a sequence.

        Args:
            prompts: A string, a `Prompt` or a `Chat`; or a sequence of these.
            max_tokens: Maximum number of generated tokens per prompt.
            temperature: Sampling temperature; 0 for greedy decoding.
            stop: Stop sequences, which are not part of the answer.
            seed: Seed for sampling.
            schema: A pydantic model or JSON schema that the answer must follow; `Completion.parsed` contains the parsed
                answer.
            choices: Allowed answers.
            grammar: A grammar that the answer must follow, in the dialect of Lark that llguidance reads. At most one of
                `schema`, `choices` and `grammar` can be given.

        Returns:
            A completion for one prompt, or a list of completions in the order of a sequence.

        Raises:
            BatchError: If some prompts of a sequence failed; it contains the answers to the others. If all prompts
                failed, the first error is raised instead.
            UnsupportedError: If the model does not support an argument.
            InvalidInputError: If the schema or the grammar is invalid.
            AnswerFormError: If the answer is truncated at ``max_tokens`` before it is complete; its `completion` is the
                beginning of the answer.
        """
        sampling = Sampling.of(
            max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed, schema=schema, choices=choices,
            grammar=grammar,
        )  # fmt: skip
        self._check(sampling)
        one = isinstance(prompts, str | Prompt | Chat)
        batch = [prompts] if isinstance(prompts, str | Prompt | Chat) else checked_prompts(prompts)
        answers = self._complete(batch, sampling) if batch else []
        answers = checked_answers(answers, schema, sampling.choices, self.name, grammar=grammar)
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
        grammar: str | None = None,
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
        grammar: str | None = None,
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
        grammar: str | None = None,
    ) -> Completion | list[Completion]:
        """Run `generate` in a thread without blocking the event loop.

        Returns:
            The result of `generate`.
        """
        work = partial(self.generate, max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed)
        return await asyncio.to_thread(partial(work, schema=schema, choices=choices, grammar=grammar), prompts)

    def stream(
        self,
        prompt: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        grammar: str | None = None,
    ) -> CompletionStream:
        """Generate an answer in pieces; a model without streaming yields it in one piece.

        The arguments are those of `generate`. An answer that does not follow the grammar, because it was truncated, is
        not an error here: `CompletionStream.completion` reports that it was truncated.

        Returns:
            An iterator over pieces, which concatenate to the text of `generate`; its `completion` is set at the end.
        """
        sampling = Sampling.of(max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed, grammar=grammar)
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
        grammar: str | None = None,
    ) -> AsyncIterator[str]:
        """Run `stream` in a thread without blocking the event loop.

        Yields:
            Pieces of the answer.
        """
        pieces = self.stream(
            prompt, max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed, grammar=grammar
        )
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
            choices: c continuations, including their leading space.
            end_of_turn: Whether to also score the end-of-turn token after each choice, which gives the score of exactly
                this answer.

        Returns:
            f64[n, c], in nats.

        Raises:
            UnsupportedError: If this model does not return probabilities.
        """
        raise UnsupportedError(f"{self.name} gives no probabilities, so it cannot score choices; use generate")

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, or estimate them as one per four bytes if there is no tokenizer.

        Returns:
            The number of tokens, which is an estimate for models without a local tokenizer.
        """
        return -(-len(text.encode()) // 4)
