"""API models, and any chat model of LangChain."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from typing_extensions import override

from ragkit.errors import ModelError
from ragkit.extras import require
from ragkit.models.base import ModelBase, Sampling, cut_at_stop, prompt_text
from ragkit.models.pricing import Prices
from ragkit.protocols import AnyPrompt, Capabilities
from ragkit.records import Chat, Completion, Usage

_KEY_VARIABLES = {"openai": "OPENAI_API_KEY"}


class LangChainModel(ModelBase):
    """Answer through a LangChain chat model; a plain prompt is sent as the one message of a user.

    Token counts come from the provider; `count_tokens` estimates (a token for four bytes).

    Attributes:
        chat_model: The chat model.
        concurrency: Requests under way at once.
        prices: Where costs come from; a completion of a model without a price costs None.
    """

    def __init__(
        self, chat_model: Any, *, name: str | None = None, concurrency: int = 8, prices: Prices | None = None
    ) -> None:
        """Take a chat model."""
        require("langchain")
        self.chat_model = chat_model
        self.concurrency = concurrency
        self.prices = prices or Prices()
        self._own_prices = False
        model = getattr(chat_model, "model_name", None) or getattr(chat_model, "model", None)
        self._name = name or f"{type(chat_model).__name__}:{model}"

    @classmethod
    def from_spec(cls, spec: str, *, base_url: str | None = None, prices: Prices | None = None) -> LangChainModel:
        """Load ``"<provider>:<model>"`` through ``init_chat_model``.

        Args:
            spec: Provider and model; keys come from the provider's own environment variables.
            base_url: Address of an OpenAI-compatible server. Such a server may need no key, so none is asked for, and
                costs are those of ``prices`` alone.
            prices: Prices of your own.

        Returns:
            The model.

        Raises:
            ModelError: If the provider's package or key is missing.
        """
        require("langchain", *(["langchain_openai"] if spec.startswith("openai:") else []))
        from langchain.chat_models import init_chat_model

        provider, _, model = spec.partition(":")
        extra: dict[str, Any] = {}
        if base_url is not None:
            extra["base_url"] = base_url
            if not os.environ.get(_KEY_VARIABLES.get(provider, "")):
                extra["api_key"] = "none"
        try:
            made = cls(init_chat_model(model, model_provider=provider, **extra), name=spec, prices=prices)
        except Exception as error:  # noqa: BLE001 - every provider has errors of its own
            key = os.environ.get(_KEY_VARIABLES.get(provider, ""), "")
            advice = "install the provider's LangChain package and set its key in the environment"
            raise ModelError(_told(f"{spec} cannot be loaded", error, advice, [key])) from _cause(error, [key])
        made._own_prices = base_url is not None
        return made

    @property
    @override
    def name(self) -> str:
        return self._name

    @property
    @override
    def fingerprint(self) -> str:
        address = str(getattr(self.chat_model, "openai_api_base", None) or "")
        return f"langchain:{self._name}:{_without_secrets(address)}"

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
        try:
            answers = bound.batch([_turns(prompt) for prompt in prompts], config={"max_concurrency": self.concurrency})
        except Exception as error:  # noqa: BLE001 - every provider has errors of its own
            secrets = self._secrets()
            advice = "check that the server is up, and the address, the model's name, the key and your limits"
            raise ModelError(_told(f"{self.name} gave no answer", error, advice, secrets)) from _cause(error, secrets)
        seconds = (time.perf_counter() - started) / len(prompts)
        return [self._read(answer, sampling, seconds) for answer in answers]

    def _secrets(self) -> list[str]:
        """Values of the chat model that pydantic keeps as secrets, such as the key.

        Returns:
            The values in clear.
        """
        values = vars(self.chat_model).values() if hasattr(self.chat_model, "__dict__") else ()
        address = urlsplit(str(getattr(self.chat_model, "openai_api_base", None) or ""))
        known = [value.get_secret_value() for value in values if hasattr(value, "get_secret_value")]
        return [*(str(value) for value in known), *(part for part in (address.password, address.query) if part)]

    def _cost(self, usage: Usage) -> float | None:
        """What a call cost; a server of one's own asks other prices than the provider whose protocol it speaks."""
        if self._own_prices and self._name not in self.prices.own:
            return None
        return self.prices.cost(self._name, usage)

    def _read(self, answer: Any, sampling: Sampling, seconds: float) -> Completion:
        if not isinstance(answer.text, str):
            raise ModelError(f"{self.name} answered {type(answer.content).__name__} instead of text")
        text, _ = cut_at_stop(str(answer.text), sampling.stop)
        told = answer.usage_metadata or {}
        usage = Usage(
            prompt_tokens=told.get("input_tokens", 0),
            cached_tokens=told.get("input_token_details", {}).get("cache_read", 0) or 0,
            completion_tokens=told.get("output_tokens", 0),
        )
        return Completion(
            text=text,
            usage=usage,
            cost=self._cost(usage) if told else None,
            seconds=seconds,
            finish_reason="length" if answer.response_metadata.get("finish_reason") == "length" else "stop",
        )


def _told(what: str, error: Exception, advice: str, secrets: Sequence[str]) -> str:
    said = str(error)
    for secret in filter(None, secrets):
        said = said.replace(secret, "[secret]")
    return f"{what} ({type(error).__name__}: {said}); {advice}"


def _cause(error: Exception, secrets: Sequence[str]) -> Exception | None:
    """The error itself, unless a traceback would print a secret with it.

    Returns:
        The error or None.
    """
    return None if any(secret in str(error) for secret in secrets if secret) else error


def _without_secrets(address: str) -> str:
    """An address without user, password and query.

    Returns:
        The address.
    """
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _turns(prompt: AnyPrompt) -> list[tuple[str, str]]:
    if isinstance(prompt, Chat):
        return [(message.role, message.content) for message in prompt.messages]
    return [("user", prompt_text(prompt))]
