"""API models and LangChain chat models."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._extras import require
from ragkit._text import refuse_bare_string
from ragkit.answers._reasoning import answer_pieces, separate_reasoning
from ragkit.errors import (
    AnswerFormError,
    ModelAccessError,
    ModelError,
    RagkitError,
    ReasoningTruncatedError,
    RefusalError,
    TransientModelError,
    UnsupportedError,
)
from ragkit.models._base import ModelBase
from ragkit.models._prices import Prices
from ragkit.models._prompts import checked_prompts, cut_at_stop, in_form, until_stop, without_system_role
from ragkit.models._provider_choices import choice_in, choice_schema
from ragkit.models._provider_errors import as_model_error
from ragkit.models._provider_hints import prompt_too_long, served_instead
from ragkit.models._provider_logprobs import (
    answer_tokens,
    first_tokens,
    has_logprobs,
    log_probabilities,
    logprob_settings,
    tokens_within,
)
from ragkit.models._provider_parameters import parameters_of
from ragkit.models._provider_replies import (
    ending_of,
    finish_reason_of,
    reasoning_in,
    refusal_in,
    reply_within,
    reported_usage,
)
from ragkit.models._provider_secrets import check_secrets, secrets_in_environment, secrets_of, without_secrets
from ragkit.models._provider_settings import ProviderSettings, settings_digest, unbound
from ragkit.models._provider_tools import accepts_tools, calls_in, tool_turn, with_tools
from ragkit.models._reasoning import Reasoning, ReasoningLevel, reasoning_of
from ragkit.models._results import raised
from ragkit.models._sampling import Sampling
from ragkit.models._servers import GrammarField, ServedModel, grammar_in
from ragkit.models._shared_prefixes import prefix_key
from ragkit.protocols import AnyPrompt, Capabilities
from ragkit.records import Chat, Completion, Message, Usage

# Chat models whose last chunk of a stream contains a finish reason.
_TELL_ENDINGS = {"BaseChatOpenAI", "ChatAnthropic"}


class LangChainModel(ModelBase):
    """A language model that calls a LangChain chat model; a plain prompt is sent as a single user message.

    Each prompt is one request, and requests are sent one after another. Concurrency and retries are provided by
    `LayeredModel`, which `load_model` adds. Token counts come from the provider; `count_tokens` is an estimate (one
    token per four bytes).

    Attributes:
        chat_model: The chat model.
        prices: Token prices; the cost of a completion is None if the model has no price.
        key_variable: Name of the environment variable with the API key, if it is not the provider's.
        grammar_field: The field of a request in which the server accepts a grammar; None if it accepts none.
        price_share: What is paid for a call, as a share of its price; 1 unless the calls are part of a batch.
    """

    def __init__(
        self,
        chat_model: Any,
        *,
        name: str | None = None,
        prices: Prices | None = None,
        spec: str | None = None,
        base_url: str | None = None,
        reasoning: ReasoningLevel | None = None,
        max_reasoning_tokens: int | None = None,
        served: ServedModel | None = None,
    ) -> None:
        """Wrap a chat model.

        Args:
            chat_model: The chat model.
            name: Name of the model; its class and model by default.
            prices: Custom prices.
            spec: The spec from which ragkit created the chat model, if it did.
            base_url: Address of a server other than that of the provider, whose prices are then only custom ones.
            reasoning: How much the model reasons.
            max_reasoning_tokens: Maximum number of reasoning tokens.
            served: What the server says about the model.
        """
        require("langchain")
        self.chat_model = chat_model
        self.prices = prices or Prices()
        self._base_url, self._spec = base_url, spec
        self.key_variable: str | None = None
        self.grammar_field: GrammarField | None = None
        self.price_share = 1.0
        self._shared: set[bytes] = set()
        self._inner, bound = unbound(chat_model)
        check_secrets(self._inner, name or type(self._inner).__name__)
        model = getattr(self._inner, "model_name", None) or getattr(self._inner, "model", None)
        self._name = name or f"{type(self._inner).__name__}:{model}"
        self._own_settings = "" if spec else f":{settings_digest(chat_model)}"
        if reasoning is not None or max_reasoning_tokens is not None:
            self._own_settings += f":reasoning={reasoning},{max_reasoning_tokens}"
        if served is not None and spec is not None and served.name != spec.partition(":")[2]:
            self._own_settings += f":{served.name}"  # the spec "llamacpp:default" stands for any model
        self._window = served.window if served else None
        parameters = parameters_of(self._inner, spec)
        if served is not None and served.reasons is not None:
            parameters = replace(parameters, reasons=served.reasons)
        self._parameters = parameters
        self._reasoning = reasoning_of(spec, parameters, reasoning, max_reasoning_tokens) if spec else Reasoning()
        body = bound.get("extra_body") or getattr(self._inner, "extra_body", None)
        self._settings = ProviderSettings(self._name, self.address or "", parameters, self._reasoning, body)

    @cached_property
    def fingerprint(self) -> str:
        """The model's name, its address, and the settings of a chat model that the caller created."""
        return f"langchain:{self._name}:{self.address or ''}{self._own_settings}"

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the chat model, as far as its profile and the provider's errors tell."""
        from langchain_core.language_models import BaseChatModel

        can = getattr(type(self.chat_model), "with_structured_output", None)
        structured = can is not None and can is not BaseChatModel.with_structured_output
        structured = structured and self._settings.accepts("schema") and not self._settings.ignores_schema
        return Capabilities(
            window=self._window,
            seed=self._settings.has_seed,
            schema=structured,
            choices=structured,
            batches=False,
            chat=True,
            temperature=self._settings.accepts("temperature"),
            logprobs=self.requests_logprobs and self._settings.accepts("logprobs"),
            tools=accepts_tools(self.chat_model),
            grammar=self.grammar_field is not None,
        )

    @property
    @override
    def requests_logprobs(self) -> bool:
        known = {*self._parameters.rejected, *self._reasoning.rejected}
        return has_logprobs(self._spec) and not self._reasoning.active and "logprobs" not in known

    @override
    def _check(self, sampling: Sampling) -> None:
        # A batch may be in progress when an answer shows that the server ignores schemas or log-probabilities.
        if not (sampling.constrained and self._settings.ignores_schema):
            super()._check(replace(sampling, logprobs=False) if self.requests_logprobs else sampling)

    @property
    @override
    def max_reasoning_tokens(self) -> int:
        return self._reasoning.tokens

    @override
    def cost_of(self, usage: Usage) -> float | None:
        """Compute the cost of a call.

        A server at a custom `base_url` does not have the prices of the provider whose protocol it uses.

        Returns:
            US dollars; None if the price is unknown.
        """
        if self._base_url is not None and self._name not in self.prices.own:
            return None
        cost = self.prices.cost(self._name, usage)
        return None if cost is None else cost * self.price_share

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
        schema = choice_schema(sampling.choices) if sampling.choices else sampling.schema
        model = self._held_to(schema) if schema else self.chat_model
        tools = isinstance(prompt, Chat) and bool(prompt.tools)
        if isinstance(prompt, Chat) and prompt.tools:
            model = with_tools(model, prompt, self.name)
        started = time.perf_counter()
        reply, settings = self._invoke(model, prompt, sampling)
        read = self._read([reply], sampling, settings, time.perf_counter() - started, tools=tools)
        if schema and not read.tool_calls and self.address and self._settings.learn_schema(read.text):
            what = "choices" if sampling.choices else "schema"
            raise AnswerFormError(f"{self.name} answered {read.text[:80]!r}; its server ignores `{what}`", read)
        if tools and isinstance(prompt, Chat) and prompt.tool_choice not in {"auto", "none"} and not read.tool_calls:
            called = "no tool" if prompt.tool_choice == "required" else f"not the tool {prompt.tool_choice!r}"
            raise AnswerFormError(f"{self.name} called {called}, although `tool_choice` requires it", read)
        return choice_in(read, sampling.choices, self.name) if sampling.choices else read

    def _invoke(
        self, model: Any, prompt: AnyPrompt, sampling: Sampling, extra: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the reply to a request, and its settings: those of ``sampling``, and ``extra`` ones."""
        settings, system_role = self._settings.of(sampling) | dict(extra or {}), self._settings.system_role
        try:
            return model.bind(**self._constrained(settings, sampling)).invoke(self._turns(prompt)), settings
        except Exception as error:  # noqa: BLE001 - every provider has its own errors
            if reply := reply_within(error):
                return reply, settings
            again = self._settings.leave_out(error, settings, system_role=system_role)
            failure = self._failure(error, schema=sampling.constrained)
        if again and all(map(self._settings.accepts, extra or ())):
            return self._invoke(model, prompt, sampling, extra)
        raise failure

    def _failure(self, error: Exception, *, schema: bool = False) -> RagkitError:
        """Convert a provider's error."""
        if too_long := prompt_too_long(error):
            return too_long
        failure = as_model_error(error, self.name, self.secrets(), schema=schema, address=self.address or "")
        if getattr(error, "status_code", None) == 404 and (served := self._served()):
            model = self._name.partition(":")[2]
            told = f"{failure}. The provider does not have this model: {served_instead(model, served)}"
            cause, failure = failure.__cause__, ModelAccessError(told, maybe_paid=False)
            failure.__cause__ = cause
        return failure

    def _served(self) -> list[str]:
        """Return the models of the provider; empty if it does not list them."""
        try:
            return [str(model.id) for model in self._inner.root_client.with_options(timeout=10).models.list()]
        except Exception:  # noqa: BLE001 - only for the message of another error
            return []

    def _constrained(self, settings: Mapping[str, Any], sampling: Sampling) -> dict[str, Any]:
        """Add the grammar to the settings of a request, in the field in which the server accepts it."""
        if sampling.grammar is None or self.grammar_field is None:
            return dict(settings)
        field = grammar_in(self.grammar_field, sampling.grammar)
        return {**settings, "extra_body": {**settings.get("extra_body", {}), **field}}

    def _held_to(self, schema: Mapping[str, object]) -> Any:
        """Return the chat model constrained to a schema by its provider's method, without the output parser."""
        structured = self.chat_model.with_structured_output(dict(schema), include_raw=True)
        try:
            return structured.first.steps__["raw"]
        except (AttributeError, KeyError) as error:
            raise UnsupportedError(
                f"ragkit cannot read the replies of {self.name} with a schema, because its LangChain package returns "
                "them in an unknown form; omit `schema`"
            ) from error

    @override
    def _pieces(self, prompt: AnyPrompt, sampling: Sampling) -> Generator[str, None, Completion]:
        if isinstance(prompt, Chat) and prompt.tools:  # calls are not text that could be streamed
            return (yield from super()._pieces(prompt, sampling))
        started = time.perf_counter()
        chunks: list[Any] = []
        settings: dict[str, Any] = {}

        texts = self._texts(prompt, sampling, chunks, settings)
        outside = answer_pieces(texts, begun=self._in_tags, truncated=lambda: finish_reason_of(chunks) == "length")
        yield from until_stop(outside, sampling.stop)
        if not chunks:
            raise TransientModelError(f"{self.name} streamed nothing")
        read = self._read(chunks, sampling, settings, time.perf_counter() - started)
        whole = separate_reasoning("".join(str(chunk.text) for chunk in chunks), begun=self._in_tags).answer
        stopped = cut_at_stop(whole, sampling.stop)[1]
        if self._tells_endings and not stopped and ending_of(chunks) is None:
            raise TransientModelError(
                f"the stream of {self.name} ended without a finish reason; the answer is incomplete"
            )
        return read

    def _texts(
        self, prompt: AnyPrompt, sampling: Sampling, chunks: list[Any], settings: dict[str, Any]
    ) -> Iterator[str]:
        """Yield the text of each chunk of a stream; set its ``settings``, and add the chunks to ``chunks``."""
        settings.clear()
        settings |= self._settings.of(sampling)
        system_role = self._settings.system_role
        try:
            for chunk in self.chat_model.bind(**self._constrained(settings, sampling)).stream(self._turns(prompt)):
                chunks.append(chunk)
                yield str(chunk.text)
        except Exception as error:  # noqa: BLE001 - every provider has its own errors
            again = not chunks and self._settings.leave_out(error, settings, system_role=system_role)
            failure = self._failure(error)
        else:
            return
        if not again:
            raise failure
        yield from self._texts(prompt, sampling, chunks, settings)

    @property
    def _tells_endings(self) -> bool:
        """Whether the last chunk of a stream must contain a finish reason."""
        return any(kind.__name__ in _TELL_ENDINGS for kind in type(self._inner).__mro__)

    @property
    def _in_tags(self) -> bool:
        """Whether the server may return reasoning as part of the text."""
        return self._reasoning.active and self.address is not None

    @property
    def address(self) -> str | None:
        """Address of a server other than the provider's, without secrets; None for the provider's server."""
        given = self._base_url or str(getattr(self._inner, "openai_api_base", None) or "")
        return without_secrets(given) or None

    def secrets(self) -> list[str]:
        """Return the secrets of the chat model and of the environment, such as API keys, as plain text."""
        return [*secrets_of(self._inner), *secrets_in_environment()]

    @override
    def score(
        self, prompts: Sequence[AnyPrompt], choices: Sequence[str], *, end_of_turn: bool = False
    ) -> NDArray[np.float64]:
        """Compute the log-probability of each choice as the beginning of the answer to each prompt.

        Args:
            prompts: n prompts; each is one request for a single token.
            choices: c choices that differ in their first token, such as letters or short labels.
            end_of_turn: Has no effect, because only the first token of each choice is scored.

        Returns:
            f64[n, c], in nats.

        Raises:
            UnsupportedError: If the provider returns no log-probabilities, or several choices begin with one token.
        """
        refuse_bare_string("choices", choices)
        batch = checked_prompts(prompts)
        if not self.capabilities.logprobs:
            return super().score(batch, choices, end_of_turn=end_of_turn)
        rows = [self._first_token(prompt, choices) for prompt in batch] if choices else []
        return np.array(rows, dtype=np.float64).reshape(len(batch), len(choices))

    def _first_token(self, prompt: AnyPrompt, choices: Sequence[str]) -> list[float]:
        try:
            reply, _ = self._invoke(self.chat_model, prompt, Sampling(max_tokens=1), logprob_settings(str(self._spec)))
        except ModelError:
            if self._settings.accepts("logprobs"):
                raise
            tokens = []
        else:
            tokens = first_tokens(reply)
        if not tokens:
            self._settings.reject("logprobs")
            raise UnsupportedError(f"{self.name} returns no probabilities, so it cannot score choices; use `generate`")
        return log_probabilities(tokens, choices, self.name)

    def expect(self, prefixes: Iterable[bytes]) -> None:
        """Mark prefixes in later requests, by their `prefix_key`, because several prompts share them."""
        if any(kind.__name__ == "ChatAnthropic" for kind in type(self._inner).__mro__):
            self._shared.update(prefixes)

    def _turns(self, prompt: AnyPrompt) -> list[Any]:
        given = in_form(prompt, chat=True, name=self.name)
        turns = given.messages if isinstance(given, Chat) else (Message("user", given.text),)
        if not self._settings.system_role:
            turns = without_system_role(turns)
        sent: list[Any] = [
            tool_turn(turn) if turn.tool_calls or turn.answers else (turn.role, turn.content) for turn in turns
        ]
        marks = len(sent) > 1 and isinstance(sent[-2], tuple) and bool(self._shared)
        if marks and prefix_key(prompt) in self._shared:
            block = {"type": "text", "text": sent[-2][1], "cache_control": {"type": "ephemeral"}}
            sent[-2] = {"role": sent[-2][0], "content": [block]}
        return sent

    def _read(
        self,
        replies: Sequence[Any],
        sampling: Sampling,
        settings: Mapping[str, Any],
        seconds: float,
        *,
        tools: bool = False,
    ) -> Completion:
        """Convert a reply, or the chunks of a stream, to a completion; ``tools``: whether it may contain tool calls."""
        answer = reduce(add, replies)
        if not isinstance(answer.text, str):
            raise ModelError(f"{self.name} returned {type(answer.content).__name__} instead of text")
        text, tool_calls = str(answer.text), getattr(answer, "tool_calls", None)
        if not text and sampling.constrained and tool_calls and not tools:
            text = json.dumps(tool_calls[0]["args"])
        usage, reason = reported_usage(replies), finish_reason_of(replies)
        thoughts = reasoning_in(replies)
        begun = self._in_tags and not thoughts
        parts = separate_reasoning(text, begun=begun, truncated=reason == "length")
        calls = calls_in(answer) if tools else ()
        said = cut_at_stop(parts.answer, sampling.stop)[0]
        completion = Completion(
            text=said,
            usage=usage or Usage(),
            cost=None if usage is None else self.cost_of(usage),
            seconds=seconds,
            finish_reason="tool_calls" if calls and reason == "stop" else reason,
            omitted_settings=self._settings.omitted(settings),
            reasoning="\n\n".join(filter(None, (thoughts, parts.reasoning))),
            tool_calls=calls,
            logprobs=self._logprobs(answer, settings, parts.answer, said),
        )
        if refusal := refusal_in(replies):
            raise RefusalError(f"{self.name} gave no answer: {refusal}", completion)
        if reason == "error":
            raise TransientModelError(f"{self.name} reports that it failed while it wrote the answer {text[:80]!r}")
        if parts.truncated and reason == "stop" and self._settings.drop_stop(settings):
            raise TransientModelError(f"{self.name} reached a stop sequence during its reasoning")
        if parts.truncated or completion.truncated_in_reasoning:
            raise ReasoningTruncatedError(self.name, replace(completion, finish_reason="length"))
        if not text and tool_calls and not tools:
            raise ModelError(f"{self.name} called the tool {tool_calls[0]['name']!r} instead of answering")
        return completion

    def _logprobs(
        self, reply: Any, settings: Mapping[str, Any], answer: str, text: str
    ) -> tuple[tuple[str, float], ...]:
        """Return the tokens of a text, with which the answer begins, if their log-probabilities were requested."""
        if "logprobs" not in settings or "top_logprobs" in settings:
            return ()
        tokens = answer_tokens(reply)
        if not tokens and text:
            self._settings.reject("logprobs")  # the server ignores the setting
        return tokens_within(tokens_within(tokens, answer, last=True), text)
