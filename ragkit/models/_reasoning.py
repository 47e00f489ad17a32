"""Reasoning before an answer: how much a model may reason, and how each provider is asked for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from ragkit.answers._reasoning import answer_pieces, separate_reasoning
from ragkit.errors import InvalidInputError, RagkitError, ReasoningTruncatedError, UnsupportedError
from ragkit.models._base import CompletionStream
from ragkit.models._prompts import cut_at_stop, until_stop
from ragkit.models._provider_parameters import Parameters
from ragkit.records import Completion

ReasoningLevel = Literal["none", "low", "medium", "high"]
_TOKENS: Mapping[ReasoningLevel, int] = {"none": 0, "low": 2_048, "medium": 8_192, "high": 24_576}
# Variables of chat templates that switch the reasoning on and off, and one that sets its level.
_SWITCHES = re.compile(r"\b(enable_thinking|thinking)\b(?= is |\s*(?:==|%}|and|or|else))")
_LEVELS = re.compile(r"\breasoning_effort\b")
_LEAST_BUDGET = 1_024  # of Anthropic
_SERVERS = ("vllm", "llamacpp")  # their chat templates have the switch
_EFFORT = ("openai", "azure_openai", "ollama", "openrouter", "xai", "groq", "deepseek")


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How a model reasons before its answers.

    Attributes:
        active: Whether the model reasons, as far as known.
        tokens: Maximum number of reasoning tokens, which are added to `max_tokens` of each request.
        fields: Fields of each request that set the level.
        body: Fields of the body that the provider's package does not know.
        rejected: Parameters that the model does not accept while it reasons.
    """

    active: bool = False
    tokens: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    rejected: frozenset[str] = frozenset()


def check_reasoning(level: object, max_tokens: object) -> None:
    """Raise `InvalidInputError` unless the arguments of `load_model` are a level and a number of tokens, or None."""
    if level not in {None, *get_args(ReasoningLevel)}:
        raise InvalidInputError(f"`reasoning` must be one of {get_args(ReasoningLevel)} or None, got {level!r}")
    if max_tokens is not None and (not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 0):
        raise InvalidInputError(f"`max_reasoning_tokens` must be a whole number of at least 0, got {max_tokens!r}")
    if level == "none" and max_tokens:
        raise InvalidInputError("`max_reasoning_tokens` needs a model that reasons; omit it, or omit reasoning='none'")


def tokens_of(level: ReasoningLevel | None, max_tokens: int | None) -> int:
    """Return the maximum number of reasoning tokens of a level: 2,048, 8,192 or 24,576 unless the user set it."""
    return max_tokens if max_tokens is not None else _TOKENS[level or "medium"]


def reasoning_of(
    spec: str, model: Parameters, level: ReasoningLevel | None = None, max_tokens: int | None = None
) -> Reasoning:
    """Return how to ask a provider for a level of reasoning.

    Args:
        spec: ``"<provider>:<model>"``.
        model: The parameters of the model.
        level: The level; None for the default of the model.
        max_tokens: Maximum number of reasoning tokens; None for that of the level.

    Returns:
        The settings. If nothing is set and it is not known whether the model reasons, nothing is sent.

    Raises:
        UnsupportedError: If the model cannot reason, cannot stop reasoning, or if ragkit does not know how its
            provider sets the level.
    """
    provider, _, name = spec.partition(":")
    tokens = tokens_of(level, max_tokens)
    if level is None and max_tokens is None:
        by_default = model.reasons and (provider in {"google_genai", "google_vertexai"} or _always(model))
        return Reasoning(active=True, tokens=tokens) if by_default else Reasoning()
    if model.reasons is False:
        if level == "none":
            return Reasoning()
        raise UnsupportedError(f"{spec} does not reason; omit `reasoning` and `max_reasoning_tokens`")
    if provider == "anthropic":
        return _anthropic(model, level, tokens)
    if provider in {"google_genai", "google_vertexai"}:
        return _google(spec, model, level, tokens)
    if level is None:
        return Reasoning(active=True, tokens=tokens)
    if provider in _SERVERS:
        switch: dict[str, Any] = {"enable_thinking": level != "none"}
        body = {"chat_template_kwargs": switch | ({} if level == "none" else {"reasoning_effort": level})}
        return Reasoning(active=level != "none", tokens=tokens, body=body)
    if provider in _EFFORT:
        effort = _lowest(spec, model) if level == "none" else level
        if effort == "minimal":  # the model reasons a little nevertheless
            return Reasoning(active=True, tokens=_TOKENS["low"], fields={"reasoning_effort": effort})
        return Reasoning(active=level != "none", tokens=tokens, fields={"reasoning_effort": effort})
    raise UnsupportedError(
        f"ragkit does not know how to set the reasoning of {name} at {provider}; pass a LangChain chat model with its "
        "own settings instead of a spec"
    )


def reasoning_by_template(
    name: str, template: str | None, level: ReasoningLevel | None, max_tokens: int | None
) -> tuple[Reasoning, dict[str, object]]:
    """Return how a local model reasons, and the variables of its chat template that set the level.

    Raises:
        UnsupportedError: If the template has no variable for it.
    """
    active = level != "none"
    reasoning = Reasoning(active=active, tokens=tokens_of(level, max_tokens))
    if template is None:
        raise UnsupportedError(f"{name} has no chat template, so `reasoning` cannot be set; omit it")
    if level is None:
        return reasoning, {}
    if switch := _SWITCHES.search(template):
        return reasoning, {switch[1]: active}
    if _LEVELS.search(template) and active:
        return reasoning, {"reasoning_effort": level}
    raise UnsupportedError(
        f"the chat template of {name} has no variable (such as `enable_thinking`) for reasoning={level!r}; omit it"
    )


def answer_after_reasoning(completion: Completion, stop: Sequence[str], name: str) -> Completion | RagkitError:
    """Separate the reasoning of a completion of a local model, and truncate the answer at the stop sequences.

    Returns:
        The completion, without the number of reasoning tokens; an error if the reasoning was truncated.
    """
    cut = completion.finish_reason == "length"
    parts = separate_reasoning(completion.text, begun=True, truncated=cut)
    text, stopped = cut_at_stop(parts.answer, stop)
    answer = replace(completion, text=text, reasoning=parts.reasoning)
    if parts.truncated:
        return ReasoningTruncatedError(name, replace(answer, finish_reason="length"))
    return replace(answer, finish_reason="stop") if stopped else answer


def pieces_after_reasoning(stream: CompletionStream, stop: Sequence[str], raw: list[str]) -> Iterator[str]:
    """Yield the pieces of an answer of a local model after its reasoning, and add all pieces to ``raw``."""

    def pieces() -> Iterator[str]:
        for piece in stream:
            raw.append(piece)
            yield piece

    def truncated() -> bool:
        return stream.completion is not None and stream.completion.finish_reason == "length"

    yield from until_stop(answer_pieces(pieces(), begun=True, truncated=truncated), stop)


def _always(model: Parameters) -> bool:
    """Whether a model reasons unless told otherwise: such models accept no temperature."""
    return "temperature" in model.rejected


def _lowest(spec: str, model: Parameters) -> str:
    """Return the level that switches the reasoning of a model off, or nearly so."""
    if not model.efforts and not model.reasons:
        return "none"
    for effort in ("none", "minimal"):
        if effort in model.efforts:
            return effort
    raise UnsupportedError(f"{spec} always reasons; its lowest level is reasoning='low'")


def _anthropic(model: Parameters, level: ReasoningLevel | None, tokens: int) -> Reasoning:
    adaptive = "xhigh" in model.efforts  # these models take a level, the others a number of tokens
    if level == "none":
        return Reasoning(fields={"thinking": {"type": "disabled"}} if adaptive else {})
    rejected = frozenset({"temperature", "top_p"})
    if adaptive:
        return Reasoning(active=True, tokens=tokens, fields={"reasoning_effort": level or "medium"}, rejected=rejected)
    tokens = max(tokens, _LEAST_BUDGET)
    fields = {"thinking": {"type": "enabled", "budget_tokens": tokens}}
    return Reasoning(active=True, tokens=tokens, fields=fields, rejected=rejected)


def _google(spec: str, model: Parameters, level: ReasoningLevel | None, tokens: int) -> Reasoning:
    if not model.efforts:  # models that take a number of tokens
        fields: dict[str, Any] = {"thinking_budget": tokens, "include_thoughts": tokens > 0}
        return Reasoning(active=tokens > 0, tokens=tokens, fields=fields)
    if level == "none":
        effort = _lowest(spec, model)
        return Reasoning(active=True, tokens=_TOKENS["low"], fields={"thinking_level": effort})
    supported = level if level in model.efforts else "low" if level == "low" else "high"
    fields = {"thinking_level": supported, "include_thoughts": True} if level else {"include_thoughts": True}
    return Reasoning(active=True, tokens=tokens, fields=fields)
