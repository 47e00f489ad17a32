"""Interpretation of provider replies: finish reasons, refusals and token usage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ragkit.records import FinishReason, Usage

# Fields in which providers report the finish reason, and its values.
_ENDINGS = ("finish_reason", "stop_reason", "stopReason", "done_reason")
_TRUNCATED = {"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"}
_FILTERED = {
    "content_filter", "content_filtered", "guardrail_intervened", "refusal", "safety", "recitation", "blocklist",
    "prohibited_content", "spii", "image_safety", "error_toxic", "sensitive",
}  # fmt: skip
_STORED = ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
_UNPARSED = {"LengthFinishReasonError", "ContentFilterFinishReasonError"}
_FAILED = {"error", "failed", "cancelled", "network_error", "insufficient_system_resource"}


def ending_of(replies: Sequence[Any]) -> str | None:
    """Return the finish reason that the provider reports, in lower case; None if it reports none."""
    for metadata in (reply.response_metadata for reply in reversed(replies)):
        reasons = [metadata.get(name) for name in _ENDINGS]
        reasons.append((metadata.get("incomplete_details") or {}).get("reason"))  # OpenAI's Responses
        reasons.append(metadata.get("status"))
        for reason in reasons:
            if isinstance(reason, str) and reason:
                return reason.lower()
    return None


def reply_within(error: Exception) -> Any:
    """Return the reply that OpenAI's package could not parse by a schema because it was truncated or filtered."""
    if type(error).__name__ not in _UNPARSED or not hasattr(error, "response"):
        return None
    from langchain_core.messages.ai import AIMessage, InputTokenDetails, OutputTokenDetails, UsageMetadata

    reply = error.response.json()
    choice, usage = reply["choices"][0], reply.get("usage") or {}
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    message = AIMessage(choice["message"].get("content") or "")
    message.response_metadata = {"finish_reason": choice["finish_reason"]}
    if read is not None and written is not None:
        message.usage_metadata = UsageMetadata(
            input_tokens=read,
            output_tokens=written,
            total_tokens=read + written,
            input_token_details=InputTokenDetails(cache_read=cached or 0),
            output_token_details=OutputTokenDetails(reasoning=thought or 0),
        )
    return message


def finish_reason_of(replies: Sequence[Any]) -> FinishReason:
    """Return the finish reason, in the same words for every provider."""
    ending = ending_of(replies)
    if any(text for reply in replies for text in _refusals(reply)) or ending == "refusal":
        return "refusal"
    if ending in _FILTERED:
        return "content_filter"
    if ending in _FAILED:
        return "error"
    return "length" if ending in _TRUNCATED else "stop"


def refusal_in(replies: Sequence[Any]) -> str | None:
    """Describe a refusal by the model or a content filter; None if the reply is not a refusal."""
    said = "".join(text for reply in replies for text in _refusals(reply))
    if said:
        return f"it refused ({said})"
    ending = ending_of(replies)
    return f"a content filter ended it ({ending})" if ending in _FILTERED else None


def _refusals(reply: Any) -> list[str]:
    blocks = reply.content if isinstance(reply.content, list) else []
    found = [reply.additional_kwargs.get("refusal")]
    found += [block.get("refusal") for block in blocks if isinstance(block, Mapping)]
    return [text for text in found if isinstance(text, str)]


def reported_usage(replies: Sequence[Any]) -> Usage | None:
    """Return the token usage that the provider reports.

    Chunks of a stream report either their own usage or a running total. If several chunks count the prompt, these are
    running totals, and the last one is used.

    Args:
        replies: The message of a reply, or the chunks of a stream.

    Returns:
        The usage; None if the provider does not report it, or reports impossible values.
    """
    reports = [reply.usage_metadata for reply in replies if reply.usage_metadata]
    totals = [report for report in reports if report.get("input_tokens")]
    parts = [_usage(report) for report in (totals[-1:] if len(totals) > 1 else reports)]
    known = [part for part in parts if part is not None]
    return sum(known, Usage()) if known and len(known) == len(parts) else None


def _usage(reported: Mapping[str, Any]) -> Usage | None:
    details = reported.get("input_token_details") or {}
    read: Any = reported.get("input_tokens")
    cached: Any = details.get("cache_read") or 0
    written: Any = reported.get("output_tokens")
    if not all(isinstance(number, int) and 0 <= number < 10**9 for number in (read, cached, written)) or cached > read:
        return None
    # langchain-anthropic names the lifetime of the cache if the provider does.
    stored: Any = sum(details.get(name) or 0 for name in _STORED)
    stored = stored if 0 <= stored <= read - cached else 0
    thought: Any = (reported.get("output_token_details") or {}).get("reasoning") or 0
    thought = thought if isinstance(thought, int) and 0 <= thought <= written else 0
    return Usage(
        prompt_tokens=read,
        cached_tokens=cached,
        completion_tokens=written,
        reasoning_tokens=thought,
        cache_written_tokens=stored,
    )


def reasoning_in(replies: Sequence[Any]) -> str:
    """Return the reasoning that a provider returns in fields of its own."""
    return "".join(text for reply in replies for text in _thoughts(reply)).strip()


def _thoughts(reply: Any) -> Iterator[str]:
    told = reply.additional_kwargs.get("reasoning_content")
    if isinstance(told, str):
        yield told
    for block in reply.content if isinstance(reply.content, list) else ():
        if isinstance(block, Mapping) and block.get("type") in {"thinking", "reasoning"}:
            parts = block.get(block["type"]) or block.get("summary") or ()
            for part in [parts] if isinstance(parts, str) else parts:
                yield str(part.get("text") or "") if isinstance(part, Mapping) else str(part)
