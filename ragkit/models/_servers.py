"""Servers that people run themselves: Ollama, vLLM and llama.cpp, which speak OpenAI's protocol."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import PurePath
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ragkit.errors import InvalidInputError, ModelAccessError, ModelError, TransientModelError
from ragkit.models._provider_hints import served_instead
from ragkit.models._provider_secrets import without_secrets

ADDRESSES = {
    "ollama": "http://localhost:11434/v1",
    "vllm": "http://localhost:8000/v1",
    "llamacpp": "http://localhost:8080/v1",
}
_START = {
    "ollama": "`ollama serve`",
    "vllm": "`vllm serve {model}`",
    "llamacpp": "`llama-server -m <file>.gguf`",
    "completions": "`ragkit serve --base {model}` or `vllm serve {model}`",
}
KEYS = {
    "ollama": "OLLAMA_API_KEY", "vllm": "VLLM_API_KEY", "llamacpp": "LLAMA_API_KEY", "completions": "OPENAI_API_KEY",
}  # fmt: skip
_PROBE_SECONDS = 10.0
# Fields of `ragkit serve` and older versions of vLLM; of newer ones; of llama.cpp, if it was built with llguidance.
GrammarField = Literal["guided_grammar", "structured_outputs", "grammar"]
_GRAMMAR_FIELDS: Mapping[str, tuple[GrammarField, ...]] = {
    "vllm": ("structured_outputs", "guided_grammar"), "llamacpp": ("grammar",),
}  # fmt: skip
_WORD = "zebra"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a server says about a model.

    Attributes:
        name: The name that requests must contain.
        window: Context window in tokens; None if the server does not say.
        reasons: Whether the model can reason; None if the server does not say.
        version: Version of the server; empty if unknown.
    """

    name: str
    window: int | None = None
    reasons: bool | None = None
    version: str = ""


def probe(provider: str, model: str, address: str, key: str, *, timeout: float = _PROBE_SECONDS) -> ServedModel:
    """Ask a server for its models, and for the context window of one of them.

    Args:
        provider: ``"ollama"``, ``"vllm"``, ``"llamacpp"``, or ``"completions"`` for any server.
        model: Name of the model. llama.cpp serves one model, which is also called ``"default"``.
        address: Base URL, which ends with ``/v1``.
        key: API key, which is sent as a bearer token.
        timeout: Timeout of each request in seconds.

    Returns:
        The model.

    Raises:
        TransientModelError: If the server is still loading its model.
        ModelError: If there is no server at the address, or it does not speak OpenAI's protocol.
        ModelAccessError: If the server rejects the key.
        InvalidInputError: If the server does not have the model.
    """
    client = _Client(address.rstrip("/"), key, min(timeout, _PROBE_SECONDS))
    found = client.models(provider, model)
    names = {str(each.get("id")): each for each in found}
    name = next((name for name in names if _is_meant(provider, model, name, single=len(names) == 1)), None)
    if name is None:
        raise InvalidInputError(
            f"the server at {client.shown} does not serve {model!r}: {served_instead(model, names)}"
        )
    window, reasons, version = _details(provider, name, names[name], client)
    return ServedModel(name, window, reasons, version)


def grammar_field_of(provider: str, model: str, address: str, key: str, *, timeout: float) -> GrammarField | None:
    """Find the field in which a server accepts a grammar, from its answers to requests with a grammar for one word.

    Servers ignore fields that they do not know, and the field's name depends on the version, so only an answer tells.

    Args:
        provider: The provider, as for `probe`.
        model: Name of the model on the server.
        address: Base URL.
        key: API key.
        timeout: Timeout of each request in seconds.

    Returns:
        The field; None if the server has none, or does not answer in time.
    """
    client = _Client(address.rstrip("/"), key, min(timeout, _PROBE_SECONDS))
    for field in _GRAMMAR_FIELDS.get(provider, ()):
        messages = [{"role": "user", "content": "Hello!"}]
        body = {"model": model, "messages": messages, "max_tokens": 8, "temperature": 0}
        reply = client.json(f"{client.address}/chat/completions", body | grammar_in(field, f'start: "{_WORD}"'))
        try:
            if reply is not None and str(reply["choices"][0]["message"]["content"]).strip() == _WORD:
                return field
        except (LookupError, TypeError):
            continue
    return None


def grammar_in(field: GrammarField, grammar: str) -> dict[str, Any]:
    """Return the part of a request that contains a grammar."""
    if field == "grammar":  # of llama.cpp, whose own notation is another
        return {field: f"%llguidance {{}}\n{grammar}"}
    return {field: {"grammar": grammar} if field == "structured_outputs" else grammar}


def _is_meant(provider: str, model: str, name: str, *, single: bool) -> bool:
    if provider == "ollama":
        return name in {model, f"{model}:latest"}
    if provider == "llamacpp":
        return (single and model == "default") or model in {name, PurePath(name).name, PurePath(name).stem}
    return name == model


def _details(
    provider: str, name: str, entry: Mapping[str, Any], client: _Client
) -> tuple[int | None, bool | None, str]:
    root = client.address.removesuffix("/v1")
    if provider == "vllm":
        version = client.json(f"{root}/version") or {}
        return _number(entry.get("max_model_len")), None, str(version.get("version", ""))
    if provider == "completions":
        return _number(entry.get("max_model_len")), None, ""
    if provider == "llamacpp":
        props = client.json(f"{root}/props") or {}
        settings = props.get("default_generation_settings") or {}
        return _number(settings.get("n_ctx")), None, str(props.get("build_info", ""))
    shown = client.json(f"{root}/api/show", {"model": name}) or {}
    version = client.json(f"{root}/api/version") or {}
    lengths = [value for key, value in (shown.get("model_info") or {}).items() if key.endswith(".context_length")]
    chosen = re.search(r"num_ctx\s+(\d+)", str(shown.get("parameters") or ""))
    can = shown.get("capabilities")
    reasons = "thinking" in can if isinstance(can, list) else None
    window = int(chosen[1]) if chosen else _number(lengths[0]) if lengths else None
    return window, reasons, str(version.get("version", ""))


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


class _Client:
    """Reads JSON from a server.

    Attributes:
        address: Base URL.
        shown: The same without secrets, for messages.
    """

    def __init__(self, address: str, key: str, timeout: float) -> None:
        self.address, self.shown, self._key, self._timeout = address, without_secrets(address), key, timeout

    def models(self, provider: str, model: str) -> list[Mapping[str, Any]]:
        """Return the models that the server lists, or raise an error that says what is wrong."""
        url = f"{self.address}/models"
        try:
            text = self._read(url)
        except HTTPError as error:
            error.close()
            raise self._rejected(error.code, provider) from None
        except (OSError, ValueError, HTTPException) as error:  # the last if the server does not speak HTTP
            start = _START[provider].format(model=model)
            raise ModelError(
                f"no server answers at {self.shown} ({_reason(error)}); start it with {start}, or pass `base_url`",
                maybe_paid=False,
            ) from None
        try:
            found = json.loads(text)["data"]
            return [each for each in found if isinstance(each, Mapping)]
        except (ValueError, LookupError, TypeError):
            kind = "an HTML page" if text.lstrip().startswith("<") else "no list of models"
            hint = self._with_path() or "check `base_url` (it usually ends with /v1), and any proxy before the server"
            raise ModelError(f"the server at {self.shown} answers with {kind}; {hint}", maybe_paid=False) from None

    def _rejected(self, status: int, provider: str) -> ModelError:
        if status == 503:
            return TransientModelError(
                f"the server at {self.shown} is still loading its model (status 503); try again later", maybe_paid=False
            )
        if status in {401, 403}:
            problem = "rejects the key" if self._key else "requires a key"
            return ModelAccessError(
                f"the server at {self.shown} {problem} (status {status}); set {KEYS[provider]}, or pass `api_key_env`",
                maybe_paid=False,
            )
        hint = self._with_path() or "check `base_url`, and any proxy before the server"
        return ModelError(f"the server at {self.shown} answers with status {status}; {hint}", maybe_paid=False)

    def _with_path(self) -> str:
        """Return advice to add ``/v1`` to the address, if that is an address of the API."""
        if self.address.endswith("/v1") or not self.json(f"{self.address}/v1/models"):
            return ""
        return f"the path is missing: pass base_url='{self.shown}/v1'"

    def json(self, url: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the JSON object at a URL; None if there is none."""
        try:
            found = json.loads(self._read(url, body))
        except HTTPError as error:
            error.close()
            return None
        except (OSError, ValueError, HTTPException):
            return None
        return found if isinstance(found, dict) else None

    def _read(self, url: str, body: Mapping[str, Any] | None = None) -> str:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {self._key}"} if self._key else {})
        if not url.startswith(("http://", "https://")):
            raise ValueError("the address must begin with http:// or https://")
        data = None if body is None else json.dumps(body).encode()
        request = Request(url, data=data, headers=headers)  # noqa: S310 - the protocol is checked above
        with urlopen(request, timeout=self._timeout) as reply:  # noqa: S310
            return str(reply.read().decode(errors="replace"))


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error)
