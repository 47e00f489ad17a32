"""Probabilities of choices, from the log-probabilities that chat APIs return for the first token of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import Any

from ragkit.errors import UnsupportedError

_TOP = {"xai": 8}
_MOST = 20  # of OpenAI, Azure, DeepSeek, vLLM and Ollama
_NEGLIGIBLE = 0.01  # probability of tokens that may begin several choices
_LEAST = 1e-12
# Providers whose chat API has `logprobs` and `top_logprobs`.
_PROVIDERS = {
    "openai", "azure_openai", "deepseek", "xai", "openrouter", "together", "ollama", "vllm", "llamacpp",
}  # fmt: skip


def has_logprobs(spec: str | None) -> bool:
    """Return whether the provider of a spec has log-probabilities, as far as known."""
    return spec is not None and spec.partition(":")[0] in _PROVIDERS


def logprob_settings(spec: str) -> dict[str, Any]:
    """Return the settings that request the most probable first tokens of an answer."""
    return {"logprobs": True, "top_logprobs": _TOP.get(spec.partition(":")[0], _MOST)}


def first_tokens(reply: Any) -> list[tuple[str, float]]:
    """Return the most probable first tokens of a reply with their log-probabilities; empty if it contains none."""
    content = (reply.response_metadata.get("logprobs") or {}).get("content") or []
    if not content:
        return []
    tokens = content[0].get("top_logprobs") or [content[0]]
    return [(str(token["token"]), float(token["logprob"])) for token in tokens]


def log_probabilities(tokens: Sequence[tuple[str, float]], choices: Sequence[str], name: str) -> list[float]:
    """Return the log-probability of each choice: that of the tokens with which only this choice can begin.

    A choice that no token begins gets an upper bound: the probability of the least probable token, or what the tokens
    leave of the total probability, if that is less.

    Raises:
        UnsupportedError: If a probable token may begin several choices.
    """
    texts = [choice.strip() for choice in choices]
    masses = [0.0] * len(texts)
    for token, value in tokens:
        start = token.strip()
        begun = [index for index, text in enumerate(texts) if start and (text.startswith(start) or text == start)]
        if len(begun) == 1:
            masses[begun[0]] += exp(value)
        elif len(begun) > 1 and exp(value) > _NEGLIGIBLE:
            some = " and ".join(repr(choices[index]) for index in begun[:2])
            raise UnsupportedError(
                f"{name} returns probabilities of single tokens, and {token!r} begins both {some}; pass choices that "
                "differ in their first characters, such as letters, or use generate"
            )
    rest = min(1.0 - sum(exp(value) for _, value in tokens), min((exp(value) for _, value in tokens), default=1.0))
    return [log(mass if mass else max(rest, _LEAST)) for mass in masses]
