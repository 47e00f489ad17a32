"""OpenAI's protocol, with the fields that LangChain's `ChatOpenAI` ignores: reasoning, and refusals in streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from typing_extensions import override

_FIELDS = ("reasoning_content", "reasoning")  # of vLLM, SGLang, llama.cpp and DeepSeek; of Ollama and OpenRouter


class CompatibleChat(ChatOpenAI):
    """A chat model that also reads the reasoning of a reply, and a refusal in a stream."""

    @override
    def _create_chat_result(self, response: Any, generation_info: dict[str, Any] | None = None) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        choices = response.get("choices") if isinstance(response, Mapping) else getattr(response, "choices", None)
        for generation, choice in zip(result.generations, choices or (), strict=False):
            message = choice.get("message") if isinstance(choice, Mapping) else getattr(choice, "message", None)
            if reasoning := _reasoning(message):
                generation.message.additional_kwargs["reasoning_content"] = reasoning
        return result

    @override
    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        made = super()._convert_chunk_to_generation_chunk(chunk, default_chunk_class, base_generation_info)
        choices = chunk.get("choices")
        delta = (choices[0].get("delta") if choices else None) or {}
        found = {"reasoning_content": _reasoning(delta), "refusal": delta.get("refusal")}
        if made is not None and isinstance(made.message, AIMessageChunk):
            made.message.additional_kwargs |= {name: text for name, text in found.items() if isinstance(text, str)}
        return made


class ServerChat(CompatibleChat):
    """A chat model on a server such as Ollama, which knows ``max_tokens`` by its older name only."""

    @override
    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload: dict[str, Any] = super()._get_request_payload(input_, stop=stop, **kwargs)
        if "max_completion_tokens" in payload:
            payload["max_tokens"] = payload.pop("max_completion_tokens")
        return payload


def _reasoning(message: Any) -> str | None:
    """Return the reasoning in a message, which is a dict or an object of OpenAI's package."""
    for name in _FIELDS:
        found = message.get(name) if isinstance(message, Mapping) else getattr(message, name, None)
        if isinstance(found, str) and found:
            return found
    return None
