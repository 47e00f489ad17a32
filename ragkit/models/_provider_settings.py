"""The settings of provider requests: those of the chat model, and those of ragkit that the provider accepts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from ragkit.errors import RagkitWarning, UnsupportedError
from ragkit.models._provider_errors import rejected_setting
from ragkit.models._sampling import Sampling

# Settings that can be omitted; ragkit also truncates answers at stop sequences.
_OPTIONAL = ("temperature", "stop", "seed", "top_p", "presence_penalty", "frequency_penalty")

_REPLACED = {"temperature", "max_tokens", "max_completion_tokens", "stop"}  # each request sets these itself


def unbound(chat_model: Any) -> tuple[Any, dict[str, Any]]:
    """Unwrap a chat model from LangChain's ``bind`` and ``with_retry``, and return it with its bound arguments."""
    kwargs: dict[str, Any] = {}
    while "bound" in getattr(type(chat_model), "model_fields", {}):
        kwargs = {**chat_model.kwargs, **kwargs}
        chat_model = chat_model.bound
    return chat_model, kwargs


def settings_digest(chat_model: Any) -> str:
    """Return a digest of the settings of a chat model that affect its answers, such as ``top_p``."""
    inner, kwargs = unbound(chat_model)
    settings = {**(getattr(inner, "_identifying_params", None) or {}), **kwargs}
    kept = {name: value for name, value in settings.items() if name not in _REPLACED}
    text = json.dumps(kept, sort_keys=True, default=lambda value: type(value).__qualname__)
    return blake2b(text.encode(), digest_size=6).hexdigest()


class ProviderSettings:
    """The settings that are sent with each request.

    Reasoning models do not accept a temperature or stop sequences, and some servers do not accept a seed. A setting
    that the provider has rejected is omitted from later requests, unless this would ignore an argument of the caller.
    """

    def __init__(self, name: str) -> None:
        """Start with all settings; ``name`` is the model in error messages."""
        self._name = name
        self._rejected: set[str] = set()

    def of(self, sampling: Sampling, *, seed: bool) -> dict[str, Any]:
        """Return the settings of a request, with LangChain's names.

        Args:
            sampling: The settings of the caller.
            seed: Whether the provider supports a seed.

        Returns:
            The settings that the provider has not rejected.

        Raises:
            UnsupportedError: If the caller needs a setting that the provider does not accept.
        """
        settings: dict[str, Any] = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
        if sampling.stop:
            settings["stop"] = list(sampling.stop)
        settings |= sampling.optional()
        if seed:
            settings["seed"] = sampling.seed
        required = {"temperature": sampling.temperature > 0, "seed": bool(sampling.seed and sampling.temperature)}
        required |= dict.fromkeys(sampling.optional(), True)
        for name in self._rejected & settings.keys():
            if required.get(name):
                raise UnsupportedError(f"{self._name} does not accept `{name}`; leave it out or use another model")
            del settings[name]
        return settings

    def leave_out(self, error: Exception, settings: Mapping[str, object]) -> bool:
        """Omit the setting that an error rejects from now on, and return whether to repeat the request without it."""
        name = rejected_setting(error, settings.keys() & set(_OPTIONAL))
        if name is None:
            return False
        if name == "temperature" and not settings[name] and name not in self._rejected:
            said = f"{self._name} does not accept `temperature`: it samples its answers, which may vary between runs"
            warnings.warn(RagkitWarning(said), stacklevel=2)
        self._rejected.add(name)
        return True
