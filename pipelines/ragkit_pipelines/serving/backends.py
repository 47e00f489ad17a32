"""What stands behind the server: local models in batches across adapters, or any other language model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from typing_extensions import override

from ragkit.errors import InvalidInputError, RagkitError, UnsupportedError
from ragkit.extras import require
from ragkit.models import load_model
from ragkit.models.results import results_of_each
from ragkit.models.sampling import Sampling
from ragkit.protocols import LanguageModel
from ragkit.records import Completion
from ragkit_pipelines.serving.bodies import Question
from ragkit_pipelines.serving.jobs import Backend, Job, Result

if TYPE_CHECKING:
    from ragkit.models.adapters import AdapterSet
    from ragkit.models.local import LocalModel


class LocalBackend(Backend):
    """A model on this machine and its adapters: one batch at a time, each row with its adapter, seed and listener."""

    def __init__(
        self, base: LocalModel, adapters: AdapterSet | None, *, batch_size: int | None, max_tokens: int
    ) -> None:
        """Take loaded models.

        Args:
            base: The base, or a model of its own.
            adapters: The set that the base belongs to, if any.
            batch_size: Rows of a batch; the base's if None.
            max_tokens: Tokens written at the most where a request does not say.
        """
        self.models = {base.name: base, **(adapters or {})}
        self.workers = 1
        self.batch_size = batch_size or base.batch_size
        self._base, self._adapters, self._max_tokens = base, adapters, max_tokens
        self._locals: dict[str, LocalModel] = {base.name: base, **(adapters or {})}
        for model in self._locals.values():
            model.batch_size = self.batch_size

    @override
    def job(self, question: Question, *, streams: bool) -> Job:
        model = self._locals[question.model]
        row = model.encode_prompt(question.prompt)
        model.check_window(len(row), question.max_tokens or 1)
        room = (model.capabilities.window or 10**9) - len(row)
        sampling = question.sampling(max_tokens=min(self._max_tokens, room))
        return Job(question, sampling, _key(sampling, with_seed=False), row=row, streams=streams)

    @override
    def run(self, jobs: list[Job]) -> Sequence[Result]:
        from ragkit.models.streaming import Listener

        listeners = [
            Listener(
                hear=job.hear if job.streams or job.question.top_logprobs is not None else None,
                is_gone=job.is_gone,
                top_logprobs=job.question.top_logprobs,
            )
            for job in jobs
        ]
        rows, seeds = [job.row or [] for job in jobs], [job.sampling.seed for job in jobs]
        if self._adapters is None:
            return self._base.complete_rows(rows, jobs[0].sampling, seeds=seeds, listeners=listeners)
        names = [None if job.question.model == self._base.name else job.question.model for job in jobs]
        return self._adapters.complete_rows(rows, names, jobs[0].sampling, seeds=seeds, listeners=listeners)


class ModelBackend(Backend):
    """Any language model: in batches, or one by one and several at once where it is asked over a network."""

    def __init__(self, model: LanguageModel, *, batch_size: int | None, max_tokens: int) -> None:
        """Take a model.

        Args:
            model: The model.
            batch_size: Prompts of a batch, or calls under way at once; 16 if None.
            max_tokens: Tokens written at the most where a request does not say.
        """
        size = batch_size or 16
        one_by_one = getattr(model, "concurrency", None) is not None or not model.capabilities.batches
        self.models = {model.name: model}
        self.batch_size, self.workers = (1, size) if one_by_one else (size, 1)
        self._model, self._max_tokens = model, max_tokens

    @override
    def job(self, question: Question, *, streams: bool) -> Job:
        able = self._model.capabilities
        asked = {
            "logprobs": question.top_logprobs is not None,
            "response_format": question.schema is not None and not able.schema,
            "guided_choice": question.choices is not None and not able.choices,
            "seed": question.seed is not None and question.temperature and not able.seed,
        }
        for field, refused in asked.items():
            if refused:
                raise UnsupportedError(f"{self._model.name} cannot honour `{field}`; leave it out or ask another model")
        sampling = question.sampling(max_tokens=self._max_tokens, seed=None if able.seed else 0)
        return Job(question, sampling, _key(sampling, with_seed=True), streams=streams)

    @override
    def run(self, jobs: list[Job]) -> Sequence[Result]:
        results: dict[int, Result] = {}
        together = [place for place, job in enumerate(jobs) if not job.streams or job.sampling.constrained]
        if together:
            prompts = [jobs[place].question.prompt for place in together]
            answers = results_of_each(self._model, prompts, jobs[0].sampling)
            results |= zip(together, answers, strict=True)
        for place, job in enumerate(jobs):
            answer = results.get(place)
            if answer is None:
                results[place] = self._streamed(job)
            elif job.streams and isinstance(answer, Completion):
                job.hear(answer.text, ())
        return [results[place] for place in range(len(jobs))]

    def _streamed(self, job: Job) -> Result:
        options = job.sampling.options()
        text = ""
        try:
            stream = self._model.stream(job.question.prompt, **options)
            for piece in stream:
                text += piece
                job.hear(piece, ())
                if job.is_gone():
                    break
        except RagkitError as error:
            return error
        if (close := getattr(stream, "close", None)) is not None:
            close()
        whole = getattr(stream, "completion", None)
        return whole if isinstance(whole, Completion) else Completion(text=text)


def backend_of(
    model: str | LanguageModel | AdapterSet,
    adapters: Mapping[str, str | Path],
    *,
    batch_size: int | None,
    max_tokens: int,
) -> Backend:
    """Load what is to be served.

    Args:
        model: A spec, a loaded model or a set of adapters.
        adapters: Folders of adapters by name, for the spec of a base.
        batch_size: Prompts that go together at the most.
        max_tokens: Tokens written at the most where a request does not say.

    Returns:
        The backend.

    Raises:
        InvalidInputError: If an argument makes no sense.
    """
    for name, value in (("batch_size", 1 if batch_size is None else batch_size), ("max_tokens", max_tokens)):
        if value < 1:
            raise InvalidInputError(f"`{name}` must be at least 1, got {value}")
    loaded: LanguageModel | AdapterSet = model if not isinstance(model, str) else _loaded(model, adapters)
    if adapters and not isinstance(model, str):
        raise InvalidInputError("`adapters` go with the spec of their base; a loaded base is served by an AdapterSet")
    if isinstance(loaded, Mapping):
        if loaded.base.name in loaded:
            raise InvalidInputError(f"an adapter is called {loaded.base.name!r}, which is the base's name; rename it")
        return LocalBackend(loaded.base, loaded, batch_size=batch_size, max_tokens=max_tokens)
    if hasattr(loaded, "complete_rows"):
        return LocalBackend(cast("LocalModel", loaded), None, batch_size=batch_size, max_tokens=max_tokens)
    return ModelBackend(loaded, batch_size=batch_size, max_tokens=max_tokens)


def _loaded(spec: str, adapters: Mapping[str, str | Path]) -> LanguageModel | AdapterSet:
    if not adapters:
        return load_model(spec)
    require("torch", "transformers", "peft")
    from ragkit.models.adapters import AdapterSet

    return AdapterSet(spec, adapters)


def _key(sampling: Sampling, *, with_seed: bool) -> str:
    options = sampling.options()
    return json.dumps(options if with_seed else {**options, "seed": 0}, sort_keys=True, default=str)
