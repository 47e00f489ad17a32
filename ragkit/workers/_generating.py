"""Generation as work for a pool: each worker loads the model once and answers batches of prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter

from ragkit.errors import (
    InvalidInputError,
    ModelAccessError,
    ModelError,
    RagkitError,
    TransientModelError,
    WorkerError,
)
from ragkit.models import load_model
from ragkit.models._prompts import checked_prompts
from ragkit.models._reasoning import ReasoningLevel
from ragkit.models._results import raised, results_of_each
from ragkit.models._sampling import Sampling, checked_answers
from ragkit.protocols import AnyPrompt, LanguageModel, Schema
from ragkit.records import Chat, Completion, Prompt
from ragkit.workers._batches import Batch, Function, Missing, check_same
from ragkit.workers._pool import WorkerPool

_COMPLETION = TypeAdapter(Completion)
_CHAT = TypeAdapter(Chat)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateTexts:
    """Answers prompts, the items of a batch.

    If a retry cannot help, for example because a prompt is too long for the model, the result of the prompt is its
    error. A transient error fails the batch, which the pool retries; with ``cache``, responses are not requested twice.

    Attributes:
        model: The spec of a model, which each worker loads once.
        sampling: Sampling parameters.
        adapter: Folder of a PEFT adapter.
        base_url: Address of an OpenAI-compatible server.
        api_key_env: Name of the environment variable that holds the API key; by default that of the provider.
        reasoning: How much the model reasons before its answers.
        max_reasoning_tokens: Maximum number of reasoning tokens.
        cache: A file of cached responses, which the workers of one machine share.
        expected: The required fingerprint of the model; None for any.
    """

    model: str
    sampling: Sampling = field(default_factory=Sampling)
    adapter: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    cache: str | None = None
    expected: str | None = None
    reasoning: ReasoningLevel | None = None
    max_reasoning_tokens: int | None = None

    @property
    def fingerprint(self) -> str:
        """Return a hash of everything that determines the answers: the model and the sampling parameters."""
        model = self.expected or self._loaded().fingerprint
        options = json.dumps(self.sampling.options(), sort_keys=True)
        return f"generate:{model}:{hashlib.sha256(options.encode()).hexdigest()[:16]}"

    def start(self) -> Function:
        """Load the model.

        Returns:
            A function from prompts as JSON to results as JSON.

        Raises:
            InvalidInputError: If the model does not have the expected fingerprint.
        """
        model = self._loaded()
        check_same("model", self.model, model.fingerprint, self.expected)

        def answer(items: list[object]) -> list[object]:
            results = results_of_each(model, [_prompt_of(item) for item in items], self.sampling)
            for result in results:
                if isinstance(result, TransientModelError | ModelAccessError):
                    raise result
            return [_as_json(result) for result in results]

        return answer

    def _loaded(self) -> LanguageModel:
        return load_model(
            self.model, adapter=self.adapter, base_url=self.base_url, api_key_env=self.api_key_env, cache=self.cache,
            reasoning=self.reasoning, max_reasoning_tokens=self.max_reasoning_tokens,
        )  # fmt: skip

    def results(
        self,
        prompts: Sequence[AnyPrompt],
        pool: WorkerPool,
        *,
        batch_size: int = 64,
        folder: str | Path | None = None,
    ) -> Iterator[list[Completion | RagkitError]]:
        """Answer prompts on the workers of a pool, in batches in the order of the prompts.

        Args:
            prompts: The prompts.
            pool: The workers.
            batch_size: Number of prompts that a worker answers together.
            folder: Folder of completed batches, as for `WorkerPool.map_batches`.

        Yields:
            For each prompt of a batch, its completion or its error: a `WorkerError` with the reason if the batch was
            abandoned.

        Raises:
            InvalidInputError: If ``batch_size`` is below 1, or if a prompt is invalid.
        """
        if type(batch_size) is not int or batch_size < 1:
            raise InvalidInputError(f"`batch_size` must be a whole number of at least 1, got {batch_size!r}")
        items = [_prompt_as_json(prompt) for prompt in checked_prompts(prompts)]
        names = [str(place) for place in range(len(items))]
        batches = [
            Batch(names[start : start + batch_size], items[start : start + batch_size])
            for start in range(0, len(items), batch_size)
        ]
        with closing(pool.stream(self, batches, folder=folder)) as ended:
            for each in ended:
                if isinstance(each, Missing):
                    lost = WorkerError(f"the batch was abandoned after {each.attempts} attempts: {each.reason}")
                    yield [lost] * len(each.ids)
                else:
                    yield [_result_of(cast("Mapping[str, Any]", value)) for value in each.results]


def generate_many(  # noqa: PLR0913 - those of `generate`, and those of the pool
    model: str,
    prompts: Sequence[AnyPrompt],
    *,
    pool: WorkerPool,
    max_tokens: int = 256,
    temperature: float = 0.0,
    stop: Sequence[str] = (),
    seed: int = 0,
    schema: Schema | None = None,
    choices: Sequence[str] | None = None,
    grammar: str | None = None,
    batch_size: int = 64,
    cache: str | Path | None = None,
    folder: str | Path | None = None,
) -> list[Completion]:
    """Answer many prompts on the workers of a pool.

    Args:
        model: The spec of a model, which each worker loads once.
        prompts: The prompts.
        pool: The workers.
        max_tokens: As for `LanguageModel.generate`, like the next six.
        temperature: Sampling temperature; 0 always selects the most probable token.
        stop: Sequences at which an answer ends.
        seed: Seed of the sampling.
        schema: JSON schema to which answers are constrained.
        choices: Texts to which answers are constrained.
        grammar: Grammar to which answers are constrained, in Lark's notation.
        batch_size: Number of prompts that a worker answers together; the last bits of a model's results can depend on
            it.
        cache: A file of cached responses, so that none is requested twice; the workers of one machine share it.
        folder: Folder of completed batches; rerun an interrupted call to resume, on any engine.

    Returns:
        A completion for each prompt, in order; the same as without a pool, except for measured seconds.

    Raises:
        BatchError: If some prompts failed; the error contains the answers of the others. If all failed, the first error
            itself is raised.

    Examples:
        >>> pool = WorkerPool("inline")  # "process" or "ray" for many
        >>> done = generate_many("tiny", ["Input: dim the lamp", "Input: play a song"], pool=pool, max_tokens=4)
        >>> [each.usage.completion_tokens for each in done]
        [4, 4]
    """
    sampling = Sampling.of(
        max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed, schema=schema, choices=choices,
        grammar=grammar,
    )  # fmt: skip
    work = GenerateTexts(model=model, sampling=sampling, cache=None if cache is None else str(cache))
    results = [each for part in work.results(prompts, pool, batch_size=batch_size, folder=folder) for each in part]
    return checked_answers(raised(results), schema if isinstance(schema, type) else None, None, model)


def _prompt_as_json(prompt: AnyPrompt) -> object:
    return prompt if isinstance(prompt, str) else asdict(prompt)


def _prompt_of(item: object) -> AnyPrompt:
    if isinstance(item, str):
        return item
    value = cast("Mapping[str, Any]", item)
    if "messages" in value:
        return _CHAT.validate_python(value)
    chat = None if value["chat"] is None else cast("Chat", _prompt_of(value["chat"]))
    return Prompt(**{**value, "chat": chat})


def _as_json(result: Completion | RagkitError) -> object:
    if isinstance(result, Completion):
        return {**asdict(replace(result, parsed=None)), "parsed": result.parsed}
    return {"error": str(result), "of_the_model": isinstance(result, ModelError)}


def _result_of(value: Mapping[str, Any]) -> Completion | RagkitError:
    if "error" in value:
        return (ModelError if value["of_the_model"] else InvalidInputError)(value["error"])
    return _COMPLETION.validate_python(value)
