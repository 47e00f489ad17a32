"""API models, and any chat model of LangChain."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from ragkit.errors import ModelError
from ragkit.extras import require
from ragkit.models.base import ModelBase, Sampling, cut_at_stop, prompt_text
from ragkit.protocols import AnyPrompt, Capabilities
from ragkit.records import Chat, Completion, Usage

_KEY_VARIABLES = {"openai": "OPENAI_API_KEY"}


class LangChainModel(ModelBase):
    """Answer through a LangChain chat model; a plain prompt is sent as the one message of a user.

    Token counts come from the provider; `count_tokens` estimates (a token for four bytes). Prices are not known
    here, so the cost of a completion is None.

    Attributes:
        chat_model: The chat model.
        concurrency: Requests under way at once.
    """

    def __init__(self, chat_model: Any, *, name: str | None = None, concurrency: int = 8) -> None:
        """Take a chat model."""
        require("langchain")
        self.chat_model = chat_model
        self.concurrency = concurrency
        model = getattr(chat_model, "model_name", None) or getattr(chat_model, "model", None)
        self._name = name or f"{type(chat_model).__name__}:{model}"

    @classmethod
    def from_spec(cls, spec: str, *, base_url: str | None = None) -> LangChainModel:
        """Load ``"<provider>:<model>"`` through ``init_chat_model``.

        Args:
            spec: Provider and model; keys come from the provider's own environment variables.
            base_url: Address of an OpenAI-compatible server. Such a server may need no key, so none is asked for.

        Returns:
            The model.
        """
        require("langchain", *(["langchain_openai"] if spec.startswith("openai:") else []))
        from langchain.chat_models import init_chat_model

        provider, _, model = spec.partition(":")
        extra: dict[str, Any] = {}
        if base_url is not None:
            extra["base_url"] = base_url
            if not os.environ.get(_KEY_VARIABLES.get(provider, "")):
                extra["api_key"] = "none"
        return cls(init_chat_model(model, model_provider=provider, **extra), name=spec)

    @property
    @override
    def name(self) -> str:
        return self._name

    @property
    @override
    def fingerprint(self) -> str:
        address = getattr(self.chat_model, "openai_api_base", None) or ""
        return f"langchain:{self._name}:{address}"

    @property
    @override
    def capabilities(self) -> Capabilities:
        return Capabilities(seed=self._name.startswith("openai:"))

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        settings: dict[str, Any] = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
        if sampling.stop:
            settings["stop"] = list(sampling.stop)
        if self.capabilities.seed:
            settings["seed"] = sampling.seed
        started = time.perf_counter()
        bound = self.chat_model.bind(**settings)
        answers = bound.batch([_turns(prompt) for prompt in prompts], config={"max_concurrency": self.concurrency})
        seconds = (time.perf_counter() - started) / len(prompts)
        return [self._read(answer, sampling, seconds) for answer in answers]

    def _read(self, answer: Any, sampling: Sampling, seconds: float) -> Completion:
        if not isinstance(answer.text, str):
            raise ModelError(f"{self.name} answered {type(answer.content).__name__} instead of text")
        text, _ = cut_at_stop(str(answer.text), sampling.stop)
        usage = answer.usage_metadata or {}
        return Completion(
            text=text,
            usage=Usage(
                prompt_tokens=usage.get("input_tokens", 0),
                cached_tokens=usage.get("input_token_details", {}).get("cache_read", 0) or 0,
                completion_tokens=usage.get("output_tokens", 0),
            ),
            seconds=seconds,
            finish_reason="length" if answer.response_metadata.get("finish_reason") == "length" else "stop",
        )


def _turns(prompt: AnyPrompt) -> list[tuple[str, str]]:
    if isinstance(prompt, Chat):
        return [(message.role, message.content) for message in prompt.messages]
    return [("user", prompt_text(prompt))]
