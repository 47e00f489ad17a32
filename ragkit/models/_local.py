"""Local language models, which run in transformers.

A prompt takes one path: it is encoded, grouped into batches whose common prefix is prefilled once, and each batch is
completed or scored by the network.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._progress import quiet_transformers
from ragkit._text import refuse_bare_string
from ragkit.errors import PromptTooLongError, RagkitError
from ragkit.models._base import CompletionStream, ModelBase
from ragkit.models._causal_module import CausalModule
from ragkit.models._concurrency import raise_if_stopped
from ragkit.models._generation import BatchGenerator
from ragkit.models._half_precision import HalfPrecision
from ragkit.models._prefix_cache import NO_PREFIX, Batch, PrefixCache, batches_by_length, prompts_by_head
from ragkit.models._prompt_encoding import PromptEncoder
from ragkit.models._prompts import checked_prompts
from ragkit.models._reasoning import (
    Reasoning,
    ReasoningLevel,
    answer_after_reasoning,
    pieces_after_reasoning,
    reasoning_by_template,
)
from ragkit.models._results import raised
from ragkit.models._sampling import Sampling
from ragkit.models._scoring import log_likelihoods, token_log_probabilities
from ragkit.models._streaming import Listener, TokenLogprob, pieces_of
from ragkit.models._tools import calls_schema, selected_tools, with_calls
from ragkit.protocols import AnyPrompt, Capabilities
from ragkit.records import Chat, Completion, Usage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Activation = Callable[[], AbstractContextManager[Any]]


class LocalModel(ModelBase):
    """A causal transformers model.

    Prompts run in batches of similar length, which need little padding. Apart from rounding in half precision, answers
    do not depend on the batch. The common prefix of the prompts in a call is prefilled once, and the prefix of a
    `Prompt` is cached for later calls. If the tokenizer has a chat template, the model accepts conversations, and a
    plain string is a user message.

    Attributes:
        module: The transformers or PEFT model.
        tokenizer: Its tokenizer.
        source: Spec or folder of the base weights.
        batch_size: Maximum number of prompts per batch.
        products: The bfloat16 matrix products of a float32 model; None if it uses those of torch.
        reasoning: How the model reasons before its answers, see `set_reasoning`.
        encoder, prefixes, network, generator: The parts through which a prompt passes, in this order.
    """

    def __init__(
        self,
        module: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        fingerprint: str,
        source: str,
        batch_size: int = 16,
    ) -> None:
        """Wrap a loaded module; use `ragkit.load_model` to load a model."""
        self.module: Any = module.eval()
        self.tokenizer: Any = tokenizer
        self.source, self.batch_size = source, batch_size
        self._name, self._fingerprint = name, fingerprint
        self.products: HalfPrecision | None = None
        self.reasoning = Reasoning()
        self.network = CausalModule(module, tokenizer)
        self.encoder = PromptEncoder(tokenizer, name=name)
        self.generator = BatchGenerator(self.network, tokenizer, self.encoder, name=name)
        self.prefixes = PrefixCache()
        self._lock = Lock()
        self._activated: Activation = nullcontext

    def with_adapter(self, activated: Activation, *, name: str, fingerprint: str) -> Self:
        """Return this PEFT model with another adapter, which ``activated`` activates; both share weights and caches."""
        model = copy.copy(self)
        model._name, model._fingerprint, model._activated = name, fingerprint, activated
        return model

    def set_reasoning(self, level: ReasoningLevel | None, max_tokens: int | None) -> None:
        """Set how much the model reasons, through the variables of its chat template."""
        template = self.tokenizer.get_chat_template() if self.encoder.chat else None
        self.reasoning, variables = reasoning_by_template(self.name, template, level, max_tokens)
        if self.encoder.chat:
            self.encoder.chat.variables = variables
        self._fingerprint += f":reasoning={level},{max_tokens}"

    @property
    @override
    def max_reasoning_tokens(self) -> int:
        return self.reasoning.tokens

    @property
    @override
    def capabilities(self) -> Capabilities:
        free, chat = not self.reasoning.active, self.encoder.chat is not None  # constraints prevent reasoning
        tools = self.encoder.chat is not None and self.encoder.chat.has_tools
        return Capabilities(
            window=self.network.window, score=True, schema=free, choices=free, grammar=free, chat=chat, tools=tools
        )

    @override
    def count_tokens(self, text: str) -> int:
        return len(self.encode_text(text))

    @override
    def count_prompt_tokens(self, prompt: AnyPrompt) -> int:
        return len(self.encode_prompt(prompt))

    @override
    def max_prompt_tokens(self, prompt: AnyPrompt) -> int:
        try:
            return len(self.encode_prompt(prompt, max_tokens=self.network.window))
        except PromptTooLongError:
            return super().max_prompt_tokens(prompt)

    def encode_text(self, text: str) -> list[int]:
        """Return the token ids of a text without added tokens; special-token strings are encoded as plain text."""
        return self.encoder.text(text)

    def encode_prompt(self, prompt: AnyPrompt, *, max_tokens: int | None = None) -> list[int]:
        """Encode a prompt: a conversation by the chat template, or a text after the beginning-of-text token.

        Args:
            prompt: The prompt. If the model has a chat template, a string, or a `Prompt` that does not specify a form,
                is a user message.
            max_tokens: Limit of the caller. A text that certainly exceeds it is not tokenized, which would need several
                hundred bytes per character; other texts are, even if they turn out to be too long.

        Returns:
            Token ids.

        Raises:
            InvalidInputError: If the prompt is empty and the model has no beginning-of-text token, if it contains a
                lone surrogate, or if the chat template rejects it.
            PromptTooLongError: If the prompt certainly has more than ``max_tokens`` tokens.
            UnsupportedError: If the prompt is a conversation and the model has no chat template.
        """
        return self.encoder.prompt(prompt, max_tokens=max_tokens)

    def end_of_turn_id(self) -> int:
        """Return the token that ends an answer, which `score` scores with ``end_of_turn``."""
        return self.encoder.end_of_turn(self.network.end_ids)

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        if any(isinstance(prompt, Chat) and prompt.tools for prompt in prompts):
            return [self._answered_with_tools(prompt, sampling) for prompt in prompts]
        return self._answered(prompts, sampling)

    def _answered_with_tools(self, prompt: AnyPrompt, sampling: Sampling) -> Completion:
        """Answer a prompt that may have tools, and read the calls in the answer."""
        tools = selected_tools(prompt.tools, prompt.tool_choice) if isinstance(prompt, Chat) else []
        if isinstance(prompt, Chat) and tools and prompt.tool_choice != "auto":
            sampling = replace(sampling, schema=calls_schema(tools), choices=None, grammar=None)
        (answer,) = self._answered([prompt], sampling)
        return with_calls(answer, tools)

    def _answered(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        rows = [self.encode_prompt(prompt, max_tokens=self.network.window) for prompt in prompts]
        if not self.reasoning.active:
            return self.complete_rows(rows, sampling, prompts=prompts)
        answers = self.complete_rows(rows, self._with_room(sampling), prompts=prompts)
        return raised([self._after_reasoning(answer, sampling) for answer in answers])

    def _with_room(self, sampling: Sampling) -> Sampling:
        """Return the settings with room for reasoning, which no stop sequence ends."""
        return replace(sampling, stop=(), max_tokens=sampling.max_tokens + self.reasoning.tokens)

    def _after_reasoning(self, whole: Completion, sampling: Sampling) -> Completion | RagkitError:
        answer = answer_after_reasoning(whole, sampling.stop, self.name)
        if isinstance(answer, Completion):
            tokens = min(len(self.encode_text(answer.reasoning)), answer.usage.completion_tokens)
            answer = replace(answer, usage=replace(answer.usage, reasoning_tokens=tokens))
        return answer

    def complete_rows(
        self,
        rows: list[list[int]],
        sampling: Sampling,
        *,
        prompts: Sequence[AnyPrompt] | None = None,
        seeds: Sequence[int] | None = None,
        listeners: Sequence[Listener] | None = None,
    ) -> list[Completion]:
        """Complete encoded prompts like `generate`, with a separate seed and listener for each.

        Args:
            rows: Token ids of each prompt.
            sampling: Settings of the generation.
            prompts: The prompts that the rows encode; needed for prefixes that are to be cached.
            seeds: Seed of each row; `sampling.seed` for all if None.
            listeners: Listener of each row, which receives the answer as it is generated.

        Returns:
            The answers, in the order of the rows.

        Raises:
            PromptTooLongError: If a row and its answer do not fit into the context window.
            CallCancelledError: If the call was cancelled; see `Cancellation`.
        """
        self.check_window(max(map(len, rows)), sampling.max_tokens)
        seeds, heard = seeds or [sampling.seed] * len(rows), listeners or [Listener()] * len(rows)
        answers: dict[int, Completion] = {}
        with self.computing():
            raise_if_stopped()  # while it waited for the lock
            for batch in self._batches(rows, prompts, share=self.network.shares_caches):
                answers |= self.generator.complete(batch, sampling, seeds, heard)
        return [answers[index] for index in range(len(rows))]

    def check_window(self, prompt_tokens: int, answer_tokens: int, *, advice: str = "") -> None:
        """Raise `PromptTooLongError`, which ends with ``advice``, if a prompt and its answer do not fit the window."""
        window, tokens = self.network.window, prompt_tokens + answer_tokens
        if window and tokens > window:
            advice = advice or f"shorten the prompt, show fewer examples, or lower `max_tokens` (now {answer_tokens})"
            raise PromptTooLongError(tokens, window, advice=advice)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Hold the lock, activate the adapter, disable gradients and use `products` within a block."""
        products = nullcontext() if self.products is None else self.products.on()
        with self._lock, torch.inference_mode(), quiet_transformers(), products, self._activated():
            yield

    def release_caches(self) -> None:
        """Free the memory of caches, which are only needed for speed: cached prefixes and prepared products."""
        with self._lock:
            if self.products is not None:
                self.products.release()
            self.prefixes.clear()

    def _batches(self, rows: list[list[int]], prompts: Sequence[AnyPrompt] | None, *, share: bool) -> Iterator[Batch]:
        """Yield batches, after prefilling the prefix that their prompts share if the caller can use it."""
        for head, indices in prompts_by_head(prompts or [""] * len(rows)).items():
            prefix, cached = NO_PREFIX, 0
            if share:
                head_ids = None if head is None else self.encode_prompt(head)
                together = [rows[index] for index in indices]
                prefix, cached = self.prefixes.shared(self.network, self._fingerprint, together, head_ids)
            yield from batches_by_length(rows, indices, self.batch_size, prefix, cached)

    @override
    def score(
        self, prompts: Sequence[AnyPrompt], choices: Sequence[str], *, end_of_turn: bool = False
    ) -> NDArray[np.float64]:
        """Compute the log-likelihood of each choice after each prompt: the sum over the tokens of the choice.

        The prompts are prefilled once, and all choices are evaluated as one token tree after them. In half precision,
        the log-probabilities are computed in float32 from logits in half precision; scores can differ from those in
        float32 by up to about 0.1 nats per token.

        Args:
            prompts: n prompts.
            choices: c continuations, including their leading space. Each is tokenized separately.
            end_of_turn: Whether to also score the token that ends generation after each choice, which gives the score
                of exactly this answer. If there are several such tokens, the chat template's end-of-turn token is
                scored. Without a chat template, it is the tokenizer's ``eos_token_id`` if it is among them, otherwise
                the first.

        Returns:
            f64[n, c], in nats.

        Raises:
            PromptTooLongError: If a prompt and a choice do not fit into the context window.
            CallCancelledError: If the call was cancelled; see `Cancellation`.
        """
        refuse_bare_string("choices", choices)
        batch = checked_prompts(prompts)
        rows = [self.encode_prompt(prompt, max_tokens=self.network.window) for prompt in batch]
        end = [self.end_of_turn_id()] if end_of_turn else []
        tails = [self.encoder.text(choice, max_tokens=self.network.window) + end for choice in choices]
        scores = np.zeros((len(rows), len(tails)))
        longest = max(map(len, tails), default=0)
        if not rows or not longest:
            return scores
        advice = f"shorten the prompt, or score shorter choices (the longest takes {longest} tokens)"
        self.check_window(max(map(len, rows)), longest, advice=advice)
        with self.computing():
            for some in self._batches(rows, batch, share=self.network.takes_tree_masks):
                raise_if_stopped()
                scores[some.indices] = log_likelihoods(self.network, some, tails, size=self.batch_size)
        return scores

    def prompt_logprobs(self, row: list[int], *, top: int = 0) -> list[TokenLogprob]:
        """Compute the log-probability of each token of an encoded prompt, given the tokens before it.

        Args:
            row: Token ids.
            top: Number of most probable tokens to report at each position.

        Returns:
            The tokens. The first has no log-probability (NaN), because nothing precedes it.
        """
        self.check_window(len(row), 0)
        decode = self.tokenizer.decode
        with self.computing():
            raise_if_stopped()
            found = list(token_log_probabilities(self.network, row, top))
        tokens = [TokenLogprob(decode(row[:1]), math.nan)] if row else []
        for token, (value, best) in zip(row[1:], found, strict=True):
            likely = tuple((decode([other]), each) for other, each in best)
            tokens.append(TokenLogprob(decode([token]), value, likely))
        return tokens

    @override
    def _pieces(self, prompt: AnyPrompt, sampling: Sampling) -> Generator[str, None, Completion]:
        if isinstance(prompt, Chat) and prompt.tools:  # an answer may turn out to be a call
            return (yield from super()._pieces(prompt, sampling))
        row = self.encode_prompt(prompt, max_tokens=self.network.window)
        if not self.reasoning.active:
            self.check_window(len(row), sampling.max_tokens)
            return (yield from self._streamed(row, prompt, sampling))
        wider = self._with_room(sampling)
        self.check_window(len(row), wider.max_tokens)
        stream, raw = CompletionStream(self._streamed(row, prompt, wider)), list[str]()
        yield from pieces_after_reasoning(stream, sampling.stop, raw)
        stream.close()
        text = "".join(raw)
        usage = Usage(prompt_tokens=len(row), completion_tokens=len(self.encode_text(text)))
        return raised([self._after_reasoning(stream.completion or Completion(text=text, usage=usage), sampling)])[0]

    def _streamed(self, row: list[int], prompt: AnyPrompt, sampling: Sampling) -> Generator[str, None, Completion]:
        return (
            yield from pieces_of(
                lambda listener: self.complete_rows([row], sampling, prompts=[prompt], listeners=[listener])[0]
            )
        )
