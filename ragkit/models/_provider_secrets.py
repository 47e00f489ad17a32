"""API keys and other secrets of chat models: which are valid, and errors that do not show them."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ragkit.errors import InvalidInputError, ModelAccessError

NO_KEY = "none"  # sent to servers that need no key
_VARIABLES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_SHORTEST = 8  # of a secret in the environment; shorter values are settings such as "true"


def secrets_of(chat_model: Any) -> list[str]:
    """Return the secrets of a LangChain chat model: its keys, and those in its address and headers."""
    values = vars(chat_model) if hasattr(chat_model, "__dict__") else {}
    found = [str(value.get_secret_value()) for value in values.values() if hasattr(value, "get_secret_value")]
    for name in ("default_headers", "default_query"):
        given = values.get(name)
        found += [str(value) for value in (given.values() if isinstance(given, Mapping) else ())]
    return [*(secret for secret in found if secret not in {"", NO_KEY}), *secrets_in_address(_address_of(chat_model))]


def secrets_in_environment() -> list[str]:
    """Return the values of environment variables whose names suggest a secret."""
    named = (value for name, value in os.environ.items() if _VARIABLES.search(name))
    return [value for value in named if len(value) >= _SHORTEST]


def key_in_environment(name: str) -> str:
    """Return the API key in an environment variable.

    Raises:
        InvalidInputError: If the variable is not set. The message does not contain the name, which may be a key by
            mistake.
    """
    key = os.environ.get(name, "")
    if not key:
        raise InvalidInputError(
            "`api_key_env` (--api-key-env) must be the name of an environment variable that is set and holds the API "
            "key, such as OPENAI_API_KEY; pass the name, not the key"
        )
    return key


def secrets_in_address(address: str) -> list[str]:
    """Return the user with the password, the password and the query of an address, as far as it has them."""
    parts = urlsplit(address)
    login = parts.netloc.rpartition("@")[0]
    user, _, password = login.partition(":")
    known = [login, f"{unquote(user)}:{unquote(password)}" if login else "", password, unquote(password), parts.query]
    return list(dict.fromkeys(filter(None, known)))


def without_secrets(address: str) -> str:
    """Return an address without user, password and query."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def check_secrets(chat_model: Any, name: str) -> None:
    """Check that the keys of a chat model can be sent in an HTTP header.

    Raises:
        ModelAccessError: If a key contains white space, control characters or characters other than ASCII. The message
            does not contain the key.
    """
    values = vars(chat_model) if hasattr(chat_model, "__dict__") else {}
    for field, value in values.items():
        key = value.get_secret_value() if hasattr(value, "get_secret_value") else None
        if isinstance(key, str) and not re.fullmatch("[!-~]*", key):
            where = "ends with white space" if re.fullmatch(r"[!-~]*\s+", key) else "contains an invalid character"
            raise ModelAccessError(
                f"the key of {name} (`{field}`) {where}; expected printable ASCII characters without spaces. Set it "
                "again, without the line break that a file or a copy may add",
                maybe_paid=False,
            )


def check_address(address: str) -> None:
    """Check that a base URL begins with its protocol, and contains no white space and no control characters.

    Raises:
        InvalidInputError: If it does not; the message does not contain the address.
    """
    if not address.lower().startswith(("http://", "https://")):
        raise InvalidInputError(
            "`base_url` (--base-url) must begin with http:// or https://, such as http://127.0.0.1:8000/v1"
        )
    if any(character.isspace() or not character.isprintable() for character in address):
        raise InvalidInputError("`base_url` contains white space or a control character; remove it")


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Replace secrets in a text, also in the escaped forms in which errors and requests contain them."""
    forms = {form for secret in secrets for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "[secret]")
    return text


def shown_cause(error: BaseException, secrets: Sequence[str]) -> BaseException | None:
    """Return an error to chain as the cause of another.

    Returns:
        The error if neither it nor its own causes contain a secret. Otherwise a copy of the chain, in which each error
        is a `RuntimeError` that names its type and quotes its message without secrets.
    """
    chain = list(chain_of(error))
    text = "".join(traceback.format_exception(error))
    text += "".join(f"{each} {each!r} {getattr(each, '__notes__', '')}" for each in chain)
    if redacted(text, secrets) == text:
        return error
    copy: BaseException | None = None
    for each in reversed(chain):
        earlier, copy = copy, RuntimeError(redacted(f"{type(each).__name__}: {each}", secrets))
        copy.__cause__ = earlier
    return copy


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its cause or context, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it is, escaped by Python, JSON, URLs and HTML, and in base64, as in basic authentication."""
    for text in {secret, secret.strip()} - {""}:
        data = text.encode(errors="surrogatepass")
        yield text
        yield repr(text)[1:-1]
        yield repr(data)[2:-1]
        yield ascii(text)[1:-1]
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield html.escape(text)
        for safe in ("", "/", ":/", ":@/"):
            encoded = quote(data, safe=safe)
            yield encoded
            yield re.sub("%..", lambda match: match[0].lower(), encoded)
        if len(text) >= _SHORTEST or ":" in text:
            for code in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
                yield code.decode()
                yield code.decode().rstrip("=")


def _address_of(chat_model: Any) -> str:
    found = (getattr(chat_model, name, None) for name in ("openai_api_base", "anthropic_api_url", "base_url"))
    return str(next(filter(None, found), ""))
