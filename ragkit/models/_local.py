"""Local language models, which run in transformers.

A prompt takes one path: it is encoded, grouped into batches whose common prefix is prefilled once, and each batch is
completed or scored by the network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._progress import quiet_transformers
from ragkit._text import refuse_bare_string
from ragkit.errors import PromptTooLongError
from ragkit.models._base import ModelBase
from ragkit.models._causal_module import CausalModule
from ragkit.models._concurrency import raise_if_stopped
from ragkit.models._generation import BatchGenerator
from ragkit.models._half_precision import HalfPrecision
from ragkit.models._prefix_cache import NO_PREFIX, Batch, PrefixCache, batches_by_length, prompts_by_head
from ragkit.models._prompt_encoding import PromptEncoder
from ragkit.models._prompts import checked_prompts
from ragkit.models._sampling import Sampling
from ragkit.models._scoring import log_likelihoods
from ragkit.models._streaming import Listener, pieces_of
from ragkit.protocols import AnyPrompt, Capabilities
from ragkit.records import Completion

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

    @property
    @override
    def capabilities(self) -> Capabilities:
        return Capabilities(
            window=self.network.window,
            score=True,
            schema=True,
            choices=True,
            grammar=True,
            chat=self.encoder.chat is not None,
        )

    @override
    def count_tokens(self, text: str) -> int:
        return len(self.encode_text(text))

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
        rows = [self.encode_prompt(prompt, max_tokens=self.network.window) for prompt in prompts]
        return self.complete_rows(rows, sampling, prompts=prompts)

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
        seeds, listeners = seeds or [sampling.seed] * len(rows), listeners or [Listener()] * len(rows)
        answers: dict[int, Completion] = {}
        with self.computing():
            raise_if_stopped()  # while it waited for the lock
            for batch in self._batches(rows, prompts, share=self.network.shares_caches):
                answers |= self.generator.complete(batch, sampling, seeds, listeners)
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
                scores[some.indices] = log_likelihoods(self.network, some, tails, size=self.batch_size)
        return scores

    @override
    def _pieces(self, prompt: AnyPrompt, sampling: Sampling) -> Generator[str, None, Completion]:
        row = self.encode_prompt(prompt, max_tokens=self.network.window)
        self.check_window(len(row), sampling.max_tokens)
        return (
            yield from pieces_of(
                lambda listener: self.complete_rows([row], sampling, prompts=[prompt], listeners=[listener])[0]
            )
        )
