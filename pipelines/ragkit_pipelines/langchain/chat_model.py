"""Use any ragkit model as a LangChain chat model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import override

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.models import load_model
from ragkit.models._middleware import LayeredModel
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Completion, Usage
from ragkit_pipelines.langchain.batches import BatchingChatModel
from ragkit_pipelines.langchain.messages import message_fields, message_of, prompts_of
from ragkit_pipelines.langchain.model_state import SerialisableChatModel

_INSTRUCTION = "Answer only with one JSON object that matches this JSON schema:\n"
_SETTINGS = ("max_tokens", "temperature", "seed", "choices", "schema")


class RagkitChatModel(SerialisableChatModel, BatchingChatModel):
    """A LangChain chat model that calls a local, API or scripted model of ragkit, and validates its arguments.

    A model without a chat template receives a conversation as a transcript. Tools are not supported: ``bind_tools``
    raises an error.

    Attributes:
        model: The model or its spec, such as ``"tiny"``.
        max_tokens: Maximum number of tokens of a response.
        temperature: Sampling temperature; 0 always selects the most probable token.
        stop: Default stop sequences.
        seed: Seed of the sampling.
        streaming: Whether ``invoke`` streams, for callbacks that receive tokens.

    Examples:
        >>> from ragkit import ScriptedModel
        >>> RagkitChatModel(model=ScriptedModel(["Paris."])).invoke("What is the capital of France?").content
        'Paris.'
    """

    model: Any
    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    stop: list[str] | None = None
    seed: int = 0
    streaming: bool = False

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    @field_validator("model")
    @classmethod
    def _load(cls, model: Any) -> LanguageModel:
        return load_model(model)

    @property
    @override
    def _llm_type(self) -> str:
        return "ragkit"

    @property
    @override
    def _identifying_params(self) -> Mapping[str, Any]:
        """The settings that determine the response, for the key of LangChain's cache."""
        settings = {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed}
        return {"fingerprint": self.model.fingerprint, "stop": self.stop, **settings}

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        name = kwargs.get("model")
        params = LangSmithParams(
            ls_provider="ragkit",
            ls_model_type="chat",
            ls_model_name=name if isinstance(name, str) else self.model.name,
            ls_temperature=kwargs.get("temperature", self.temperature),
            ls_max_tokens=kwargs.get("max_tokens", self.max_tokens),
        )
        stops = stop or self.stop
        if stops:
            params["ls_stop"] = stops
        return params

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        settings, prompts = self._settings(stop, kwargs), prompts_of(messages)
        try:
            done = self.model.generate(prompts[0], **settings)
        except UnsupportedError:
            if len(prompts) == 1:
                raise
            done = self.model.generate(prompts[1], **settings)
        return ChatResult(generations=[ChatGeneration(message=message_of(done, self.model.name))])

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        settings, prompts = self._settings(stop, kwargs), prompts_of(messages)
        try:
            done = await self.model.agenerate(prompts[0], **settings)
        except UnsupportedError:
            if len(prompts) == 1:
                raise
            done = await self.model.agenerate(prompts[1], **settings)
        return ChatResult(generations=[ChatGeneration(message=message_of(done, self.model.name))])

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        if kwargs.get("schema") is not None or kwargs.get("choices") is not None:  # only unconstrained text is streamed
            answer = self._generate(messages, stop, **kwargs).generations[0].message
            fields = answer.model_dump(include={"content", "usage_metadata", "response_metadata"})
            whole = AIMessageChunk(**fields, chunk_position="last")
            yield _reported(ChatGenerationChunk(message=whole), run_manager)
            return
        settings, prompts = self._settings(stop, kwargs), prompts_of(messages)
        for name in ("schema", "choices"):
            settings.pop(name, None)
        text = ""
        prompt, stream, pieces = self._begin(prompts, settings)
        for piece in pieces:
            text += piece
            yield _reported(ChatGenerationChunk(message=AIMessageChunk(content=piece)), run_manager)
        done = getattr(stream, "completion", None) or self._counted(prompt, text, settings["max_tokens"])
        last = AIMessageChunk(content="", **message_fields(done, self.model.name), chunk_position="last")
        yield _reported(ChatGenerationChunk(message=last), run_manager)

    @override
    def with_structured_output(  # type: ignore[override] # no **kwargs: a misspelt argument is an error
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Literal["json_schema", "json_mode", "function_calling"] = "json_schema",
        strict: bool | None = None,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a runnable whose output is a JSON object that matches a schema.

        Generation is constrained to the schema if the model supports it. Otherwise, the prompt contains the schema. In
        both cases the response is validated.

        Args:
            schema: A pydantic model, a ``TypedDict`` or a JSON schema.
            include_raw: Whether to return a mapping with ``raw``, ``parsed`` and ``parsing_error`` instead of raising.
            method: Accepted for compatibility with LangChain; every method behaves like ``"json_schema"``.
            strict: Accepted for compatibility with LangChain; responses are always validated.

        Returns:
            A runnable that returns the parsed response.
        """
        constrained = bool(getattr(self.model.capabilities, "schema", False))
        shape = convert_to_json_schema(schema)
        traced = {"kwargs": {"method": "json_schema"}, "schema": shape}
        chain: Any = self.bind(ls_structured_output_format=traced, **({"schema": shape} if constrained else {}))
        if not constrained:
            words = _INSTRUCTION + json.dumps(shape, ensure_ascii=False)
            chain = RunnableLambda(lambda given: [*_messages(given), HumanMessage(content=words)]) | chain
        parser: Any = JsonOutputParser()
        if isinstance(schema, type) and issubclass(schema, BaseModel | BaseModelV1):
            parser = PydanticOutputParser(pydantic_object=schema)
        if include_raw:
            read: Any = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
            unread: Any = RunnablePassthrough.assign(parsed=lambda _: None)
            parser = read.with_fallbacks([unread], exception_key="parsing_error")
            chain = RunnableMap({"raw": chain})
        return cast("Runnable[LanguageModelInput, dict[str, Any] | BaseModel]", chain | parser)

    @override
    def _supports_batches(self) -> bool:
        inner = self.model.model if isinstance(self.model, LayeredModel) else self.model
        return not self.streaming and bool(inner.capabilities.batches)

    @override
    def _generate_batch(
        self, conversations: Sequence[Sequence[BaseMessage]], stop: list[str] | None, options: Mapping[str, Any]
    ) -> list[AIMessage]:
        settings, prompts = self._settings(stop, options), [prompts_of(messages) for messages in conversations]
        try:
            done = self.model.generate([each[0] for each in prompts], **settings)
        except UnsupportedError:
            if all(len(each) == 1 for each in prompts):
                raise
            done = self.model.generate([each[-1] for each in prompts], **settings)
        return [message_of(each, self.model.name) for each in done]

    def _settings(self, stop: Sequence[str] | None, options: Mapping[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(options) - set(_SETTINGS))
        if unknown:
            known = ", ".join(("stop", *_SETTINGS[:-1]))
            raise InvalidInputError(f"unknown argument {', '.join(map(repr, unknown))}; expected {known}")
        own = {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed}
        return {**own, "stop": list(stop if stop is not None else self.stop or ()), **options}

    def _begin(
        self, prompts: Sequence[AnyPrompt], settings: Mapping[str, Any]
    ) -> tuple[AnyPrompt, Iterator[str], Iterator[str]]:
        """Stream the first prompt that the model supports; reading the first piece raises the error if it does not."""
        try:
            stream = self.model.stream(prompts[0], **settings)
            first = next(stream, "")
        except UnsupportedError:
            if len(prompts) == 1:
                raise
            return self._begin(prompts[1:], settings)
        return prompts[0], stream, itertools.chain([first], stream)

    def _counted(self, prompt: AnyPrompt, text: str, max_tokens: int) -> Completion:
        """Return the completion of a stream that reports none, with token counts of the model's tokenizer."""
        given = (
            prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in getattr(prompt, "messages", ()))
        )
        count = self.model.count_tokens(text)
        usage = Usage(prompt_tokens=self.model.count_tokens(given), completion_tokens=count)
        return Completion(text=text, usage=usage, finish_reason="length" if count >= max_tokens else "stop")


def _reported(chunk: ChatGenerationChunk, run_manager: CallbackManagerForLLMRun | None) -> ChatGenerationChunk:
    if run_manager is not None:
        run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
    return chunk


def _messages(given: LanguageModelInput) -> list[BaseMessage]:
    if isinstance(given, PromptValue):
        return given.to_messages()
    if isinstance(given, str):
        return [HumanMessage(content=given)]
    return convert_to_messages(given)
