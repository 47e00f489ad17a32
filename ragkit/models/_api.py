"""API models and LangChain chat models."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, reduce
from operator import add
from typing import Any, Literal, get_args

from typing_extensions import override

from ragkit._extras import require
from ragkit._text import read_json
from ragkit.errors import (
    InvalidInputError,
    ModelError,
    RagkitError,
    RefusalError,
    TransientModelError,
    UnsupportedError,
)
from ragkit.models._base import ModelBase
from ragkit.models._prices import Prices
from ragkit.models._prompts import cut_at_stop, in_form, until_stop
from ragkit.models._provider_errors import as_model_error, told
from ragkit.models._provider_replies import FAILED, ending_of, is_truncated, refusal_in, reply_within, reported_usage
from ragkit.models._provider_secrets import (
    NO_KEY,
    check_address,
    check_secrets,
    key_in_environment,
    secrets_in_address,
    secrets_in_environment,
    secrets_of,
    shown_cause,
    without_secrets,
)
from ragkit.models._provider_settings import ProviderSettings, settings_digest, unbound
from ragkit.models._results import raised
from ragkit.models._sampling import Sampling, choice_error
from ragkit.protocols import AnyPrompt, Capabilities
from ragkit.records import Chat, Completion, Message, Usage

GrammarField = Literal["guided_grammar", "structured_outputs"]  # of `ragkit serve` and vLLM; of newer versions of vLLM
_OPENAI_LIKE = ("openai", "azure_openai", "deepseek", "openrouter", "xai")
_TAKE_RETRIES = (*_OPENAI_LIKE, "anthropic")


class LangChainModel(ModelBase):
    """A language model that calls a LangChain chat model; a plain prompt is sent as a single user message.

    Each prompt is one request, and requests are sent one after another. Concurrency and retries are provided by
    `LayeredModel`, which `load_model` adds. Token counts come from the provider; `count_tokens` is an estimate (one
    token per four bytes).

    Attributes:
        chat_model: The chat model.
        prices: Token prices; the cost of a completion is None if the model has no price.
        grammar_field: The field of a request in which the server accepts a grammar; None if it accepts none.
    """

    def __init__(self, chat_model: Any, *, name: str | None = None, prices: Prices | None = None) -> None:
        """Wrap a chat model."""
        require("langchain")
        self.chat_model = chat_model
        self.prices = prices or Prices()
        self.grammar_field: GrammarField | None = None
        self._own_prices = False
        self._inner = unbound(chat_model)[0]
        check_secrets(self._inner, name or type(self._inner).__name__)
        model = getattr(self._inner, "model_name", None) or getattr(self._inner, "model", None)
        self._name = name or f"{type(self._inner).__name__}:{model}"
        self._own_settings = f":{settings_digest(chat_model)}"
        self._settings = ProviderSettings(self._name)

    @classmethod
    def from_spec(
        cls,
        spec: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        prices: Prices | None = None,
        timeout: float = 120.0,
        grammar_field: GrammarField | None = None,
    ) -> LangChainModel:
        """Load ``"<provider>:<model>"`` through ``init_chat_model``.

        Args:
            spec: Provider and model; API keys are read from the provider's environment variables.
            api_key_env: Name of another environment variable that holds the API key.
            base_url: Address of an OpenAI-compatible server. An API key is then optional, and costs come only from
                ``prices``.
            prices: Custom prices.
            timeout: Timeout of a request in seconds, if the provider's package supports it.
            grammar_field: The field in which the server at ``base_url`` accepts a grammar.

        Returns:
            The model.

        Raises:
            ModelError: If the provider's package or key is missing.
            InvalidInputError: If the environment variable ``api_key_env`` is not set.
        """
        if grammar_field is not None and (base_url is None or grammar_field not in get_args(GrammarField)):
            raise InvalidInputError(
                f"`grammar_field` must be one of {get_args(GrammarField)}, and goes with `base_url`; got "
                f"{grammar_field!r} and the address {base_url!r}"
            )
        require("langchain", *(["langchain_openai"] if spec.startswith("openai:") else []))
        from langchain.chat_models import init_chat_model

        provider, _, model = spec.partition(":")
        extra: dict[str, Any] = {}
        if provider in _TAKE_RETRIES:
            extra |= {"max_retries": 0, "timeout": timeout}
        if provider in _OPENAI_LIKE:
            extra["stream_usage"] = True
        if base_url is not None:
            check_address(base_url)
            extra["base_url"] = base_url
            if provider == "openai" and not os.environ.get("OPENAI_API_KEY"):
                extra["api_key"] = NO_KEY
        if api_key_env is not None:
            extra["api_key"] = key_in_environment(api_key_env)
        try:
            chat_model = init_chat_model(model, model_provider=provider, **extra)
        except Exception as error:  # noqa: BLE001 - every provider has its own errors
            secrets = [*secrets_in_environment(), *secrets_in_address(base_url or "")]
            if api_key_env is not None:
                secrets.append(extra["api_key"])
            advice = "install the provider's LangChain package and set its key in the environment"
            failure = ModelError(told(f"{spec} cannot be loaded", error, advice, secrets), maybe_paid=False)
            failure.__cause__ = shown_cause(error, secrets)
        else:
            made = cls(chat_model, name=spec, prices=prices)
            made._own_prices, made._own_settings = base_url is not None, ""
            made.grammar_field = grammar_field
            return made
        raise failure

    @cached_property
    def fingerprint(self) -> str:
        """The model's name, its address, and the settings of a chat model that the caller created."""
        return f"langchain:{self._name}:{self.address or ''}{self._own_settings}"

    @cached_property
    def capabilities(self) -> Capabilities:
        """The capabilities of the chat model: a seed, schemas and choices only if the provider supports them."""
        from langchain_core.language_models import BaseChatModel

        can = getattr(type(self.chat_model), "with_structured_output", None)
        structured = can is not None and can is not BaseChatModel.with_structured_output
        seed = self._name.startswith("openai:")
        return Capabilities(
            seed=seed,
            schema=structured,
            choices=structured,
            grammar=self.grammar_field is not None,
            batches=False,
            chat=True,
        )

    @override
    def cost_of(self, usage: Usage) -> float | None:
        """Compute the cost of a call.

        A server at a custom `base_url` does not have the prices of the provider whose protocol it uses.

        Returns:
            US dollars; None if the price is unknown.
        """
        if self._own_prices and self._name not in self.prices.own:
            return None
        return self.prices.cost(self._name, usage)

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        results: list[Completion | RagkitError] = []
        for prompt in prompts:
            try:
                results.append(self._ask(prompt, sampling))
            except RagkitError as error:
                results.append(error)
        return raised(results)

    def _ask(self, prompt: AnyPrompt, sampling: Sampling) -> Completion:
        schema = _choice_schema(sampling.choices) if sampling.choices else sampling.schema
        model = self._held_to(schema) if schema else self.chat_model
        started = time.perf_counter()
        reply = self._invoke(model, prompt, sampling)
        read = self._read([reply], sampling, time.perf_counter() - started)
        return _choice_of(read, sampling.choices, self.name) if sampling.choices else read

    def _invoke(self, model: Any, prompt: AnyPrompt, sampling: Sampling) -> Any:
        settings = self._settings.of(sampling, seed=self.capabilities.seed)
        try:
            return model.bind(**settings, **self._constraint(sampling)).invoke(_turns(prompt, self.name))
        except Exception as error:  # noqa: BLE001 - every provider has its own errors
            if reply := reply_within(error):
                return reply
            again = self._settings.leave_out(error, settings)
            failure = as_model_error(error, self.name, self.secrets())
        if again:
            return self._invoke(model, prompt, sampling)
        raise failure

    def _constraint(self, sampling: Sampling) -> dict[str, Any]:
        """Return the argument that constrains a request to a grammar, if the caller passed one."""
        if sampling.grammar is None or self.grammar_field is None:
            return {}
        grammar = {"grammar": sampling.grammar}
        nested = self.grammar_field == "structured_outputs"
        return {"extra_body": {self.grammar_field: grammar if nested else sampling.grammar}}

    def _held_to(self, schema: Mapping[str, object]) -> Any:
        """Return the chat model constrained to a schema by its provider's method, without the output parser."""
        structured = self.chat_model.with_structured_output(dict(schema), include_raw=True)
        try:
            return structured.first.steps__["raw"]
        except (AttributeError, KeyError) as error:
            raise UnsupportedError(f"{self.name} holds answers to a schema in a way ragkit does not know") from error

    @override
    def _pieces(self, prompt: AnyPrompt, sampling: Sampling) -> Generator[str, None, Completion]:
        started = time.perf_counter()
        chunks: list[Any] = []

        yield from until_stop(self._texts(prompt, sampling, chunks), sampling.stop)
        if not chunks:
            raise TransientModelError(f"{self.name} streamed nothing")
        read = self._read(chunks, sampling, time.perf_counter() - started)
        stopped = cut_at_stop("".join(str(chunk.text) for chunk in chunks), sampling.stop)[1]
        if self._tells_endings and not stopped and ending_of(chunks) is None:
            raise TransientModelError(
                f"the stream of {self.name} ended without a finish reason; the answer is incomplete"
            )
        return read

    def _texts(self, prompt: AnyPrompt, sampling: Sampling, chunks: list[Any]) -> Iterator[str]:
        """Yield the text of each chunk of a stream, and add the chunk to ``chunks``."""
        settings = self._settings.of(sampling, seed=self.capabilities.seed)
        try:
            for chunk in self.chat_model.bind(**settings, **self._constraint(sampling)).stream(
                _turns(prompt, self.name)
            ):
                chunks.append(chunk)
                yield str(chunk.text)
        except Exception as error:  # noqa: BLE001 - every provider has its own errors
            again = not chunks and self._settings.leave_out(error, settings)
            failure = as_model_error(error, self.name, self.secrets())
        else:
            return
        if not again:
            raise failure
        yield from self._texts(prompt, sampling, chunks)

    @property
    def _tells_endings(self) -> bool:
        """Whether the last chunk of a stream must contain a finish reason, as in OpenAI's protocol."""
        return any(kind.__name__ == "BaseChatOpenAI" for kind in type(self._inner).__mro__)

    @property
    def address(self) -> str | None:
        """Address of a server other than the provider's, without secrets; None for the provider's server."""
        given = str(getattr(self._inner, "openai_api_base", None) or "")
        return without_secrets(given) or None

    def secrets(self) -> list[str]:
        """Return the secrets of the chat model and of the environment, such as API keys, as plain text."""
        return [*secrets_of(self._inner), *secrets_in_environment()]

    def _read(self, replies: Sequence[Any], sampling: Sampling, seconds: float) -> Completion:
        """Convert a reply, or the chunks of a stream, to a completion."""
        answer = reduce(add, replies)
        if not isinstance(answer.text, str):
            raise ModelError(f"{self.name} answered {type(answer.content).__name__} instead of text")
        text, tool_calls = str(answer.text), getattr(answer, "tool_calls", None)
        if not text and sampling.constrained and tool_calls:
            text = json.dumps(tool_calls[0]["args"])
        usage = reported_usage(replies)
        completion = Completion(
            text=cut_at_stop(text, sampling.stop)[0],
            usage=usage or Usage(),
            cost=None if usage is None else self.cost_of(usage),
            seconds=seconds,
            finish_reason="length" if is_truncated(replies) else "stop",
        )
        if refusal := refusal_in(replies):
            raise RefusalError(f"{self.name} gave no answer: {refusal}", completion)
        if ending_of(replies) in FAILED:
            raise TransientModelError(f"{self.name} reports that it failed while it wrote the answer {text[:80]!r}")
        if not text and tool_calls:
            raise ModelError(f"{self.name} called the tool {tool_calls[0]['name']!r} instead of answering")
        return completion


def _choice_schema(choices: Sequence[str]) -> dict[str, object]:
    return {
        "title": "Answer",
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": list(choices)}},
        "required": ["answer"],
        "additionalProperties": False,
    }


def _choice_of(answer: Completion, choices: Sequence[str], name: str) -> Completion:
    try:
        read = read_json(answer.text)
    except InvalidInputError:
        read = None
    chosen = read["answer"] if isinstance(read, dict) and "answer" in read else answer.text
    if chosen not in choices:
        raise choice_error(answer, choices, name)
    return replace(answer, text=chosen)


def _turns(prompt: AnyPrompt, name: str) -> list[tuple[str, str]]:
    given = in_form(prompt, chat=True, name=name)
    turns = given.messages if isinstance(given, Chat) else (Message("user", given.text),)
    return [(turn.role, turn.content) for turn in turns]
