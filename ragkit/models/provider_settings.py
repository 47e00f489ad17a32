"""The settings of a request to a provider: those of the chat model, and those of ragkit that the provider accepts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from ragkit.errors import RagkitWarning, UnsupportedError
from ragkit.models.provider_errors import rejected_setting
from ragkit.models.sampling import Sampling

_OPTIONAL = ("temperature", "stop", "seed")  # a request can do without: answers are also cut at a stop sequence here

_REPLACED = {"temperature", "max_tokens", "max_completion_tokens", "stop"}  # each request sets these itself


def unbound(chat_model: Any) -> tuple[Any, dict[str, Any]]:
    """Look behind ``bind`` and ``with_retry`` of LangChain.

    Args:
        chat_model: A chat model, or one bound to arguments.

    Returns:
        The chat model itself, and the arguments that are bound to it.
    """
    kwargs: dict[str, Any] = {}
    while "bound" in getattr(type(chat_model), "model_fields", {}):
        kwargs = {**chat_model.kwargs, **kwargs}
        chat_model = chat_model.bound
    return chat_model, kwargs


def settings_digest(chat_model: Any) -> str:
    """Identify the settings of a chat model that its answers depend on, such as ``top_p``.

    Args:
        chat_model: A chat model, or one bound to arguments.

    Returns:
        A digest; those that every request sets are left out.
    """
    inner, kwargs = unbound(chat_model)
    settings = {**(getattr(inner, "_identifying_params", None) or {}), **kwargs}
    kept = {name: value for name, value in settings.items() if name not in _REPLACED}
    text = json.dumps(kept, sort_keys=True, default=lambda value: type(value).__qualname__)
    return blake2b(text.encode(), digest_size=6).hexdigest()


class ProviderSettings:
    """What a provider is sent with each request for a model.

    Reasoning models accept no temperature and no stop sequences, and some servers no seed. A setting that was rejected
    once is left out from then on, unless that would ignore what the caller asks for.
    """

    def __init__(self, name: str) -> None:
        """Start with all settings.

        Args:
            name: The model's name, for errors.
        """
        self._name = name
        self._rejected: set[str] = set()

    def of(self, sampling: Sampling, *, seed: bool) -> dict[str, Any]:
        """Name the settings as LangChain does.

        Args:
            sampling: What the caller asks for.
            seed: Whether the provider takes a seed.

        Returns:
            The settings that the provider is known to accept.

        Raises:
            UnsupportedError: If the caller asks for sampling that the provider does not accept.
        """
        settings: dict[str, Any] = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
        if sampling.stop:
            settings["stop"] = list(sampling.stop)
        if seed:
            settings["seed"] = sampling.seed
        required = {"temperature": sampling.temperature > 0, "seed": bool(sampling.seed and sampling.temperature)}
        for name in self._rejected & settings.keys():
            if required.get(name):
                raise UnsupportedError(f"{self._name} does not accept `{name}`; leave it out or use another model")
            del settings[name]
        return settings

    def leave_out(self, error: Exception, settings: Mapping[str, object]) -> bool:
        """Learn from an error which setting the provider rejects.

        Args:
            error: What the provider's package raised.
            settings: The settings of the request.

        Returns:
            Whether a request without this setting is worth making.
        """
        name = rejected_setting(error, settings.keys() & set(_OPTIONAL))
        if name is None:
            return False
        if name == "temperature" and not settings[name] and name not in self._rejected:
            said = f"{self._name} does not accept `temperature`: it samples its answers, which may vary between runs"
            warnings.warn(RagkitWarning(said), stacklevel=2)
        self._rejected.add(name)
        return True
