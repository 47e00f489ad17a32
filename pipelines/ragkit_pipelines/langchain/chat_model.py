"""Any ragkit model as a chat model of LangChain."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import BaseModel, ConfigDict, Field, field_validator
from typing_extensions import override

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.models import load_model
from ragkit.models.middleware import LayeredModel
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Completion, Usage
from ragkit_pipelines.langchain.batches import BatchingChatModel
from ragkit_pipelines.langchain.messages import message_fields, message_of, prompts_of, usage_of
from ragkit_pipelines.langchain.structured import structured

_SETTINGS = ("max_tokens", "temperature", "seed", "choices", "schema")


class RagkitChatModel(BatchingChatModel):
    """A model on this machine, an API model or a scripted one, for LangChain; arguments are checked.

    A model without a chat template gets a conversation as a transcript. There are no tools: ``bind_tools`` is what it
    is in LangChain's base class, an error.

    Attributes:
        model: The model; a spec such as ``"tiny"`` is loaded.
        max_tokens: Tokens written at the most.
        temperature: 0 for the likeliest token each time.
        stop: Sequences at which an answer ends, where a call does not say.
        seed: Seed of the sampling.
        streaming: Whether ``invoke`` streams, for callbacks that listen to tokens.

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
        """What answers depend on, for LangChain's caches."""
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
            return self._result(self.model.generate(prompts[0], **settings))
        except UnsupportedError:
            if len(prompts) == 1:
                raise
        return self._result(self.model.generate(prompts[1], **settings))

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
            return self._result(await self.model.agenerate(prompts[0], **settings))
        except UnsupportedError:
            if len(prompts) == 1:
                raise
        return self._result(await self.model.agenerate(prompts[1], **settings))

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        if kwargs.get("schema") is not None or kwargs.get("choices") is not None:  # only free text is streamed
            answer = cast("AIMessage", self._generate(messages, stop, **kwargs).generations[0].message)
            whole = AIMessageChunk(
                content=answer.content,
                usage_metadata=answer.usage_metadata,
                response_metadata=answer.response_metadata,
                chunk_position="last",
            )
            yield _told(ChatGenerationChunk(message=whole), run_manager)
            return
        settings, prompts = self._settings(stop, kwargs), prompts_of(messages)
        for name in ("schema", "choices"):
            settings.pop(name, None)
        text = ""
        try:
            prompt = prompts[0]
            stream, pieces = self._begin(prompt, settings)
        except UnsupportedError:
            if len(prompts) == 1:
                raise
            prompt = prompts[1]
            stream, pieces = self._begin(prompt, settings)
        for piece in pieces:
            text += piece
            yield _told(ChatGenerationChunk(message=AIMessageChunk(content=piece)), run_manager)
        done = getattr(stream, "completion", None) or self._counted(prompt, text, settings["max_tokens"])
        last = AIMessageChunk(
            content="",
            usage_metadata=usage_of(done.usage),
            response_metadata=message_fields(done, self.model.name),
            chunk_position="last",
        )
        yield _told(ChatGenerationChunk(message=last), run_manager)

    @override
    def with_structured_output(  # type: ignore[override] # no **kwargs: a misspelt argument is an error
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Literal["json_schema", "json_mode", "function_calling"] = "json_schema",
        strict: bool | None = None,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answer as JSON by a schema.

        A model that can be held to a schema is; another one is asked for JSON, and its answer is checked.

        Args:
            schema: A pydantic model, a ``TypedDict`` or a JSON schema.
            include_raw: Whether to give a mapping with ``raw``, ``parsed`` and ``parsing_error`` instead of raising.
            method: Taken for LangChain's sake; JSON by the schema is asked for whatever it says.
            strict: Taken for LangChain's sake; answers are always checked.

        Returns:
            A runnable that gives the parsed answer.
        """
        able = bool(getattr(self.model.capabilities, "schema", False))
        return structured(self, schema, include_raw=include_raw, able=able)

    @override
    def _answers_together(self) -> bool:
        behind = self.model.model if isinstance(self.model, LayeredModel) else self.model
        return not self.streaming and bool(behind.capabilities.batches)

    @override
    def _generate_together(
        self, asked: Sequence[Sequence[BaseMessage]], stop: list[str] | None, given: Mapping[str, Any]
    ) -> list[AIMessage]:
        settings, prompts = self._settings(stop, given), [prompts_of(messages) for messages in asked]
        try:
            done = self.model.generate([each[0] for each in prompts], **settings)
        except UnsupportedError:
            if all(len(each) == 1 for each in prompts):
                raise
            done = self.model.generate([each[-1] for each in prompts], **settings)
        return [message_of(each, self.model.name) for each in done]

    def _settings(self, stop: Sequence[str] | None, given: Mapping[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(given) - set(_SETTINGS))
        if unknown:
            known = ", ".join(("stop", *_SETTINGS[:-1]))
            raise InvalidInputError(f"a call takes no {', '.join(map(repr, unknown))}; it takes {known}")
        own = {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed}
        return {**own, "stop": list(stop if stop is not None else self.stop or ()), **given}

    def _result(self, completion: Completion) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=message_of(completion, self.model.name))])

    def _begin(self, prompt: AnyPrompt, settings: Mapping[str, Any]) -> tuple[Iterator[str], Iterator[str]]:
        """Begin to stream; what the model cannot do shows with the first piece."""
        stream = self.model.stream(prompt, **settings)
        first = next(stream, "")
        return stream, itertools.chain([first], stream)

    def _counted(self, prompt: AnyPrompt, text: str, max_tokens: int) -> Completion:
        """The completion behind a stream that does not tell: tokens are counted by the model's tokenizer."""
        asked = (
            prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in getattr(prompt, "messages", ()))
        )
        written = self.model.count_tokens(text)
        usage = Usage(prompt_tokens=self.model.count_tokens(asked), completion_tokens=written)
        return Completion(text=text, usage=usage, finish_reason="length" if written >= max_tokens else "stop")


def _told(chunk: ChatGenerationChunk, run_manager: CallbackManagerForLLMRun | None) -> ChatGenerationChunk:
    if run_manager is not None:
        run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
    return chunk
