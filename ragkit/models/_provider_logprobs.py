"""Log-probabilities that chat APIs return: those of an answer, and those of choices for its first token."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
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


def answer_tokens(reply: Any) -> tuple[tuple[str, float], ...]:
    """Return the tokens of a reply with their log-probabilities; empty if it contains none.

    Tokens that are parts of one character are joined, because a string cannot contain them.
    """
    tokens, data, value = list[tuple[str, float]](), b"", 0.0
    for each in (reply.response_metadata.get("logprobs") or {}).get("content") or []:
        part = each.get("bytes")
        data += str(each["token"]).encode(errors="surrogatepass") if part is None else bytes(part)
        value += float(each["logprob"])
        try:
            tokens.append((data.decode(), value))
        except UnicodeDecodeError:
            continue
        data, value = b"", 0.0
    return (*tokens, (data.decode(errors="replace"), value)) if data else tuple(tokens)


def tokens_within(
    tokens: Sequence[tuple[str, float]], text: str, *, last: bool = False
) -> tuple[tuple[str, float], ...]:
    """Return the tokens that contain a text: its first occurrence, or its last one; all tokens if it is not found."""
    whole = "".join(token for token, _ in tokens)
    start = whole.rfind(text) if last else whole.find(text)
    if start < 0 or not text:
        return tuple(tokens)
    ends = list(accumulate(len(token) for token, _ in tokens))
    begin, end = bisect_right(ends, start), bisect_left(ends, start + len(text))
    return tuple(tokens[begin : end + 1])


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
