"""The models that a server calls: a local model with adapters, or any other language model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from typing_extensions import override

from ragkit._extras import require
from ragkit.errors import InvalidInputError, RagkitError, ReasoningTruncatedError, UnsupportedError
from ragkit.models import load_model
from ragkit.models._grammar_check import grammar_check
from ragkit.models._results import results_of_each
from ragkit.models._sampling import Sampling
from ragkit.models._tools import calls_schema, selected_tools, with_calls
from ragkit.protocols import LanguageModel
from ragkit.records import Chat, Completion, Usage
from ragkit_pipelines.serving.bodies import Call
from ragkit_pipelines.serving.jobs import Backend, Job, Result

if TYPE_CHECKING:
    from ragkit.models._adapters import AdapterSet
    from ragkit.models._local import LocalModel
    from ragkit.models._reasoning import ReasoningLevel


class LocalBackend(Backend):
    """A local model and its adapters: one batch at a time, in which each row has its own adapter and seed."""

    def __init__(
        self, base: LocalModel, adapters: AdapterSet | None, *, batch_size: int | None, max_tokens: int
    ) -> None:
        """Wrap loaded models; see `Server` for the arguments."""
        self._locals: dict[str, LocalModel] = {base.name: base, **(adapters or {})}
        self.models = {**self._locals}
        self.workers = 1
        self.batch_size = batch_size or base.batch_size
        self._base, self._adapters, self._max_tokens = base, adapters, max_tokens
        for model in self._locals.values():
            model.batch_size = self.batch_size
        # Constrained decoding is prepared when it is first used, which would stop all other requests for a second.
        with suppress(RagkitError):
            base.generate("x", max_tokens=1, schema={"type": "integer"})

    @override
    def job(self, call: Call, *, streams: bool) -> Job:
        model = self._locals[call.body.model]
        _check_tools(call, model)
        row = model.encode_prompt(call.prompt, max_tokens=model.capabilities.window)
        model.check_window(len(row), 1 if call.max_tokens is None else call.max_tokens)
        room = (model.capabilities.window or 10**9) - len(row)
        sampling = call.sampling(max_tokens=min(self._max_tokens, room))
        if isinstance(call.prompt, Chat) and call.prompt.tools and call.prompt.tool_choice != "auto":
            tools = selected_tools(call.prompt.tools, call.prompt.tool_choice)
            sampling = replace(sampling, schema=calls_schema(tools))
        # Seeds may differ within a batch.
        _check_grammar(sampling)
        key = _key({**sampling.options(), "seed": 0, "empty": call.max_tokens == 0})
        return Job(call, sampling, key, row=row, streams=streams)

    @override
    def run(self, jobs: list[Job]) -> Sequence[Result]:
        from ragkit.models._streaming import Listener

        listeners = [
            Listener(
                hear=job.hear if _streams(job) or job.call.top_logprobs is not None else None,
                is_gone=job.is_cancelled,
                top_logprobs=job.call.top_logprobs,
            )
            for job in jobs
        ]
        for job in jobs:
            if job.call.echo and job.call.top_logprobs is not None:
                job.logprobs += self._locals[job.call.body.model].prompt_logprobs(
                    job.row or [], top=job.call.top_logprobs
                )
        if jobs[0].call.max_tokens == 0:
            usages = [Usage(prompt_tokens=len(job.row or [])) for job in jobs]
            return [Completion(text="", usage=usage, finish_reason="length") for usage in usages]
        rows, seeds = [job.row or [] for job in jobs], [job.sampling.seed for job in jobs]
        if self._adapters is None:
            done: Sequence[Result] = self._base.complete_rows(rows, jobs[0].sampling, seeds=seeds, listeners=listeners)
            return list(map(_with_calls, jobs, done))
        names = [None if job.call.body.model == self._base.name else job.call.body.model for job in jobs]
        done = self._adapters.complete_rows(rows, names, jobs[0].sampling, seeds=seeds, listeners=listeners)
        return list(map(_with_calls, jobs, done))


class ModelBackend(Backend):
    """Any language model: in batches, or with several concurrent calls if it is an API model."""

    def __init__(self, model: LanguageModel, *, batch_size: int | None, max_tokens: int) -> None:
        """Wrap a model; see `Server` for the arguments."""
        size = batch_size or 16
        one_by_one = getattr(model, "concurrency", None) is not None or not model.capabilities.batches
        self.models = {model.name: model}
        self.batch_size, self.workers = (1, size) if one_by_one else (size, 1)
        self._model, self._max_tokens = model, max_tokens

    @override
    def job(self, call: Call, *, streams: bool) -> Job:
        able = self._model.capabilities
        _check_tools(call, self._model)
        unsupported = {
            "logprobs": call.top_logprobs is not None,
            "echo": call.echo,
            "response_format": call.schema is not None and not able.schema,
            "guided_choice": call.body.guided_choice is not None and not able.choices,
            "guided_grammar": call.body.guided_grammar is not None and not able.grammar,
            "seed": call.body.seed is not None and call.body.temperature and not able.seed,
        }
        for field, used in unsupported.items():
            if used:
                raise UnsupportedError(f"{self._model.name} does not support `{field}`; omit it or use another model")
        if _has_pattern(call.schema):
            # The answer would be matched by Python's regular expressions, which a pattern can keep busy for ever.
            raise UnsupportedError("`pattern` in a schema is supported only for local models; omit it")
        sampling = call.sampling(max_tokens=self._max_tokens, seed=None if able.seed else 0)
        _check_grammar(sampling)
        return Job(call, sampling, _key(sampling.options()), streams=streams)

    @override
    def run(self, jobs: list[Job]) -> Sequence[Result]:
        results: dict[int, Result] = {}
        together = [n for n, job in enumerate(jobs) if not _streams(job) or job.sampling.constrained]
        if together:
            prompts = [jobs[n].call.prompt for n in together]
            results |= zip(together, results_of_each(self._model, prompts, jobs[0].sampling), strict=True)
        for n, job in enumerate(jobs):
            result = results.get(n)
            if result is None:
                results[n] = self._stream(job)
            elif job.streams and isinstance(result, Completion) and (result.text or not result.tool_calls):
                job.hear(result.text, ())
        return [_with_truncated_reasoning(results[n]) for n in range(len(jobs))]

    def _stream(self, job: Job) -> Result:
        text = ""
        try:
            stream = self._model.stream(job.call.prompt, **job.sampling.options())
            for piece in stream:
                text += piece
                job.hear(piece, ())
                if job.is_cancelled():
                    break
        except RagkitError as error:
            return error
        if (close := getattr(stream, "close", None)) is not None:
            close()
        completion = getattr(stream, "completion", None)
        return completion if isinstance(completion, Completion) else Completion(text=text)


def backend_of(
    model: str | LanguageModel | AdapterSet,
    adapters: Mapping[str, str | Path],
    *,
    batch_size: int | None,
    max_tokens: int,
    reasoning: ReasoningLevel | None = None,
    max_reasoning_tokens: int | None = None,
) -> Backend:
    """Load the models of a server; see `Server` for the arguments."""
    for name, value in (("batch_size", 1 if batch_size is None else batch_size), ("max_tokens", max_tokens)):
        if value < 1:
            raise InvalidInputError(f"`{name}` must be at least 1, got {value}")
    if adapters and not isinstance(model, str):
        raise InvalidInputError("`adapters` requires `model` to be a spec; pass an AdapterSet to serve a loaded model")
    given = {"reasoning": reasoning, "max_reasoning_tokens": max_reasoning_tokens}
    reasons = any(value is not None for value in given.values())
    if reasons and (adapters or not isinstance(model, str)):
        raise InvalidInputError(
            "`reasoning` and `max_reasoning_tokens` require `model` to be a spec, and no adapters; load the model with "
            "them, or merge the adapter (ragkit export)"
        )
    if reasons:
        loaded: LanguageModel | AdapterSet = load_model(model, **given)  # type: ignore[arg-type]
    else:
        loaded = _load(model, adapters) if isinstance(model, str) else model
    if isinstance(loaded, Mapping):
        if loaded.base.name in loaded:
            raise InvalidInputError(f"an adapter and the base model are both named {loaded.base.name!r}; rename one")
        return LocalBackend(loaded.base, loaded, batch_size=batch_size, max_tokens=max_tokens)
    reasoner = getattr(loaded, "reasoning", None)
    if hasattr(loaded, "complete_rows") and not (reasoner and reasoner.active):
        return LocalBackend(cast("LocalModel", loaded), None, batch_size=batch_size, max_tokens=max_tokens)
    return ModelBackend(loaded, batch_size=batch_size, max_tokens=max_tokens)


def _load(spec: str, adapters: Mapping[str, str | Path]) -> LanguageModel | AdapterSet:
    if not adapters:
        return load_model(spec)
    require("torch", "transformers", "peft")
    from ragkit.models._adapters import AdapterSet

    return AdapterSet(spec, adapters)


def _with_truncated_reasoning(result: Result) -> Result:
    """Return a response that was truncated during its reasoning as one without text, as OpenAI's API does."""
    return result.completion if isinstance(result, ReasoningTruncatedError) else result


def _check_grammar(sampling: Sampling) -> None:
    """Raise an error for an invalid grammar, before its request can delay others."""
    if sampling.grammar is not None:
        grammar_check(sampling.grammar)


def _check_tools(call: Call, model: LanguageModel) -> None:
    """Raise `UnsupportedError` for tools of a model that does not support them."""
    if call.tools and not model.capabilities.tools:
        raise UnsupportedError(f"{model.name} does not support `tools`; omit the field or use another model")


def _streams(job: Job) -> bool:
    """Whether the response is sent in pieces: tool calls can only be read from a whole one."""
    return job.streams and not job.call.tools


def _with_calls(job: Job, result: Result) -> Result:
    """Read the tool calls in a response of a local model, and deliver its text."""
    if not (isinstance(job.call.prompt, Chat) and job.call.prompt.tools and isinstance(result, Completion)):
        return result
    result = with_calls(result, job.call.prompt.tools)
    if job.streams and result.text:
        job.hear(result.text, ())
    return result


def _has_pattern(schema: object) -> bool:
    if isinstance(schema, Mapping):
        own = isinstance(schema.get("pattern"), str) or isinstance(schema.get("patternProperties"), Mapping)
        return own or any(map(_has_pattern, schema.values()))
    return isinstance(schema, list) and any(map(_has_pattern, schema))


def _key(options: Mapping[str, object]) -> str:
    return json.dumps(options, sort_keys=True, default=str)
