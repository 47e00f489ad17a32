"""Text models on servers: texts are continued without a chat template, and choices are scored exactly.

The endpoint ``/v1/completions`` of OpenAI's protocol continues a text. vLLM, `ragkit serve` and llama-cpp-python also
return the log-probabilities of the text itself (``echo``), from which the log-likelihood of any choice follows. Chat
endpoints return only those of generated tokens.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._extras import require
from ragkit._text import refuse_bare_string
from ragkit.errors import InvalidInputError, ModelError, RagkitError, TransientModelError, UnsupportedError
from ragkit.models._base import ModelBase
from ragkit.models._prices import Prices
from ragkit.models._prompts import checked_prompts, cut_at_stop, in_form, until_stop
from ragkit.models._provider_errors import as_model_error
from ragkit.models._provider_hints import NOT_JSON, prompt_too_long
from ragkit.models._provider_logprobs import log_probabilities, tokens_within
from ragkit.models._provider_secrets import (
    NO_KEY,
    check_address,
    key_in_environment,
    secrets_in_address,
    secrets_in_environment,
    without_secrets,
)
from ragkit.models._results import raised
from ragkit.models._sampling import Sampling
from ragkit.models._servers import KEYS, ServedModel, probe
from ragkit.protocols import AnyPrompt, Capabilities
from ragkit.records import Completion, FinishReason, Usage

_PROBE = "one two three"
_REASONS: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}
_MOST_STOPS = 4
_TOP = 5  # alternatives of a token; OpenAI's limit


def load_text_model(
    spec: str,
    *,
    base_url: str | None = None,
    api_key_env: str | None = None,
    prices: Prices | None = None,
    timeout: float = 120.0,
) -> TextModel:
    """Load ``"completions:<model>"``: a model behind the endpoint ``/v1/completions`` of a server.

    The server is asked for its models, and whether it returns the log-probabilities of a prompt.

    Args:
        spec: ``completions:`` and the name of the model on the server.
        base_url: Address of the server, which ends with ``/v1``.
        api_key_env: Name of the environment variable with the API key; ``OPENAI_API_KEY`` by default, if it is set.
        prices: Custom prices.
        timeout: Timeout of a request in seconds.

    Returns:
        The model.

    Raises:
        InvalidInputError: If ``base_url`` is missing, or the server does not have the model.
        ModelError: If the server cannot be used.
    """
    require("langchain_openai")
    if base_url is None:
        raise InvalidInputError(
            f"{spec[:200]!r} needs the address of a server; pass base_url, such as http://localhost:8000/v1"
        )
    check_address(base_url)
    key = key_in_environment(api_key_env) if api_key_env else os.environ.get(KEYS["completions"]) or ""
    served = probe("completions", spec.partition(":")[2], base_url, key, timeout=timeout)
    from openai import OpenAI

    client = OpenAI(base_url=base_url, api_key=key or NO_KEY, max_retries=0, timeout=timeout)
    model = TextModel(client, served, name=spec, prices=prices)
    model.key_variable = api_key_env
    model.probe_echo()
    return model


class TextModel(ModelBase):
    """A model behind the endpoint ``/v1/completions``; a prompt is continued as it is, without a chat template.

    Attributes:
        prices: Token prices; the cost of a completion is None if the model has no price.
        key_variable: Name of the environment variable with the API key, if it is not the default one.
    """

    def __init__(self, client: Any, served: ServedModel, *, name: str, prices: Prices | None = None) -> None:
        """Wrap a client of OpenAI's package, for a model of its server."""
        self._client, self._served, self._name = client, served, name
        self.prices = prices or Prices()
        self.key_variable: str | None = None
        self._address = without_secrets(str(client.base_url)).rstrip("/")
        self._fingerprint = f"completions:{served.name}:{self._address}"
        self._echoes = False

    def probe_echo(self) -> None:
        """Set `capabilities.score` if the server returns the log-probabilities of a prompt."""
        try:
            tokens = self._echoed(_PROBE)
        except TransientModelError:
            raise
        except ModelError:
            tokens = []
        self._echoes = _PROBE.split()[-1] in "".join(token for token, _ in tokens)

    @property
    @override
    def capabilities(self) -> Capabilities:
        return Capabilities(window=self._served.window, score=self._echoes, batches=False, logprobs=True)

    @override
    def cost_of(self, usage: Usage) -> float | None:
        return self.prices.cost(self.name, usage) if self.name in self.prices.own else None

    def secrets(self) -> list[str]:
        """Return the secrets of the client and of the environment as plain text."""
        key = str(self._client.api_key)
        own = [] if key == NO_KEY else [key]
        return [*own, *secrets_in_address(str(self._client.base_url)), *secrets_in_environment()]

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        results: list[Completion | RagkitError] = []
        for prompt in prompts:
            started = time.perf_counter()
            try:
                reply = self._create(self._text(prompt), sampling)
                results.append(self._read([reply], sampling, time.perf_counter() - started))
            except RagkitError as error:
                results.append(error)
        return raised(results)

    @override
    def _pieces(self, prompt: AnyPrompt, sampling: Sampling) -> Generator[str, None, Completion]:
        started, chunks = time.perf_counter(), list[Any]()
        stream = self._create(self._text(prompt), sampling, stream=True, stream_options={"include_usage": True})

        def texts() -> Generator[str, None, None]:
            try:
                for chunk in stream:
                    chunks.append(chunk)
                    yield "".join(choice.text or "" for choice in chunk.choices)
            except Exception as error:  # noqa: BLE001 - the package has many errors
                failure = self._failure(error)
            else:
                return
            raise failure

        yield from until_stop(texts(), sampling.stop)
        completion = self._read(chunks, sampling, time.perf_counter() - started)
        endings = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
        stopped = cut_at_stop("".join(_texts(chunks)), sampling.stop)[1]
        if not stopped and not any(endings):
            raise TransientModelError(
                f"the stream of {self.name} ended without a finish reason; the answer is incomplete"
            )
        return completion

    def _text(self, prompt: AnyPrompt) -> str:
        return str(in_form(prompt, chat=False, name=self.name).text)  # type: ignore[union-attr]

    def _create(self, text: str, sampling: Sampling, **extra: Any) -> Any:
        """Send a request; `logprobs` is the number of alternatives here, of which none are needed."""
        settings = {**sampling.optional(), **({"logprobs": 1} if sampling.logprobs else {}), **extra}
        stop = [each for each in sampling.stop if each][:_MOST_STOPS]
        try:
            reply = self._client.completions.create(
                model=self._served.name, prompt=text, max_tokens=sampling.max_tokens, temperature=sampling.temperature,
                seed=sampling.seed, **({"stop": stop} if stop else {}), **settings,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - the package has many errors
            failure = self._failure(error)
        else:
            if isinstance(reply, str):
                raise ModelError(f"{self.name} gave no answer; {NOT_JSON}", maybe_paid=False)
            return reply
        raise failure

    def _failure(self, error: Exception) -> RagkitError:
        return prompt_too_long(error) or as_model_error(error, self.name, self.secrets(), address=self._address)

    def _read(self, replies: Sequence[Any], sampling: Sampling, seconds: float) -> Completion:
        """Convert a reply, or the chunks of a stream, to a completion."""
        choices = [choice for reply in replies for choice in getattr(reply, "choices", None) or ()]
        if not choices:
            raise TransientModelError(f"{self.name} returned no answer; if this happens again, {NOT_JSON}")
        reported = next((found for reply in reversed(replies) if (found := getattr(reply, "usage", None))), None)
        usage = Usage()
        if reported:
            usage = Usage(prompt_tokens=reported.prompt_tokens, completion_tokens=reported.completion_tokens)
        text, stopped = cut_at_stop("".join(_texts(replies)), sampling.stop)
        ending = next((choice.finish_reason for choice in reversed(choices) if choice.finish_reason), None)
        tokens = [token for choice in choices for token in _tokens(choice)] if sampling.logprobs else []
        return Completion(
            text=text, usage=usage, cost=self.cost_of(usage) if reported else None, seconds=seconds,
            finish_reason="stop" if stopped else _REASONS.get(str(ending), "stop"),
            logprobs=tokens_within(tokens, text),
        )  # fmt: skip

    @override
    def score(
        self, prompts: Sequence[AnyPrompt], choices: Sequence[str], *, end_of_turn: bool = False
    ) -> NDArray[np.float64]:
        """Compute the log-likelihood of each choice after each prompt, from the log-probabilities of whole texts.

        Args:
            prompts: n prompts; each takes one request, and one more for each choice.
            choices: c continuations, including their leading space. They are tokenized together with the prompt. If the
                server returns no log-probabilities of a prompt, they must differ in their first token.
            end_of_turn: Has no effect, because the server does not tell its end-of-turn token.

        Returns:
            f64[n, c], in nats.

        Raises:
            UnsupportedError: If the server returns no log-probabilities.
        """
        refuse_bare_string("choices", choices)
        texts = [self._text(prompt) for prompt in checked_prompts(prompts)]
        score = self._likelihoods if self._echoes else self._first_token
        rows = [score(text, choices) for text in texts] if choices else []
        return np.array(rows, dtype=np.float64).reshape(len(texts), len(choices))

    def _likelihoods(self, prompt: str, choices: Sequence[str]) -> list[float]:
        before = self._echoed(prompt) if any(choices) else []
        found = []
        for choice in choices:
            tokens = self._echoed(prompt + choice) if choice else before
            # Tokens that the end of the prompt shares with the choice count as part of the choice.
            pairs = enumerate(zip(before, tokens, strict=False))
            shared = next((at for at, (one, two) in pairs if one[0] != two[0]), min(len(before), len(tokens)))
            if choice and shared == len(tokens):
                raise ModelError(f"{self.name} returned no tokens for the choice {choice!r}", maybe_paid=True)
            found.append(sum(value for _, value in tokens[shared:]))
        return found

    def _first_token(self, prompt: str, choices: Sequence[str]) -> list[float]:
        reply = self._create(prompt, Sampling(max_tokens=1), logprobs=_TOP)
        found = _likely(reply.choices[0]) if reply.choices else []
        if not found:
            raise UnsupportedError(f"{self.name} returns no probabilities, so it cannot score choices; use `generate`")
        return log_probabilities(found, choices, self.name)

    def _echoed(self, text: str) -> list[tuple[str, float]]:
        """Return the tokens of a text with their log-probabilities; the first one has none, which counts as 0."""
        # Some servers treat a limit of 0 tokens as no limit.
        reply = self._create(text, Sampling(max_tokens=1, logprobs=True), echo=True)
        choice = reply.choices[0] if reply.choices else None
        written = reply.usage.completion_tokens if reply.usage else 1
        tokens = _tokens(choice)
        return tokens[: len(tokens) - written]


def _texts(replies: Sequence[Any]) -> list[str]:
    return [choice.text or "" for reply in replies for choice in getattr(reply, "choices", None) or ()]


def _tokens(choice: Any) -> list[tuple[str, float]]:
    """Return the tokens of a choice with their log-probabilities; 0 for the first of a text, which has none."""
    found = getattr(choice, "logprobs", None)
    if content := getattr(found, "content", None):  # llama.cpp, as in chats
        return [(str(each["token"]), float(each["logprob"])) for each in content]
    tokens, values = getattr(found, "tokens", None) or [], getattr(found, "token_logprobs", None) or []
    return [(str(token), float(value or 0.0)) for token, value in zip(tokens, values, strict=False)]


def _likely(choice: Any) -> list[tuple[str, float]]:
    """Return the most probable first tokens of a choice with their log-probabilities."""
    found = getattr(choice, "logprobs", None)
    if content := getattr(found, "content", None):
        return [(str(each["token"]), float(each["logprob"])) for each in content[0]["top_logprobs"]]
    top = getattr(found, "top_logprobs", None) or [{}]
    return [(str(token), float(value)) for token, value in (top[0] or {}).items()]
