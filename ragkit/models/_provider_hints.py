"""Advice for errors of providers: what to check, and prompts that are too long by the provider's own count."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from urllib.parse import urlsplit

from ragkit.errors import PromptTooLongError
from ragkit.models._provider_secrets import chain_of

GENERAL = "check that the server is up, and the address, the model's name, the key and your limits"
# Pairs of counts in the messages of OpenAI and vLLM, Anthropic, Google, Mistral and llama.cpp.
_TOO_LONG = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"maximum context length is (?P<window>\d+) tokens.*?(?:requested|resulted in|has) (?P<tokens>\d+)",
        r"prompt is too long: (?P<tokens>\d+) tokens > (?P<window>\d+) maximum",
        r"input token count \((?P<tokens>\d+)\) exceeds the maximum number of tokens allowed \(?(?P<window>\d+)",
        r"prompt contains (?P<tokens>\d+) tokens.*?model with (?P<window>\d+) maximum context",
        r"n_prompt_tokens\W+(?P<tokens>\d+)\W+n_ctx\W+(?P<window>\d+)",
    )
)
_HTML = re.compile(r"<(?:!doctype html|html[\s>])", re.IGNORECASE)  # LangChain's error quotes the page
NOT_JSON = "the reply is an HTML page, not JSON: check `base_url` (it usually ends with /v1), and any proxy before it"
# What LangChain and OpenAI's package say about other such replies, which they do not quote.
_UNREADABLE = re.compile(r"'str' object has no attribute|No generation chunks", re.IGNORECASE)
_SCHEMA = re.compile(r"invalid schema|response_format|json[_ ]?schema|grammar|guided_json", re.IGNORECASE)
_MOST_NAMES = 8


def prompt_too_long(error: Exception) -> PromptTooLongError | None:
    """Return the error for a prompt that exceeds the context window, if a provider's message contains both counts."""
    said = " ".join(f"{each} {getattr(each, 'body', None) or ''}" for each in chain_of(error))
    for pattern in _TOO_LONG:
        if match := pattern.search(said):
            advice = "as counted by the provider; shorten the prompt, show fewer examples, or lower `max_tokens`"
            return PromptTooLongError(int(match["tokens"]), int(match["window"]), advice=advice)
    return None


def advice_for(error: Exception, status: int | None, *, schema: bool = False, address: str = "") -> str:
    """Return what to check after an error with this HTTP status, of a server at ``address`` if it is not empty."""
    said = str(error)
    kinds = {kind.__name__ for each in chain_of(error) for kind in type(each).__mro__}
    if _HTML.search(said):
        return NOT_JSON
    if _UNREADABLE.search(said):
        return f"the reply cannot be read, perhaps because {NOT_JSON}"
    if kinds & {"ConnectError", "ConnectionRefusedError", "ClientConnectorError"}:
        return "no server answers at this address: start the server, or check `base_url`"
    if status == 401:
        return "set the provider's environment variable to a valid key, or pass its name as `api_key_env`"
    if status == 403:
        return "the key is valid, but has no access to this model or this region"
    if status in {404, 405} and address and not urlsplit(address).path.strip("/"):
        return f"the path of the address is missing, which is usually /v1: pass base_url='{address.rstrip('/')}/v1'"
    if status == 404:
        return "check the model's name, and `base_url`, which usually ends with /v1"
    if status in {400, 422} and schema and _SCHEMA.search(said):
        return "the provider cannot follow this schema: simplify it, or omit `schema` and check the answer yourself"
    if status == 503:
        return "the server may still be loading the model: try again later"
    return GENERAL


def served_instead(name: str, served: Iterable[str]) -> str:
    """Describe the models of a server that does not serve a model, with the most similar name first."""
    names = sorted(set(served))
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    meant = f"did you mean {close[0]!r}? " if close else ""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{meant}the server has {', '.join(map(repr, names[:_MOST_NAMES])) or 'no model'}{more}"
