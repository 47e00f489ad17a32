"""The base class of models: single prompts and batches, sync and async, and argument checks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ragkit._observation import observed, observed_pieces
from ragkit.errors import UnsupportedError
from ragkit.models._concurrency import iterate_cancellable, run_cancellable
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

    @property
    def max_reasoning_tokens(self) -> int:
        """Maximum number of tokens that the model generates before its answer, in addition to `max_tokens`."""
        return 0

    @property
    def requests_logprobs(self) -> bool:
        """Whether `generate` accepts ``logprobs``, even if a response showed that the server returns none.

        Unlike `capabilities`, this never changes, so that a call that is repeated finds its cached response.
        """
        return self.capabilities.logprobs

    def cost_of(self, usage: Usage) -> float | None:  # noqa: ARG002
        """Compute the cost of a call with this token usage.

        Returns:
            US dollars, 0 for a model that is free of charge; None if the price is unknown.
        """
        return 0.0

    def count_prompt_tokens(self, prompt: AnyPrompt) -> int:
        """Count the tokens of a prompt, including those that the chat template adds, or estimate them.

        Returns:
            The number of tokens, which is an estimate for models without a local tokenizer.
        """
        return self.count_tokens(prompt_text(prompt))

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
            ("logprobs", sampling.logprobs, able.logprobs),
        ):
            if asked and not can:
                raise UnsupportedError(f"{self.name} cannot honour `{name}`; leave it out or use another model")
        if sampling.grammar is not None:
            grammar_check(sampling.grammar)  # an invalid grammar is an error before any call

    def _check_tools(self, prompts: Sequence[AnyPrompt]) -> None:
        """Raise `UnsupportedError` for tools that this model would ignore."""
        if not self.capabilities.tools and any(isinstance(prompt, Chat) and prompt.tools for prompt in prompts):
            raise UnsupportedError(
                f"{self.name} does not support tools (`capabilities.tools` is not set); omit them, or use "
                "`ragkit.langchain.RagkitChatModel`, which constrains any model that supports schemas to tool calls"
            )

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
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: bool = False,
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
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: bool = False,
    ) -> list[Completion]: ...
    def generate(  # noqa: PLR0913 - the arguments of the protocol
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
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: bool = False,
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
            top_p: Share of the probability from which a token is sampled: only the most probable tokens that together
                have at least this probability can be sampled. It has no effect on greedy decoding.
            presence_penalty: Subtracted from the logit of each token that occurs in the answer so far, between -2 and
                2, as in OpenAI's API.
            frequency_penalty: Subtracted from the logit of each token once per occurrence in the answer so far, between
                -2 and 2.
            logprobs: Whether to request the log-probabilities of the tokens of the answer, `Completion.logprobs`.

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
            top_p=top_p, presence_penalty=presence_penalty, frequency_penalty=frequency_penalty,
            grammar=grammar, logprobs=logprobs,
        )  # fmt: skip
        self._check(sampling)
        one = isinstance(prompts, str | Prompt | Chat)
        batch = [prompts] if isinstance(prompts, str | Prompt | Chat) else checked_prompts(prompts)
        self._check_tools(batch)
        work, settings = partial(self._complete, batch, sampling), sampling.options()
        answers = observed("model", self, batch, work, settings) if batch else []
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
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: bool = False,
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
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: bool = False,
    ) -> list[Completion]: ...
    async def agenerate(  # noqa: PLR0913
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
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logprobs: bool = False,
    ) -> Completion | list[Completion]:
        """Run `generate` in a thread without blocking the event loop.

        If the task is cancelled, a local model stops at the next token, and no further request is sent to an API.

        Returns:
            The result of `generate`.
        """
        work = partial(self.generate, max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed)
        work = partial(
            work, schema=schema, choices=choices, grammar=grammar, top_p=top_p, presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty, logprobs=logprobs,
        )  # fmt: skip
        return await run_cancellable(partial(work, prompts))

    def stream(
        self,
        prompt: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        grammar: str | None = None,
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
    ) -> CompletionStream:
        """Generate an answer in pieces; a model without streaming yields it in one piece.

        The arguments are those of `generate`. An answer that does not follow the grammar, because it was truncated, is
        not an error here: `CompletionStream.completion` reports that it was truncated.

        Returns:
            An iterator over pieces, which concatenate to the text of `generate`; its `completion` is set at the end.
        """
        sampling = Sampling.of(
            max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed, grammar=grammar, top_p=top_p,
            presence_penalty=presence_penalty, frequency_penalty=frequency_penalty,
        )  # fmt: skip
        self._check(sampling)
        self._check_tools(batch := checked_prompts([prompt]))
        return CompletionStream(observed_pieces(self, batch[0], self._pieces(batch[0], sampling), sampling.options()))

    async def astream(
        self,
        prompt: AnyPrompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        grammar: str | None = None,
        top_p: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
    ) -> AsyncIterator[str]:
        """Run `stream` in threads without blocking the event loop, and end the generation if the caller stops early.

        Yields:
            Pieces of the answer.
        """
        work = partial(
            self.stream, prompt, max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed,
            grammar=grammar, top_p=top_p, presence_penalty=presence_penalty, frequency_penalty=frequency_penalty,
        )  # fmt: skip
        async with aclosing(iterate_cancellable(work)) as pieces:
            async for piece in pieces:
                yield piece

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
