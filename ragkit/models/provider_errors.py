"""Errors of any provider's package, read as ours: what may pass, what is refused, what may have been paid for."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ragkit.errors import ModelAccessError, ModelError, TransientModelError

_REFUSED = (401, 403, 404)
_PASSING = (408, 409, 425, 429)
_CONNECTION = {"APIConnectionError", "TransportError", "ClientConnectionError"}
_NEVER_SENT = {"ConnectError", "ConnectTimeout", "ConnectionRefusedError", "ClientConnectorError"}


def as_model_error(error: Exception, name: str, secrets: Sequence[str]) -> ModelError:
    """Read a provider's error by its HTTP status where it has one, else by its kind.

    Args:
        error: What the provider's package raised.
        name: The model's name.
        secrets: Texts that must not be shown.

    Returns:
        The error to raise.
    """
    advice = "check that the server is up, and the address, the model's name, the key and your limits"
    message = told(f"{name} gave no answer", error, advice, secrets)
    status = _status(error)
    if status is None:
        if _is_a(error, _CONNECTION) or isinstance(error, OSError):
            return TransientModelError(message, maybe_paid=not _was_never_sent(error))
        unreadable = isinstance(error, json.JSONDecodeError | LookupError | TypeError)
        return TransientModelError(message) if unreadable else ModelError(message)
    if status in _REFUSED:
        return ModelAccessError(message, maybe_paid=False)
    if status in _PASSING or status >= 500:
        paid = status >= 500 or status == 408
        return TransientModelError(message, maybe_paid=paid, retry_after=_retry_after(error))
    return ModelError(message, maybe_paid=False)


def told(what: str, error: Exception, advice: str, secrets: Sequence[str]) -> str:
    """A message with what the provider said, secrets left out.

    Returns:
        The message.
    """
    said = str(error)
    for secret in filter(None, secrets):
        said = said.replace(secret, "[secret]")
    return f"{what} ({type(error).__name__}: {said}); {advice}"


def shown_cause(error: Exception, secrets: Sequence[str]) -> Exception | None:
    """The error itself, unless a traceback would print a secret with it.

    Returns:
        The error or None.
    """
    return None if any(secret in str(error) for secret in secrets if secret) else error


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    holders = (
        getattr(error, "status_code", None),
        getattr(response, "status_code", None),
        getattr(error, "code", None),
    )
    return next((found for found in holders if isinstance(found, int) and found >= 400), None)


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):  # absent, or a date
        return None


def _was_never_sent(error: BaseException | None) -> bool:
    """Whether no connection came about."""
    while error is not None:
        if _is_a(error, _NEVER_SENT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_a(error: BaseException, names: set[str]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)
