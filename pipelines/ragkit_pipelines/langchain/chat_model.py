"""Use any ragkit model as a LangChain chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import override

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.models import load_model
from ragkit.models._concurrency import iterate_cancellable, run_cancellable
from ragkit.models._tools import openai_tool
from ragkit.records import Completion
from ragkit_pipelines.langchain.batches import BatchingChatModel
from ragkit_pipelines.langchain.call_options import CallOptions
from ragkit_pipelines.langchain.messages import chat_of, message_of, prompts_of
from ragkit_pipelines.langchain.model_state import SerialisableChatModel, checked_model, unlayered
from ragkit_pipelines.langchain.responses import Responder
from ragkit_pipelines.langchain.structured_output import structured
from ragkit_pipelines.langchain.tool_calling import first_supported
from ragkit_pipelines.langchain.tools import can_call_tools, tools_of
from ragkit_pipelines.langchain.tracing import unreported, unreported_pieces


class RagkitChatModel(SerialisableChatModel, BatchingChatModel):
    """A LangChain chat model that calls a local, API or scripted model of ragkit, and validates its arguments.

    A model without a chat template receives a conversation as a transcript. API models call tools with their provider's
    method, and local models by constrained decoding. If the task that awaits a response is cancelled, a local model
    stops at the next token.

    Attributes:
        model: The name of the model. The constructor also accepts a spec, such as ``"smollm2"``, or a loaded model.
        language_model: The loaded model, an instance of `LanguageModel`.
        max_tokens: Maximum number of tokens of a response; ``max_completion_tokens`` is accepted as well.
        temperature: Sampling temperature; 0 always selects the most probable token.
        top_p: Probability mass of the tokens that are sampled from; None for all tokens.
        stop: Default stop sequences: a list, or a single one.
        seed: Seed of the sampling.
        streaming: Whether ``invoke`` streams, for callbacks that receive tokens.

    Examples:
        >>> from ragkit import ScriptedModel
        >>> RagkitChatModel(model=ScriptedModel(["Paris."])).invoke("What is the capital of France?").content
        'Paris.'
    """

    model: str
    language_model: Any = Field(exclude=True, repr=False)
    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop: list[str] | None = None
    seed: int = 0
    streaming: bool = False

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _load(cls, given: Any) -> Any:
        """Load the model, and convert arguments that have another form in other chat models."""
        if not isinstance(given, dict):
            return given
        values = dict(given)
        if values.get("language_model") is None:
            if values.get("model") is None:
                raise InvalidInputError("`model` is missing; pass a spec such as 'smollm2', or a loaded model")
            values["language_model"] = load_model(values["model"])
        if (fingerprint := values.pop("fingerprint", None)) is not None:  # of LangChain's JSON
            checked_model(values["language_model"], fingerprint)
        values["model"] = values["language_model"].name
        if isinstance(values.get("stop"), str):
            values["stop"] = [values["stop"]]
        if "max_completion_tokens" in values:
            values.setdefault("max_tokens", values.pop("max_completion_tokens"))
        return values

    @property
    @override
    def _llm_type(self) -> str:
        return "ragkit"

    @property
    @override
    def _identifying_params(self) -> Mapping[str, Any]:
        """The settings that determine the response, for the key of LangChain's cache."""
        settings = {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed}
        fingerprint = self.language_model.fingerprint
        return {"fingerprint": fingerprint, "stop": self.stop, "top_p": self.top_p, **settings}

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        provider: Mapping[str, Any] = getattr(self._provider_model, "_get_ls_params", dict)()
        params = LangSmithParams(
            ls_provider=provider.get("ls_provider", "ragkit"),
            ls_model_type="chat",
            ls_model_name=kwargs.get("model", provider.get("ls_model_name", self.model)),
            ls_temperature=kwargs.get("temperature", self.temperature),
            ls_max_tokens=kwargs.get("max_completion_tokens", kwargs.get("max_tokens", self.max_tokens)),
        )
        stops: Any = stop or self.stop
        if stops:
            params["ls_stop"] = [stops] if isinstance(stops, str) else stops
        return params

    @property
    def _provider_model(self) -> Any:
        """The LangChain chat model of an API model; None for other models."""
        return getattr(unlayered(self.language_model), "chat_model", None)

    def _resolve_model_profile(self) -> Any:
        """Return what agents need to know about the model: for example, whether it supports structured output."""
        if profile := getattr(self._provider_model, "profile", None):
            return profile
        able = self.language_model.capabilities
        tools = can_call_tools(self.language_model)
        profile = {
            "text_inputs": True, "image_inputs": False, "audio_inputs": False, "video_inputs": False,
            "text_outputs": True, "tool_calling": tools, "tool_choice": tools, "structured_output": able.schema,
        }  # fmt: skip
        return profile | ({"max_input_tokens": able.window} if able.window else {})

    # Tokens.

    @override
    def get_num_tokens(self, text: str) -> int:
        """Count the tokens of a text with the model's tokenizer, or estimate them for models behind an API."""
        return int(self.language_model.count_tokens(text))

    @override
    def get_token_ids(self, text: str) -> list[int]:
        """Return the token ids of a text.

        Raises:
            UnsupportedError: If the model has no local tokenizer.
        """
        encode = getattr(unlayered(self.language_model), "encode_text", None)
        if encode is None:
            raise UnsupportedError(f"{self.model} has no local tokenizer; `get_num_tokens` estimates the number")
        return list(encode(text))

    @override
    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Count the tokens of a prompt: the messages in the chat template of the model, and its tools.

        Returns:
            The number of tokens, which is an estimate for models behind an API.
        """
        texts = [tool.parameters + tool.description + tool.name for tool in tools_of(tools or ())]
        count = sum(map(self.get_num_tokens, texts))
        if not messages:
            return count
        model = self.language_model
        whole = getattr(model, "count_prompt_tokens", lambda prompt: model.count_tokens(str(prompt)))
        prompts = prompts_of(chat_of(messages))
        try:
            return count + int(first_supported(prompts, whole))
        except InvalidInputError:  # a part of a conversation, which the chat template rejects on its own
            return count + self.get_num_tokens(str(prompts[-1]))

    # Generating.

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with unreported():  # the model may be a LangChain chat model, which would report the call once more
            return self._result(self._responder(stop, kwargs).complete(messages))

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with unreported():
            return self._result(await run_cancellable(partial(self._responder(stop, kwargs).complete, messages)))

    def _result(self, done: Completion) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=message_of(done, self.model))])

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in unreported_pieces(self._responder(stop, kwargs).chunks(messages)):
            yield _reported(chunk, run_manager)

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        make = partial(self._responder(stop, kwargs).chunks, messages)
        async with aclosing(iterate_cancellable(lambda: unreported_pieces(make()))) as chunks:
            async for chunk in chunks:
                if run_manager is not None:
                    await run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
                yield chunk

    @override
    def bind_tools(
        self,
        tools: Sequence[Any],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return a model that can call tools.

        An API model calls them with its provider's method. A local model whose chat template supports tools receives
        them in the prompt. Other models choose between the tools and an answer in words, and are then constrained to
        the schema of the arguments; they make one call at a time, and do not repeat a call whose result they have.

        Args:
            tools: Functions, pydantic models, LangChain tools, or schemas in the format of OpenAI or Anthropic.
            tool_choice: ``"auto"`` or None to let the model decide, ``"any"`` or ``"required"`` for at least one call,
                ``"none"``, or the name of the tool to call.
            **kwargs: Other arguments of a call, such as ``response_format`` or ``parallel_tool_calls``. ``strict`` is
                accepted and has no effect, because arguments are always constrained.

        Returns:
            The model itself if there is nothing to bind, otherwise a runnable.

        Raises:
            InvalidInputError: If a tool or an argument is invalid.
            UnsupportedError: If the model cannot call tools.
        """
        kwargs.pop("strict", None)
        bound = {name: value for name, value in kwargs.items() if value is not None}
        if tools:
            if not can_call_tools(self.language_model):
                raise UnsupportedError(
                    f"{self.model} cannot call tools: it has no tool calling of its own, and cannot be constrained to "
                    "a JSON schema. Use an API model or a local model such as 'smollm2', or run the steps yourself: a "
                    "retriever before the model instead of a retriever tool, or `with_structured_output` to read "
                    "arguments from the response"
                )
            bound |= {"tools": [openai_tool(tool) for tool in tools_of(tools)]}
            bound |= {} if tool_choice is None else {"tool_choice": tool_choice}
        self._responder(None, bound)  # validates the arguments
        return self.bind(**bound) if bound else self

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
        constrained = bool(self.language_model.capabilities.schema)
        return structured(self, schema, constrained=constrained, include_raw=include_raw)

    @override
    def _supports_batches(self) -> bool:
        return not self.streaming and bool(unlayered(self.language_model).capabilities.batches)

    @override
    def _generate_batch(
        self, conversations: Sequence[Sequence[BaseMessage]], stop: list[str] | None, options: Mapping[str, Any]
    ) -> list[AIMessage]:
        with unreported():
            done = self._responder(stop, options).complete_all(conversations)
        return [message_of(each, self.model) for each in done]

    def _responder(self, stop: Any, given: Mapping[str, Any]) -> Responder:
        own = {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed, "top_p": self.top_p}
        options = CallOptions.of(self.language_model, {**own, "stop": self.stop}, {**given, "stop": stop})
        return Responder(self.language_model, options)


def _reported(chunk: ChatGenerationChunk, run_manager: CallbackManagerForLLMRun | None) -> ChatGenerationChunk:
    if run_manager is not None:
        run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
    return chunk
