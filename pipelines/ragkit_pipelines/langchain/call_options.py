"""The arguments of a call of the chat model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

from pydantic import BaseModel

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.protocols import LanguageModel, Schema
from ragkit.records import Tool
from ragkit_pipelines.langchain.tools import tool_choice_of, tools_of

_KNOWN = (
    "stop", "max_tokens", "max_completion_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty",
    "seed", "choices", "grammar", "response_format", "tools", "tool_choice", "parallel_tool_calls",
)  # fmt: skip
_INTERNAL = ("schema", "keep_invalid")  # set by `with_structured_output`


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """The arguments of a call, with the defaults of the chat model.

    Attributes:
        settings: Arguments of `LanguageModel.generate`.
        tools: Tools that the model may call.
        tool_choice: See `ragkit.records.Chat`.
        one_call: Whether only the first tool call is returned.
        keep_invalid: Whether a response that does not follow the schema is returned instead of raising an error.
    """

    settings: Mapping[str, Any]
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    one_call: bool = False
    keep_invalid: bool = False

    @classmethod
    def of(cls, model: LanguageModel, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> CallOptions:
        """Validate the arguments of a call.

        Args:
            model: The model.
            defaults: The settings of the chat model.
            given: The arguments; None stands for the default.

        Returns:
            The options.

        Raises:
            InvalidInputError: If an argument is unknown or invalid.
            UnsupportedError: If the model does not support an argument.
        """
        unknown = sorted(given.keys() - {*_KNOWN, *_INTERNAL})
        if unknown:
            raise InvalidInputError(f"unknown argument {', '.join(map(repr, unknown))}; expected {', '.join(_KNOWN)}")
        asked = {name: value for name, value in given.items() if value is not None}
        if "max_completion_tokens" in asked:
            asked.setdefault("max_tokens", asked.pop("max_completion_tokens"))
        tools = tools_of(asked.pop("tools", ()))
        choice = tool_choice_of(asked.pop("tool_choice", None), tools) if tools else "auto"
        one_call = asked.pop("parallel_tool_calls", True) is False
        keep_invalid = bool(asked.pop("keep_invalid", False))
        if (schema := _schema_of(asked.pop("response_format", None))) is not None:
            asked["schema"] = schema
        settings = {name: value for name, value in {**defaults, **asked}.items() if value is not None}
        stop = settings.get("stop", ())
        settings["stop"] = [stop] if isinstance(stop, str) else list(stop)
        if settings.get("top_p") == 1:  # the default of every provider
            del settings["top_p"]
        for name in settings:
            if not _accepts(model, name):
                raise UnsupportedError(f"{model.name} does not support `{name}`; omit it or use another model")
        return cls(settings=settings, tools=tools, tool_choice=choice, one_call=one_call, keep_invalid=keep_invalid)

    @property
    def constrained(self) -> bool:
        """Whether the response is parsed or compared as a whole, so that it cannot be streamed."""
        return "schema" in self.settings or "choices" in self.settings


def _accepts(model: LanguageModel, name: str) -> bool:
    parameters = signature(model.generate).parameters
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _schema_of(response_format: Any) -> Schema | None:
    """Read a `response_format` of OpenAI, which LangChain's agents pass for structured output."""
    if response_format is None or (isinstance(response_format, type) and issubclass(response_format, BaseModel)):
        return response_format
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    described = response_format.get("json_schema") if kind == "json_schema" else None
    if isinstance(described, Mapping) and isinstance(described.get("schema"), Mapping):
        return dict(described["schema"])
    raise InvalidInputError(
        "`response_format` must be a pydantic model, {'type': 'json_schema', 'json_schema': {'schema': …}}, "
        f"{{'type': 'json_object'}} or {{'type': 'text'}}, got {response_format!r}"
    )
