"""Conversion of provider errors: which are transient, which deny access, and which calls may have been billed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ragkit.errors import ModelAccessError, ModelError, TransientModelError
from ragkit.models._provider_hints import advice_for
from ragkit.models._provider_secrets import chain_of, redacted, shown_cause
from ragkit.models._retry_headers import retry_after

_REFUSED = (401, 402, 403, 404)
_PASSING = (408, 409, 425, 429)
# Values that providers use as the type or code of an error.
_REFUSALS = {
    "insufficient_quota", "exceeded_current_quota_error", "billing_hard_limit_reached", "billing_not_active",
    "insufficient_balance", "insufficient_credits", "account_deactivated", "invalid_api_key", "authentication_error",
    "permission_error", "permission_denied", "model_not_found", "not_found_error",
}  # fmt: skip
_TRANSIENT = {
    "rate_limit_exceeded", "rate_limit_error", "resource_exhausted", "server_error", "internal_server_error",
    "internal_error", "api_error", "overloaded_error", "engine_overloaded_error", "service_unavailable", "unavailable",
    "timeout", "timeout_error",
}  # fmt: skip
_NO_CREDIT = re.compile(r"credit balance is too low|insufficient (?:balance|credit)", re.IGNORECASE)
_REJECTED = re.compile(
    r"unsupported|not support|not permitted|deprecated|un(?:known|expected|recognized)|may only be set to"
    r"|cannot both be",
    re.IGNORECASE,
)
# A parameter in quotes, as in "argument supplied: seed" (Azure), or as in "seed: Extra inputs" (Anthropic).
_MENTIONED = re.compile(r"['\"`](\w+)['\"`]|supplied: (\w+)|(\w+): Extra inputs")
_NO_SYSTEM_ROLE = re.compile(
    r"system role (?:is )?not supported|developer instruction is not enabled"
    r"|role['\"`]? does not support ['\"`](?:system|developer)|does not support system (?:messages|prompts)",
    re.IGNORECASE,
)
_DETAIL = 500  # characters
_NO_CHUNKS = "No generation chunks"  # LangChain's error for a stream without events, such as a JSON reply to a stream
_CONNECTION = {
    "APIConnectionError", "TransportError", "ClientConnectionError", "ModelConnectionError", "ModelTimeoutError",
}  # fmt: skip
_NEVER_SENT = {"ConnectError", "ConnectTimeout", "ConnectionRefusedError", "ClientConnectorError"}
# A request that cannot be written, such as a key with a line break or an address without a protocol.
_INVALID_REQUEST = {"LocalProtocolError", "UnsupportedProtocol", "InvalidURL", "InvalidHeader", "UnicodeEncodeError"}


def as_model_error(
    error: Exception, name: str, secrets: Sequence[str], *, schema: bool = False, address: str = ""
) -> ModelError:
    """Convert a provider's error by its HTTP status, or by its type and error codes if it has no status.

    Args:
        error: The exception that the provider's package raised.
        name: The model's name.
        secrets: Strings that must not appear in the message or in the causes.
        schema: Whether the answer had to follow a schema.
        address: Address of a server other than that of the provider, without secrets.

    Returns:
        The error to raise, after the ``except`` block: its cause is the provider's error without secrets.
    """
    advice = advice_for(error, _status(error), schema=schema, address=address)
    made = _classified(error, told(f"{name} gave no answer", error, advice, secrets))
    made.__cause__ = shown_cause(error, secrets)
    return made


def _classified(error: Exception, message: str) -> ModelError:
    status, said = _status(error), _error_codes(error)
    invalid = any(_is_a(each, _INVALID_REQUEST) for each in chain_of(error))
    if invalid or status in _REFUSED or said & _REFUSALS or _NO_CREDIT.search(str(error)):
        return ModelAccessError(message, maybe_paid=False)
    if status is None:
        if _is_a(error, _CONNECTION) or isinstance(error, OSError):
            never_sent = any(_is_a(each, _NEVER_SENT) for each in chain_of(error))
            return TransientModelError(message, maybe_paid=not never_sent)
        unreadable = isinstance(error, json.JSONDecodeError | LookupError | TypeError)
        unexplained = (bool(_body(error)) and not said) or _NO_CHUNKS in str(error)
        return TransientModelError(message) if unreadable or unexplained or said & _TRANSIENT else ModelError(message)
    if status in _PASSING or status >= 500:
        paid = status >= 500 or status == 408
        return TransientModelError(message, maybe_paid=paid, retry_after=_retry_after(error))
    return ModelError(message, maybe_paid=False)


def rejected_setting(error: Exception, names: Sequence[str]) -> str | None:
    """Return the first of some parameters that the provider does not accept for its model at all, or None."""
    if "logprobs" in names and _status(error) in (400, 403, 422) and "logprobs" in str(error):
        return "logprobs"  # "You are not allowed to request logprobs from this model"
    if _status(error) not in (400, 422) or not _REJECTED.search(f"{error} {_error_codes(error)}"):
        return None
    named = _body(error).get("param")
    mentioned = {found for groups in _MENTIONED.findall(str(error)) for found in groups}
    return next((name for name in names if name == named or (named is None and name in mentioned)), None)


def rejects_system_role(error: Exception) -> bool:
    """Return whether the provider does not accept system messages for its model."""
    return _status(error) in (400, 422) and _NO_SYSTEM_ROLE.search(str(error)) is not None


def told(what: str, error: Exception, advice: str, secrets: Sequence[str]) -> str:
    """Return an error message that quotes the provider's error without secrets."""
    said = redacted(f"{error}{_detail(error)}", secrets)
    return f"{what} ({type(error).__name__}: {said}); {advice}"


def _detail(error: Exception) -> str:
    """Return the message of a server in a form that the provider's package does not show, as FastAPI sends it."""
    try:
        detail = error.response.json()["detail"]  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - there is none
        return ""
    return "" if str(detail) in str(error) else f", {str(detail)[:_DETAIL]}"


def _body(error: Exception) -> Mapping[str, Any]:
    """Return the error object that a provider sent, which can also be part of a reply with status 200."""
    found: Any = getattr(error, "body", None) or (error.args[0] if error.args else None)
    if isinstance(found, list) and found:
        found = found[0]
    if isinstance(found, Mapping) and isinstance(found.get("error"), Mapping):
        found = found["error"]
    return found if isinstance(found, Mapping) else {}


def _error_codes(error: Exception) -> set[str]:
    """Return the provider's error codes in lower case, or those in the message if there is no error object."""
    body = _body(error)
    named = {str(body[name]).lower() for name in ("type", "code", "status") if body.get(name)}
    return named if body else set(re.findall(r"\w+_\w+", str(error).lower()))


def _status(error: Exception) -> int | None:
    response, body = getattr(error, "response", None), _body(error)
    holders = (
        getattr(error, "status_code", None),
        getattr(response, "status_code", None),
        getattr(error, "code", None),
        body.get("code"),
        body.get("status"),
    )
    numbers = (int(found) if isinstance(found, str) and found.isdecimal() else found for found in holders)
    return next((found for found in numbers if isinstance(found, int) and 400 <= found < 600), None)


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return retry_after(headers, str(error))


def _is_a(error: BaseException, names: set[str]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)
