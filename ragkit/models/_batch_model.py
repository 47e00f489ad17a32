"""API models in batch mode: the requests of a call are one batch, which costs half and may take a day."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._text import refuse_bare_string
from ragkit.errors import RagkitError, TransientModelError, UnsupportedError
from ragkit.models._api import LangChainModel
from ragkit.models._batch_journal import Journal
from ragkit.models._batch_providers import AnthropicBatches, OpenAIBatches, Provider
from ragkit.models._batch_requests import BatchRequests, Collected, collect_requests
from ragkit.models._batch_runs import BatchRuns
from ragkit.models._prompts import checked_prompts
from ragkit.models._provider_errors import as_model_error
from ragkit.models._rate_limit import Retry
from ragkit.models._results import raised
from ragkit.models._sampling import Sampling, checked_result
from ragkit.models._shared_prefixes import shared_prefixes
from ragkit.models._wrapper import ModelWrapper
from ragkit.protocols import AnyPrompt, Capabilities, LanguageModel
from ragkit.records import Completion

PRICE = 0.5  # of a request in a batch, as a share of the price of a single request
_ATTEMPTS = 3
_T = TypeVar("_T")


class BatchModel(ModelWrapper):
    """An API model whose calls are batches.

    All prompts of a call are submitted as one batch, also with different settings, and the call waits until it is over.
    Prefixes that several of them share are marked for the provider's prompt cache, if it requires marks. Rows that
    expired, and rows with a transient error, are submitted again. The journal records each batch before it is
    submitted, so a call that was interrupted finds its batch again when it is repeated.

    Attributes:
        model: The API model, which builds the requests and reads the replies. Answers share its fingerprint, and so its
            cache.
        group_size: Maximum number of prompts that the middleware passes on at once.
        mixes_settings: The middleware passes on prompts with different settings together.
        retries: Transient errors are retried here, not by the middleware.
    """

    model: LangChainModel
    group_size = 50_000
    mixes_settings = True
    retries = True

    def __init__(self, model: LangChainModel, runs: BatchRuns, *, attempts: int = _ATTEMPTS) -> None:
        """Wrap a model whose requests are collected."""
        self.model, self._runs, self._attempts = model, runs, attempts

    @property
    @override
    def capabilities(self) -> Capabilities:
        return replace(self.model.capabilities, batches=True)

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        return raised(self._run([(prompt, sampling) for prompt in prompts]))

    def results(self, requests: Sequence[tuple[AnyPrompt, Sampling]]) -> list[Completion | RagkitError]:
        """Generate answers with different settings in one batch, and return errors instead of raising them."""
        for _, sampling in requests:
            self._check(sampling)
        self._check_tools([prompt for prompt, _ in requests])
        answered = zip(requests, self._run(requests), strict=True)
        return [checked_result(result, sampling, self.name) for (_, sampling), result in answered]

    def _run(self, requests: Sequence[tuple[AnyPrompt, Sampling]]) -> list[Completion | RagkitError]:
        started = time.perf_counter()
        self.model.expect(key for key in shared_prefixes([prompt for prompt, _ in requests]) if key is not None)
        work = [
            lambda prompt=prompt, sampling=sampling: self.model._complete([prompt], sampling)[0]
            for prompt, sampling in requests
        ]
        results = self._answered(work, [sampling.options() for _, sampling in requests])
        seconds = (time.perf_counter() - started) / max(1, len(requests))
        return [replace(each, seconds=seconds) if isinstance(each, Completion) else each for each in results]

    @override
    def score(
        self, prompts: Sequence[AnyPrompt], choices: Sequence[str], *, end_of_turn: bool = False
    ) -> NDArray[np.float64]:
        refuse_bare_string("choices", choices)
        batch = checked_prompts(prompts)
        work = [lambda prompt=prompt: self.model.score([prompt], choices, end_of_turn=end_of_turn) for prompt in batch]
        rows = self._answered(work, [{"score": list(choices)}] * len(work))
        for row in rows:
            if isinstance(row, RagkitError):
                raise row
        return np.concatenate([np.zeros((0, len(choices))), *rows])

    def _answered(self, work: Sequence[Callable[[], _T]], salts: Sequence[object]) -> list[_T | RagkitError]:
        """Call functions whose requests are answered in batches; return the errors instead of raising them."""
        requests = BatchRequests(self.fingerprint)
        results: dict[int, _T | RagkitError] = {}
        asked: dict[int, str] = {}
        again = list(range(len(work)))
        for attempt in range(self._attempts):
            if attempt:
                names = {asked[index] for index in again}
                self._runs.journal.give_up(names)
                requests.replies = {name: each for name, each in requests.replies.items() if name not in names}
            left = again
            while left:  # a rejected parameter is left out, which makes another request
                rows, later = {}, []
                for index in left:
                    try:
                        results[index] = requests.run(work[index], salts[index])
                    except Collected as collected:
                        rows[collected.row.id] = collected.row
                        later.append(index)
                    except RagkitError as error:
                        results[index] = error
                    asked[index] = requests.last
                if rows:
                    requests.replies |= self._runs.answers(rows)
                left = later
            again = [index for index in again if isinstance(results[index], TransientModelError)]
            if not again:
                break
        return [results[index] for index in range(len(work))]


def batched(loaded: LanguageModel, cache: Path, *, poll_seconds: float, retry: Retry | None) -> BatchModel:
    """Put an API model into batch mode, with the journal next to a response cache.

    Args:
        loaded: The model, which must not be used otherwise.
        cache: The file of the response cache.
        poll_seconds: Seconds between two looks at a batch.
        retry: How transient errors are retried; its attempts are also those of a row.

    Returns:
        The model.

    Raises:
        UnsupportedError: If it is not an API model.
    """
    if not isinstance(loaded, LangChainModel):
        raise UnsupportedError(f"`batch` needs an API model, got {loaded.name!r}; omit it")
    kind = loaded.name.partition(":")[0]
    loaded.price_share = PRICE
    provider = _openai(loaded.chat_model) if kind == "openai" else _anthropic(loaded.chat_model)
    journal = Journal(cache.with_name(f"{cache.name}.batches"), f"{kind}:{loaded.address or ''}")

    def failure(error: Exception) -> RagkitError:
        return as_model_error(error, loaded.name, loaded.secrets())

    runs = BatchRuns(
        provider=provider, journal=journal, name=loaded.name, poll_seconds=poll_seconds, failure=failure,
        retry=retry or Retry(),
    )  # fmt: skip
    return BatchModel(loaded, runs, attempts=retry.attempts if retry else _ATTEMPTS)


def _openai(chat_model: Any) -> Provider:
    sending = chat_model.root_client.with_options(max_retries=0)
    chat_model.root_client = collect_requests(sending)
    chat_model.client = chat_model.root_client.chat.completions
    return OpenAIBatches(sending)


def _anthropic(chat_model: Any) -> Provider:
    import httpx

    sending = chat_model._client
    vars(chat_model)["_client"] = collect_requests(sending)  # a cached property
    headers = {name: value for name, value in sending.default_headers.items() if isinstance(value, str)}
    return AnthropicBatches(httpx.Client(base_url=str(sending.base_url), headers=headers, timeout=sending.timeout))
