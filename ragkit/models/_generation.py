"""Completion of batches of prompts with transformers' `generate`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from transformers import GenerationConfig, StoppingCriteriaList

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.models._causal_module import CausalModule
from ragkit.models._concurrency import raise_if_stopped, stop_requested
from ragkit.models._constrained_decoding import FollowsGrammar, OneOf, grammar_of_schema, vocabulary_of
from ragkit.models._prefix_cache import Batch
from ragkit.models._prompt_encoding import PromptEncoder
from ragkit.models._prompts import cut_at_stop
from ragkit.models._sampling import Sampling
from ragkit.models._streaming import Distribution, Draw, Listener, Penalties, Watch
from ragkit.records import Completion, Usage

# Fields of a generation config that describe the model, in contrast to recommended generation settings.
_OF_THE_MODEL = {
    "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "max_length", "max_new_tokens",
    "_from_model_config", "transformers_version",
}  # fmt: skip


class BatchGenerator:
    """Completes batches with a causal model, whose answers do not depend on the other prompts of a batch."""

    def __init__(self, network: CausalModule, tokenizer: Any, encoder: PromptEncoder, *, name: str) -> None:
        """Combine a network and its tokenizer; ``name`` is the model in error messages."""
        self._network, self._tokenizer, self._encoder, self._name = network, tokenizer, encoder, name

    def complete(
        self, batch: Batch, sampling: Sampling, seeds: Sequence[int], listeners: Sequence[Listener]
    ) -> dict[int, Completion]:
        """Complete a batch under the model's lock.

        Args:
            batch: The prompts.
            sampling: Settings of the generation.
            seeds: Seed of each prompt of the call.
            listeners: Listener of each prompt of the call.

        Returns:
            The answers by the index of the prompt in the call.

        Raises:
            CallCancelledError: If the call was cancelled between two decoding steps.
        """
        started = time.perf_counter()
        ids, mask = self._network.padded(batch.rows, left=True)
        rows, width = ids.shape
        heard = [listeners[index] for index in batch.indices]
        distribution = Distribution() if any(listener.top_logprobs is not None for listener in heard) else None
        processors: list[Any] = [] if distribution is None else [distribution]
        if sampling.presence_penalty or sampling.frequency_penalty:
            processors.append(Penalties(sampling.presence_penalty, sampling.frequency_penalty, width))
        if sampling.constrained:
            processors.append(self._constraint(sampling, width, rows))
        if sampling.temperature:
            own = [seeds[index] for index in batch.indices]
            processors.append(Draw(sampling.temperature, own, ids.device, top_p=sampling.top_p))
        settings = _neutral_settings(self._network.module.generation_config)
        if batch.prefix.ids:
            room = width - len(batch.prefix) + sampling.max_tokens
            settings["past_key_values"] = batch.prefix.left_padded((mask == 0).sum(1).tolist(), room)
        watch = Watch(
            self._tokenizer, sampling.stop, set(self._network.end_ids), width, heard, distribution, stop_requested()
        )
        generated = self._network.module.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=sampling.max_tokens,
            pad_token_id=self._network.pad_id,
            stopping_criteria=StoppingCriteriaList([watch]),
            logits_processor=processors,
            **settings,
        )[:, width:].tolist()
        raise_if_stopped()  # the answers are incomplete
        seconds = (time.perf_counter() - started) / rows
        answers = {}
        for row, index in enumerate(batch.indices):
            usage = Usage(prompt_tokens=len(batch.rows[row]), cached_tokens=batch.cached[row])
            answers[index] = self._read(generated[row][: watch.lengths[row] or None], usage, sampling.stop, seconds)
        watch.finish([answer.text for answer in answers.values()])
        return answers

    def _read(self, tokens: list[int], usage: Usage, stop: Sequence[str], seconds: float) -> Completion:
        ends = set(self._network.end_ids)
        length = next((index for index, token in enumerate(tokens) if token in ends), None)
        text = self._tokenizer.decode(tokens[:length], skip_special_tokens=True)  # an end token need not be special
        text, stopped = cut_at_stop(text, stop)
        return Completion(
            text=text,
            usage=replace(usage, completion_tokens=len(tokens) if length is None else length + 1),
            seconds=seconds,
            finish_reason="stop" if stopped or length is not None else "length",
        )

    def _constraint(self, sampling: Sampling, start: int, rows: int) -> Any:
        """Return the logits processor that masks the tokens that are not allowed."""
        ends = sorted(set(self._network.end_ids))
        if not ends:
            raise UnsupportedError(f"{self._name} has no token that ends a text, so an answer cannot be constrained")
        if sampling.choices is None:
            grammar = sampling.grammar
            compiled = grammar_of_schema(sampling.schema or {}) if grammar is None else grammar
            what = "schema" if grammar is None else "grammar"
            return FollowsGrammar(self._vocabulary, compiled, ends, start, rows, what=what)
        choices = [self._encoder.text(choice) for choice in sampling.choices]
        longest = max(map(len, choices)) + 1
        if sampling.max_tokens < longest:
            raise InvalidInputError(
                f"`max_tokens` is {sampling.max_tokens}, the longest choice takes {longest}; raise it"
            )
        return OneOf(choices, ends, start)

    @cached_property
    def _vocabulary(self) -> Any:
        return vocabulary_of(self._tokenizer, sorted(set(self._network.end_ids)))


def _neutral_settings(stored: Any) -> dict[str, Any]:
    """Return settings for greedy decoding, which override the recommendations of ``generation_config.json``."""
    defaults = stored._get_default_generation_params()
    known = GenerationConfig().to_dict().keys() - _OF_THE_MODEL
    recommended = (name for name, value in stored.to_dict().items() if name in known and value is not None)
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return {name: defaults.get(name) for name in recommended} | greedy
