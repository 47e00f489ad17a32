"""Local language models, which run in transformers."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from inspect import signature
from queue import SimpleQueue
from threading import Event, Lock, RLock, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, StoppingCriteriaList
from typing_extensions import override

from ragkit.errors import InvalidInputError, PromptTooLongError, UnsupportedError
from ragkit.models.base import ModelBase
from ragkit.models.batches import batches_by_length
from ragkit.models.chat_template import ChatTemplate
from ragkit.models.constrained_decoding import FollowsSchema, OneOf, vocabulary_of
from ragkit.models.half_precision import HalfPrecision
from ragkit.models.prefix_cache import (
    LEAST,
    Prefix,
    Prefixes,
    attention_windows,
    empty_cache,
    named_prefixes,
    shared_length,
)
from ragkit.models.prompts import checked_prompts, cut_at_stop, in_form
from ragkit.models.sampling import Sampling
from ragkit.models.scoring import end_of_turn_id, log_likelihoods, log_likelihoods_uncached, takes_tree_masks
from ragkit.models.streaming import Distribution, Draw, Listener, Watch
from ragkit.progress import quiet_transformers
from ragkit.protocols import AnyPrompt, Capabilities
from ragkit.records import Chat, Completion, Usage
from ragkit.text import refuse_bare_string, require_valid_unicode

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Fields of a generation config that describe the model, in contrast to recommended generation settings.
_OF_THE_MODEL = {
    "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "max_length", "max_new_tokens",
    "_from_model_config", "transformers_version",
}  # fmt: skip


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
        is_plain: Whether KV caches can be shared between prompts and repeated.
        lock: Held while the model computes.
        products: The bfloat16 matrix products of a float32 model; None if it uses those of torch.
        encoding: Held while the tokenizer encodes, because each call changes how it splits special tokens.
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
        self.source = source
        self.batch_size = batch_size
        self._name, self._fingerprint = name, fingerprint
        self.lock = Lock()
        self.products: HalfPrecision | None = None
        self.encoding = RLock()
        self._adapter: str | None = None
        self._prefixes = Prefixes()
        self._vocabulary: Any = None
        plain = module.get_base_model() if hasattr(module, "get_base_model") else module
        self._chat = ChatTemplate(tokenizer, self.encode_text, name=name) if tokenizer.chat_template else None
        self._takes = {"input_ids", "attention_mask", *signature(plain.forward).parameters}
        self.is_plain = (
            attention_windows(plain.config) is not None and {"past_key_values", "position_ids"} <= self._takes
        )

    @property
    @override
    def name(self) -> str:
        return self._name

    @property
    @override
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    @override
    def capabilities(self) -> Capabilities:
        window = window_of(self.module, self.tokenizer)
        return Capabilities(window=window, score=True, schema=True, choices=True, chat=self._chat is not None)

    @override
    def count_tokens(self, text: str) -> int:
        return len(self.encode_text(text))

    @override
    def max_prompt_tokens(self, prompt: AnyPrompt) -> int:
        return len(self.encode_prompt(prompt))

    def encode_text(self, text: str) -> list[int]:
        """Encode a text without adding tokens. Special-token strings are encoded as plain text.

        Returns:
            Token ids.
        """
        whole = require_valid_unicode(text)
        with self.encoding:
            ids: list[int] = self.tokenizer(whole, add_special_tokens=False, split_special_tokens=True, verbose=False)[
                "input_ids"
            ]
        return ids

    def encode_prompt(self, prompt: AnyPrompt) -> list[int]:
        """Encode a prompt: a conversation by the chat template, or a text after the beginning-of-text token.

        Args:
            prompt: The prompt. If the model has a chat template, a string, or a `Prompt` that does not specify a form,
                is a user message.

        Returns:
            Token ids.

        Raises:
            InvalidInputError: If the prompt is empty and the model has no beginning-of-text token, if it contains a
                lone surrogate, or if the chat template rejects it.
            UnsupportedError: If the prompt is a conversation and the model has no chat template.
        """
        given = in_form(prompt, chat=self._chat is not None, name=self.name)
        if isinstance(given, Chat):
            assert self._chat is not None  # noqa: S101 - in_form has checked
            with self.encoding:
                return self._chat.encode(given.messages)
        with self.encoding:
            added: list[int] = self.tokenizer("")["input_ids"]
        begins = [token for token in added[:1] if token == self.tokenizer.bos_token_id]
        whole = begins + self.encode_text(given.text)
        if not whole:
            raise InvalidInputError(
                f"the prompt is empty, and {self.name} has no beginning-of-text token; give it some text"
            )
        return whole

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        return self.complete_rows([self.encode_prompt(prompt) for prompt in prompts], sampling, prompts=prompts)

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
        """
        self.check_window(max(map(len, rows)), sampling.max_tokens)
        answers: list[Completion | None] = [None] * len(rows)
        with self.computing(), self._adapted():
            for group, prefix, cached in self._sharing(prompts or [""] * len(rows), rows):
                for some in batches_by_length([rows[place] for place in group], self.batch_size):
                    places = [group[place] for place in some]
                    found = self.answer_rows(
                        [rows[place] for place in places],
                        sampling,
                        prefix,
                        cached,
                        seeds=None if seeds is None else [seeds[place] for place in places],
                        listeners=None if listeners is None else [listeners[place] for place in places],
                    )
                    for place, answer in zip(places, found, strict=True):
                        answers[place] = answer
                    cached = 0 if prefix is None else len(prefix.ids)
        return [answer for answer in answers if answer is not None]

    def check_window(self, prompt_tokens: int, answer_tokens: int) -> None:
        """Check that a prompt and its answer fit into the model's context window.

        Raises:
            PromptTooLongError: If they do not fit.
        """
        window = self.capabilities.window
        if window and prompt_tokens + answer_tokens > window:
            advice = f"shorten the prompt, show fewer examples, or lower `max_tokens` (now {answer_tokens})"
            raise PromptTooLongError(prompt_tokens + answer_tokens, window, advice=advice)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Hold `lock`, disable gradients and use `products` within a block."""
        products = nullcontext() if self.products is None else self.products.on()
        with self.lock, torch.inference_mode(), quiet_transformers(), products:
            yield

    def release_caches(self) -> None:
        """Free the memory of caches, which are only needed for speed: cached prefixes and prepared products."""
        with self.lock:
            if self.products is not None:
                self.products.release()
            self._prefixes.clear()

    @contextmanager
    def _adapted(self) -> Iterator[None]:
        """Activate this model's adapter within a block, if several adapters share the base model."""
        yield

    def _sharing(
        self, prompts: Sequence[AnyPrompt], rows: list[list[int]], *, shareable: bool | None = None
    ) -> Iterator[tuple[list[int], Prefix | None, int]]:
        """Group prompts by their common prefix.

        The prefix of a `Prompt` is cached for later calls; any other prefix that the prompts of a call share is not.

        Args:
            prompts: The prompts.
            rows: Their token ids.
            shareable: Whether the caller can use a common prefix; `is_plain` if None.

        Yields:
            The indices of the prompts, their prefix or None, and the number of its tokens that were cached.
        """
        shareable = self.is_plain if shareable is None else shareable
        for name, places in named_prefixes(prompts).items():
            together = [rows[place] for place in places]
            if not shareable or (name is None and len(together) == 1):
                yield places, None, 0
                continue
            named, cached = None, 0
            if name is not None:
                length = shared_length([*together, [*self.encode_prompt(name), -1]])
                named, cached = self._kept_prefix(together[0][:length]) if length >= LEAST else (None, 0)
            length = shared_length(together) if len(together) > 1 else 0
            begun = 0 if named is None else len(named.ids)
            if length < begun + LEAST:
                yield places, named, cached
            else:
                yield places, self._read_on(named, together[0][:length]), cached

    def _kept_prefix(self, ids: list[int]) -> tuple[Prefix, int]:
        """Return a cached prefix, extended from the longest cached part, and the number of tokens that were cached."""
        known = self._prefixes.longest(self._adapter, ids)
        cached = 0 if known is None else len(known.ids)
        if known is not None and cached == len(ids):
            return known, cached
        prefix = self._read_on(known, ids)
        self._prefixes.put(self._adapter, prefix)
        return prefix, cached

    def _read_on(self, begun: Prefix | None, ids: list[int]) -> Prefix:
        """Prefill a prefix, starting after a shorter prefix that is already computed."""
        start = 0 if begun is None else len(begun.ids)
        cache = None if begun is None else begun.left_padded([0], len(ids) - start)
        fresh = torch.tensor([ids[start:]], device=self.module.device)
        mask = torch.ones(1, len(ids), dtype=torch.long, device=fresh.device)
        return Prefix(ids, self.forward(fresh, mask, cache).past_key_values)

    def forward(self, ids: Any, mask: Any = None, cache: Any = None, *, keep: int = 1, positions: Any = None) -> Any:
        """Run a forward pass. Positions do not count padding. The caller holds `lock`.

        Args:
            ids: New tokens, int64[n, t].
            mask: Attention mask, int64[n, past + t]; None for all ones. With ``positions``, an additive mask for the
                attention scores, float[n, 1, t, past + t], or a dictionary of such masks by attention type.
            cache: KV cache of the earlier tokens.
            keep: Number of last positions for which logits are needed; 0 for all. Models without this option return
                all logits.
            positions: int64[n, t], if they do not follow from the mask.

        Returns:
            The output of transformers, which contains the logits and the KV cache.
        """
        cache = empty_cache(self.module.config) if cache is None else cache
        arguments: dict[str, Any] = {"input_ids": ids, "past_key_values": cache, "use_cache": True}
        if mask is not None:
            arguments["attention_mask"] = mask
            if positions is None:
                positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            arguments["position_ids"] = positions
        arguments["logits_to_keep"] = keep
        return self.module(**{name: value for name, value in arguments.items() if name in self._takes})

    def answer_rows(
        self,
        rows: list[list[int]],
        sampling: Sampling,
        prefix: Prefix | None = None,
        cached: int = 0,
        *,
        seeds: Sequence[int] | None = None,
        listeners: Sequence[Listener] | None = None,
    ) -> list[Completion]:
        """Complete one batch of encoded prompts; the caller holds `lock`.

        Args:
            rows: Token ids of each prompt.
            sampling: Settings of the generation.
            prefix: Prefilled common prefix of all rows, if there is one.
            cached: Number of cached tokens to report for the first row; the other rows report the whole prefix.
            seeds: Seed of each row; `sampling.seed` for all if None.
            listeners: Listener of each row, which receives the answer as it is generated.

        Returns:
            The answers, in the order of the rows.
        """
        started = time.perf_counter()
        ids, mask = self.padded(rows, left=True)
        width = ids.shape[1]
        told = any(listener.top_logprobs is not None for listener in listeners or ())
        distribution = Distribution() if told else None
        ends = _end_ids(self.module)
        watch = Watch(self.tokenizer, sampling.stop, ends, width, len(rows), listeners, distribution)
        settings = _neutral_settings(self.module.generation_config)
        if prefix is not None:
            room = width - len(prefix.ids) + sampling.max_tokens
            settings["past_key_values"] = prefix.left_padded((mask == 0).sum(1).tolist(), room)
        processors: list[Any] = [] if distribution is None else [distribution]
        if sampling.schema is not None or sampling.choices is not None:
            processors.append(self._held_to(sampling, width, len(rows)))
        if sampling.temperature:
            processors.append(Draw(sampling.temperature, seeds or [sampling.seed] * len(rows), ids.device))
        written = self.module.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=sampling.max_tokens,
            pad_token_id=self._pad,
            stopping_criteria=StoppingCriteriaList([watch]),
            logits_processor=processors,
            **settings,
        )[:, width:]
        seconds = (time.perf_counter() - started) / len(rows)
        shared = 0 if prefix is None else len(prefix.ids)
        answers = [
            self._read(
                tokens[: watch.lengths[place] or None],
                Usage(prompt_tokens=len(rows[place]), cached_tokens=cached if place == 0 else shared),
                sampling,
                seconds,
            )
            for place, tokens in enumerate(written.tolist())
        ]
        watch.finish([answer.text for answer in answers])
        return answers

    def _held_to(self, sampling: Sampling, start: int, rows: int) -> Any:
        """Return the logits processor that masks the tokens that are not allowed."""
        ends = sorted(_end_ids(self.module))
        if not ends:
            raise UnsupportedError(f"{self.name} has no token that ends a text, so an answer cannot be constrained")
        if sampling.schema is not None:
            self._vocabulary = self._vocabulary or vocabulary_of(self.tokenizer, ends)
            return FollowsSchema(self._vocabulary, sampling.schema, ends, start, rows)
        choices = [self.encode_text(choice) for choice in sampling.choices or ()]
        longest = max(map(len, choices)) + 1
        if sampling.max_tokens < longest:
            raise InvalidInputError(
                f"`max_tokens` is {sampling.max_tokens}, the longest choice takes {longest}; raise it"
            )
        return OneOf(choices, ends, start)

    def _read(self, tokens: list[int], read: Usage, sampling: Sampling, seconds: float) -> Completion:
        ends = _end_ids(self.module)
        last = next((place for place, token in enumerate(tokens) if token in ends), None)
        kept = tokens if last is None else tokens[: last + 1]
        written = tokens if last is None else tokens[:last]  # the end token is not always a special token
        text, stopped = cut_at_stop(self.tokenizer.decode(written, skip_special_tokens=True), sampling.stop)
        return Completion(
            text=text,
            usage=replace(read, completion_tokens=len(kept)),
            seconds=seconds,
            finish_reason="stop" if stopped or last is not None else "length",
        )

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
        rows = [self.encode_prompt(prompt) for prompt in batch]
        end = [end_of_turn_id(self)] if end_of_turn else []
        tails = [self.encode_text(choice) + end for choice in choices]
        scores = np.zeros((len(rows), len(tails)))
        longest = max(map(len, tails), default=0)
        if not rows or not longest:
            return scores
        window, tokens = self.capabilities.window, max(map(len, rows)) + longest
        if window and tokens > window:
            advice = f"shorten the prompt, or score shorter choices (the longest takes {longest} tokens)"
            raise PromptTooLongError(tokens, window, advice=advice)
        shareable = takes_tree_masks(self)
        with self.computing(), self._adapted():
            for group, prefix, _ in self._sharing(batch, rows, shareable=shareable):
                for places in batches_by_length([rows[place] for place in group], self.batch_size):
                    some = [rows[group[place]] for place in places]
                    found = (
                        log_likelihoods(self, some, tails, prefix)
                        if shareable
                        else log_likelihoods_uncached(self, some, tails)
                    )
                    scores[[group[place] for place in places]] = found
        return scores

    @override
    def _pieces(self, prompt: AnyPrompt, sampling: Sampling) -> Generator[str, None, Completion]:
        row = self.encode_prompt(prompt)
        self.check_window(len(row), sampling.max_tokens)
        heard: SimpleQueue[str | Completion | Exception] = SimpleQueue()
        given_up = Event()
        listener = Listener(hear=lambda piece, _: heard.put(piece), is_gone=given_up.is_set)

        def work() -> None:
            try:
                heard.put(self.complete_rows([row], sampling, prompts=[prompt], listeners=[listener])[0])
            except Exception as error:  # noqa: BLE001 - re-raised in the caller's thread
                heard.put(error)

        thread = Thread(target=work, name="ragkit-stream", daemon=True)
        thread.start()
        try:
            while isinstance(told := heard.get(), str):
                yield told
        finally:
            given_up.set()
            thread.join()
        if isinstance(told, Exception):
            raise told
        return told

    @property
    def _pad(self) -> int:
        known = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, *sorted(_end_ids(self.module)))
        return next((int(token) for token in known if token is not None), 0)  # masked, so any token works

    def padded(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[Any, Any]:
        """Pad rows to the same length, on the model's device.

        Args:
            rows: Token ids of each row.
            left: Whether to pad on the left.

        Returns:
            Token ids and attention mask, both int64[n, width].
        """
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            where = slice(width - len(row), None) if left else slice(None, len(row))
            ids[place, where] = torch.tensor(row)
            mask[place, where] = 1
        return ids.to(self.module.device), mask.to(self.module.device)


def window_of(module: Any, tokenizer: Any) -> int | None:
    """Return the context window: the smaller of the limits that the model and the tokenizer specify.

    Returns:
        A number of tokens; None if neither specifies a limit.
    """
    said = [getattr(module.config, "max_position_embeddings", None), tokenizer.model_max_length]
    known = [size for size in said if size and size < 10**9]
    return min(known) if known else None


def _neutral_settings(stored: Any) -> dict[str, Any]:
    """Return settings for greedy decoding, which override the recommendations of ``generation_config.json``."""
    defaults = stored._get_default_generation_params()
    known = GenerationConfig().to_dict().keys() - _OF_THE_MODEL
    recommended = (name for name, value in stored.to_dict().items() if name in known and value is not None)
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return {name: defaults.get(name) for name in recommended} | greedy


def _end_ids(module: Any) -> set[int]:
    ends = module.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends} - {None}
