"""Loading of API models from a spec, through LangChain's provider packages."""

from __future__ import annotations

import os
from typing import Any, get_args

from ragkit._extras import require
from ragkit.errors import InvalidInputError, ModelError
from ragkit.models._api import LangChainModel
from ragkit.models._prices import Prices
from ragkit.models._provider_errors import told
from ragkit.models._provider_secrets import (
    NO_KEY,
    check_address,
    key_in_environment,
    secrets_in_address,
    secrets_in_environment,
    shown_cause,
)
from ragkit.models._reasoning import ReasoningLevel
from ragkit.models._servers import ADDRESSES, KEYS, GrammarField, ServedModel, grammar_field_of, probe

_OPENAI_LIKE = ("openai", "azure_openai", "deepseek", "openrouter", "xai", *ADDRESSES)
_TAKE_RETRIES = (*_OPENAI_LIKE, "anthropic")


def load_api(
    spec: str,
    *,
    base_url: str | None = None,
    api_key_env: str | None = None,
    prices: Prices | None = None,
    timeout: float = 120.0,
    reasoning: ReasoningLevel | None = None,
    max_reasoning_tokens: int | None = None,
    grammar_field: GrammarField | None = None,
) -> LangChainModel:
    """Load ``"<provider>:<model>"`` through ``init_chat_model``, or ``"ollama:…"``, ``"vllm:…"`` or ``"llamacpp:…"``.

    The models and the context window of these servers are read at once, and vLLM and llama.cpp are asked for a word
    that follows a grammar.

    Args:
        spec: Provider and model; API keys are read from the provider's environment variables.
        api_key_env: Name of another environment variable that holds the API key.
        base_url: Address of an OpenAI-compatible server. An API key is then optional, and costs come only from
            ``prices``. Ollama, vLLM and llama.cpp have default addresses on this machine.
        prices: Custom prices.
        timeout: Timeout of a request in seconds, if the provider's package supports it.
        reasoning: How much the model reasons before its answers.
        max_reasoning_tokens: Maximum number of reasoning tokens.
        grammar_field: The field in which the server at ``base_url`` accepts a grammar; None to find it for vLLM and
            llama.cpp.

    Returns:
        The model.

    Raises:
        ModelError: If the provider's package or key is missing.
        InvalidInputError: If the environment variable ``api_key_env`` is not set.
        UnsupportedError: If the model does not support the level of reasoning.
    """
    if grammar_field is not None and (base_url is None or grammar_field not in get_args(GrammarField)):
        raise InvalidInputError(
            f"`grammar_field` must be one of {get_args(GrammarField)}, and goes with `base_url`; got "
            f"{grammar_field!r} and the address {base_url!r}"
        )
    provider, _, model = spec.partition(":")
    require("langchain", *(["langchain_openai"] if provider in {"openai", *ADDRESSES} else []))
    base_url = ADDRESSES.get(provider) if base_url is None else base_url
    extra = _settings(provider, base_url, api_key_env, timeout)
    served: ServedModel | None = None
    if provider in ADDRESSES and base_url is not None:
        key = extra["api_key"]
        key = "" if key == NO_KEY else key
        served = probe(provider, model, base_url, key, timeout=timeout)
        model = served.name
        grammar_field = grammar_field or grammar_field_of(provider, model, base_url, key, timeout=timeout)
    try:
        chat_model = _chat_model(provider, model, extra)
    except Exception as error:  # noqa: BLE001 - every provider has its own errors
        secrets = [*secrets_in_environment(), *secrets_in_address(base_url or "")]
        if api_key_env is not None:
            secrets.append(extra["api_key"])
        advice = "install the provider's LangChain package and set its key in the environment"
        failure = ModelError(told(f"{spec} cannot be loaded", error, advice, secrets), maybe_paid=False)
        failure.__cause__ = shown_cause(error, secrets)
    else:
        loaded = LangChainModel(
            chat_model, name=spec, prices=prices, spec=spec, base_url=base_url, reasoning=reasoning,
            max_reasoning_tokens=max_reasoning_tokens, served=served,
        )  # fmt: skip
        loaded.key_variable, loaded.grammar_field = api_key_env, grammar_field
        return loaded
    raise failure


def _settings(provider: str, base_url: str | None, api_key_env: str | None, timeout: float) -> dict[str, Any]:
    """Return the arguments of the chat model besides its name."""
    settings: dict[str, Any] = {}
    if provider in _TAKE_RETRIES:
        settings |= {"max_retries": 0, "timeout": timeout}
    if provider in _OPENAI_LIKE:
        settings["stream_usage"] = True
    if provider in ADDRESSES:
        settings["api_key"] = os.environ.get(KEYS[provider]) or NO_KEY
    if base_url is not None:
        check_address(base_url)
        settings["base_url"] = base_url
        if provider == "openai" and not os.environ.get("OPENAI_API_KEY"):
            settings["api_key"] = NO_KEY
    if api_key_env is not None:
        settings["api_key"] = key_in_environment(api_key_env)
    return settings


def _chat_model(provider: str, model: str, settings: dict[str, Any]) -> Any:
    if provider in ADDRESSES:
        from ragkit.models._openai_protocol import ServerChat

        return ServerChat(model=model, **settings)
    if provider == "openai":
        from ragkit.models._openai_protocol import CompatibleChat

        return CompatibleChat(model=model, **settings)
    from langchain.chat_models import init_chat_model

    return init_chat_model(model, model_provider=provider, **settings)
