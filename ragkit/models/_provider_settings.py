"""The settings of provider requests: those of the chat model, and those of ragkit that the provider accepts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from threading import Lock
from typing import Any

from ragkit.errors import RagkitWarning, UnsupportedError
from ragkit.models._provider_errors import rejected_setting, rejects_system_role
from ragkit.models._provider_parameters import Parameters
from ragkit.models._reasoning import Reasoning
from ragkit.models._sampling import Sampling

# Settings that can be omitted, in the order in which they are if an error names several of them.
_OPTIONAL = ("logprobs", "seed", "random_seed", "top_p", "presence_penalty", "frequency_penalty", "stop", "temperature")
_LIMITS = ("max_completion_tokens", "max_tokens")  # names of one parameter in OpenAI's protocol

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


@dataclass(slots=True)
class _Learned:
    """What the errors of a provider said about one model at one address.

    Attributes:
        rejected: Parameters that the model does not accept.
        limit: The name of the limit on generated tokens that the model accepts; None for the usual one.
        system: Whether the model accepts system messages.
        warned: Whether a warning has been issued that answers may vary.
        constrains: Whether the server constrains answers to a schema; None before the first such answer.
    """

    rejected: set[str] = field(default_factory=set)
    limit: str | None = None
    system: bool = True
    warned: bool = False
    constrains: bool | None = None


_LEARNED: dict[tuple[str, str], _Learned] = {}  # by model and address, for the whole process
_LOCK = Lock()


class ProviderSettings:
    """The settings that are sent with each request.

    Reasoning models do not accept a temperature or stop sequences, and some servers do not accept a seed. A setting
    that the provider does not accept is omitted, unless this would ignore an argument of the caller. What an error says
    about a parameter applies to all later requests of this process to the same model at the same address.
    """

    def __init__(
        self,
        name: str,
        address: str,
        parameters: Parameters,
        reasoning: Reasoning,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        """Start with the known parameters.

        Args:
            name: The model in error messages.
            address: Its server.
            parameters: The parameters that the model accepts.
            reasoning: How much the model reasons.
            body: Further fields of each request (LangChain's ``extra_body``), which a renamed parameter is added to.
        """
        self._name, self._parameters, self._reasoning = name, parameters, reasoning
        self._body = {**(body or {}), **reasoning.body}
        with _LOCK:
            self._learned = _LEARNED.setdefault((name, address), _Learned())

    @property
    def has_seed(self) -> bool:
        """Whether the provider supports a seed."""
        return self._parameters.seed is not None and not {"seed", self._parameters.seed} & self._rejected

    @property
    def system_role(self) -> bool:
        """Whether the model accepts system messages."""
        return self._learned.system

    def accepts(self, name: str) -> bool:
        """Whether the model accepts a parameter, as far as known."""
        return name not in self._rejected

    @property
    def _rejected(self) -> set[str]:
        return self._learned.rejected | self._parameters.rejected | self._reasoning.rejected

    def of(self, sampling: Sampling) -> dict[str, Any]:
        """Return the settings of a request, with the provider's names.

        Args:
            sampling: The settings of the caller.

        Returns:
            The settings that the provider accepts.

        Raises:
            UnsupportedError: If the caller needs a setting that the provider does not accept.
        """
        settings: dict[str, Any] = {"temperature": sampling.temperature}
        if stop := self._parameters.stops(sampling.stop):
            settings["stop"] = stop
        settings |= sampling.optional()
        if sampling.logprobs and self.accepts("logprobs"):
            settings["logprobs"] = True
        seed = self._parameters.seed
        if seed is not None:
            settings[seed] = sampling.seed
        required = {"temperature": sampling.temperature > 0, seed: bool(sampling.seed and sampling.temperature)}
        required |= dict.fromkeys(sampling.optional(), True)
        for name in self._rejected & settings.keys():
            if required.get(name):
                said = "seed" if name == seed else name
                raise UnsupportedError(f"{self._name} does not accept `{said}`; leave it out or use another model")
            del settings[name]
        if "temperature" not in settings:
            self._warn()
        return settings | self._limit(sampling.max_tokens + self._reasoning.tokens) | dict(self._reasoning.fields)

    def omitted(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the settings that make answers repeatable and that a request does not contain."""
        return () if "temperature" in settings else ("temperature",)

    def _limit(self, tokens: int) -> dict[str, Any]:
        if self._learned.limit is None:
            body = {"extra_body": self._body} if self._reasoning.body else {}
            return {self._parameters.limit: tokens, **body}
        # LangChain renames these settings itself, but not in the body.
        return {"extra_body": {**self._body, self._learned.limit: tokens}}

    def drop_stop(self, settings: Mapping[str, Any]) -> bool:
        """Send no stop sequences from now on if a request had any, because they end the reasoning."""
        if "stop" not in settings:
            return False
        self._learned.rejected.add("stop")
        return True

    def reject(self, name: str) -> None:
        """Record that the model does not accept a parameter."""
        self._learned.rejected.add(name)

    @property
    def ignores_schema(self) -> bool:
        """Whether an answer showed that the server ignores schemas."""
        return self._learned.constrains is False

    def learn_schema(self, text: str) -> bool:
        """Learn from an answer that should be a JSON object whether the server constrains its answers.

        An answer that is constrained begins like an object, even if it is truncated.

        Returns:
            Whether the server ignores schemas.
        """
        if self._learned.constrains is None and text.strip():
            self._learned.constrains = text.lstrip().startswith("{")
        return self.ignores_schema

    def leave_out(self, error: Exception, settings: Collection[str], *, system_role: bool) -> bool:
        """Learn from an error what the model does not accept, and return whether to repeat the request."""
        # Several requests may have been in progress, so the arguments describe the one that failed.
        if system_role and rejects_system_role(error):
            self._learned.system = False
            return True
        optional = [name for name in _OPTIONAL if name in settings]
        name = rejected_setting(error, [*optional, *_LIMITS])
        if name is None:
            return False
        if name in _LIMITS:
            other = _LIMITS[name == _LIMITS[0]]
            if self._parameters.limit not in _LIMITS or other in self._learned.rejected:
                return False
            self._learned.limit = other
        self._learned.rejected.add(name)
        return True

    def _warn(self) -> None:
        with _LOCK:
            warned, self._learned.warned = self._learned.warned, True
        if not warned:
            said = f"{self._name} does not accept `temperature`: it samples its answers, which may vary between runs"
            warnings.warn(RagkitWarning(said), stacklevel=2)
