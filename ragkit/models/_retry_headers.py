"""When to repeat a rejected request, according to the headers and the message of a provider."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

# OpenAI, Azure, Groq, Mistral and OpenRouter; Anthropic; the IETF draft.
_RESET = re.compile(r"x-ratelimit-reset(?:-\w+)?|anthropic-ratelimit-[\w-]+-reset|ratelimit-reset", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SAID = re.compile(r"(?:try again|retry) (?:in|after) (\d[\d.hms]*)|retryDelay\W+(\d[\d.]*s)", re.IGNORECASE)
# Limits refill continuously, and these headers contain the time until they are full, so a request fits earlier.
_LONGEST_RESET = 30.0
_EPOCH = 1e9  # larger numbers are times since 1970, in seconds, or in milliseconds from 1e12


def retry_after(headers: Mapping[str, Any], message: str) -> float | None:
    """Return the seconds to wait before the next attempt.

    Args:
        headers: Headers of the reply. ``retry-after-ms`` and ``retry-after`` take precedence; otherwise, the time at
            which an exhausted limit is reset applies, but at most 30 seconds.
        message: Message of the error, which is read if no header tells.

    Returns:
        Seconds, at least 0; None if the provider does not say.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):  # absent, or a date
            continue
    try:
        asked = parsedate_to_datetime(headers["retry-after"])
        return max(0.0, (asked - _now(headers, asked)).total_seconds())
    except (KeyError, ValueError, TypeError):  # absent, not a date, or only one of them with a time zone
        pass
    resets = list(_resets(headers))
    if resets:
        return min(max(0.0, *resets), _LONGEST_RESET)
    said = _SAID.search(message)
    return None if said is None else _seconds(said[1] or said[2], headers)


def _resets(headers: Mapping[str, Any]) -> Iterator[float]:
    """Yield the seconds until limits are reset, of which nothing remains."""
    for name, value in headers.items():
        if _RESET.fullmatch(name):
            remaining = headers.get(re.sub("reset", "remaining", name, flags=re.IGNORECASE))
            seconds = _seconds(str(value), headers)
            if seconds is not None and (remaining is None or str(remaining).strip() in {"0", "0.0"}):
                yield seconds


def _seconds(text: str, headers: Mapping[str, Any]) -> float | None:
    """Return the seconds of a duration such as ``6m0.5s``, of a number, or until a time; None for other texts."""
    text = text.strip().rstrip(".")
    if _PART.sub("", text) == "" and text:
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    try:
        number = float(text)
    except ValueError:
        try:
            until = datetime.fromisoformat(text)
            return (until - _now(headers, until)).total_seconds()
        except (ValueError, TypeError):
            return None
    if number < _EPOCH:
        return number
    return number / (1000.0 if number >= 1000 * _EPOCH else 1.0) - _now(headers, datetime.now(UTC)).timestamp()


def _now(headers: Mapping[str, Any], asked: datetime) -> datetime:
    """Return the time of the server's clock, or of ours if the server does not send its own."""
    try:
        return parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, TypeError):
        return datetime.now(asked.tzinfo or UTC)
