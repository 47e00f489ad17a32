"""Language models with one interface. `load_model` loads a model from a spec."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ragkit._lazy import lazy_names
from ragkit._progress import progress
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.models._devices import AnyDtype
from ragkit.registry import create, find

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ragkit.models._adapters import AdapterSet as AdapterSet
    from ragkit.models._base import ModelBase as ModelBase
    from ragkit.models._budget import Budget as Budget
    from ragkit.models._middleware import LayeredModel as LayeredModel
    from ragkit.models._prices import Price as Price
    from ragkit.models._prices import Prices as Prices
    from ragkit.models._prompts import cut_at_stop as cut_at_stop
    from ragkit.models._prompts import prompt_text as prompt_text
    from ragkit.models._rate_limit import RateLimit as RateLimit
    from ragkit.models._rate_limit import Retry as Retry
    from ragkit.models._reasoning import ReasoningLevel
    from ragkit.models._replay import ReplayModel as ReplayModel
    from ragkit.models._response_cache import AnswerCache as AnswerCache
    from ragkit.models._sampling import Sampling as Sampling
    from ragkit.models._scripted import ScriptedModel as ScriptedModel
    from ragkit.protocols import LanguageModel


def default_model() -> str:
    """Return the spec of the model for commands and comparisons that do not specify one.

    Returns:
        The spec in the environment variable ``RAGKIT_MODEL`` if it is set, else ``"smollm2"`` if its package is
        installed, else ``"tiny"``.
    """
    from ragkit._packaged import SMOLLM2

    return os.environ.get("RAGKIT_MODEL") or ("smollm2" if SMOLLM2.parts() is not None else "tiny")


def load_model(  # noqa: PLR0913 - the settings of every kind of model, as keyword arguments
    model: str | LanguageModel | object,
    *,
    adapter: str | None = None,
    base_url: str | None = None,
    api_key_env: str | None = None,
    dtype: AnyDtype = "auto",
    prices: Prices | None = None,
    budget: Budget | None = None,
    cache: str | Path | AnswerCache | None = None,
    limit: RateLimit | None = None,
    retry: Retry | None = None,
    timeout: float = 120.0,
    grammar_field: str | None = None,
    concurrency: int | None = None,
    reasoning: ReasoningLevel | None = None,
    max_reasoning_tokens: int | None = None,
    batch: bool = False,
    poll_seconds: float = 30.0,
) -> LanguageModel:
    """Load a model from a spec or wrap a loaded model, with the requested middleware.

    A loaded model that needs no middleware is returned unchanged.

    Args:
        model: A spec, a `LanguageModel` or a LangChain chat model. Specs are ``"smollm2"`` (SmolLM2-135M-Instruct),
            ``"tiny"`` (ships with ragkit), ``"gguf:<file>"``, ``"hf:"`` followed by a hub id, a model folder or an
            output folder of `ragkit.finetune`, ``"minilm"`` or ``"st:<folder>"`` (an encoder that selects among
            choices), ``"replay:<recording>"``, ``"ollama:<model>"``, ``"vllm:<model>"`` and ``"llamacpp:<model>"`` (a
            server, by default on this machine), and ``"<provider>:<model>"`` in the form of LangChain's
            ``init_chat_model``.
        adapter: Folder of a PEFT adapter to apply to a local model.
        base_url: Address of an OpenAI-compatible server, for ``"openai:…"``, ``"ollama:…"``, ``"vllm:…"`` and
            ``"llamacpp:…"``.
        api_key_env: Name of the environment variable that holds the API key; by default that of the provider.
        dtype: Precision of a local model: ``"float32"``, ``"bfloat16"``, or ``"auto"``, which selects bfloat16 on GPUs
            with native bfloat16 arithmetic, and on CPUs with bfloat16 instructions if the weights are stored in 16
            bits. It is part of the fingerprint because it affects the answers.
        prices: Custom prices for API models.
        budget: Limits on calls, tokens, money and time.
        cache: File for cached responses, which avoids paying for the same call twice.
        limit: Maximum requests and tokens per minute.
        retry: How transient errors are retried; if None, API models make up to six attempts.
        timeout: Timeout of an API request in seconds.
        grammar_field: The field in which the server at ``base_url`` accepts a grammar: ``"guided_grammar"`` for
            ``ragkit serve`` and older versions of vLLM, ``"structured_outputs"`` for newer ones, ``"grammar"`` for
            llama.cpp if it was built with llguidance. If None, it is found for ``"vllm:…"`` and ``"llamacpp:…"``.
        concurrency: Maximum number of concurrent requests; if None, 8 for API models.
        reasoning: How much a reasoning model reasons before its answers: ``"none"``, ``"low"``, ``"medium"`` or
            ``"high"``; None for the model's default. For a local model, its chat template must have a switch.
        max_reasoning_tokens: Maximum number of reasoning tokens, in addition to the `max_tokens` of each call; if None,
            2,048, 8,192 or 24,576, depending on the level.
        batch: Whether the prompts of a call are submitted to the batch interface of OpenAI or Anthropic, which costs
            half as much and answers within a day. Without ``cache``, responses are cached in the folder for caches.
        poll_seconds: Seconds between two requests for the status of a batch.

    Returns:
        A language model.

    Raises:
        UnknownSpecError: If no model has this name; `ragkit.registry.specs` lists the names.
        InvalidInputError: If an argument does not apply to the spec.
        UnsupportedError: If ``batch`` is set, but ragkit does not know a batch interface of the provider.
    """
    loaded: LanguageModel
    if dtype not in get_args(AnyDtype):
        raise InvalidInputError(f"`dtype` must be one of {get_args(AnyDtype)}, got {dtype!r}")
    if isinstance(model, str) and model.startswith("hf:"):
        model, base_url = _at_vendor(model, base_url)
    if batch:
        _check_batch(model, limit, concurrency, poll_seconds)
    if not isinstance(model, str):
        given = (adapter, base_url, api_key_env, grammar_field, reasoning, max_reasoning_tokens)
        if any(value is not None for value in given) or dtype != "auto":
            raise InvalidInputError(
                "`adapter`, `base_url`, `api_key_env`, `grammar_field`, `dtype`, `reasoning` and "
                "`max_reasoning_tokens` go with a spec, got one with a loaded model"
            )
        loaded = _from_object(model, prices)
    else:
        with progress(f"loading {model[:60]}", None):
            thinking = {"reasoning": reasoning, "max_reasoning_tokens": max_reasoning_tokens}
            loaded = _from_spec(model, adapter, base_url, api_key_env, dtype, prices, timeout, grammar_field, thinking)
        if "base_url" in find("model", model).parameters():  # an API model
            from ragkit.models._rate_limit import Retry

            retry = retry if batch else retry or Retry()
    if batch:
        return _in_batches(loaded, budget, cache, retry, poll_seconds)
    if loaded.capabilities.batches and all(layer is None for layer in (budget, cache, limit, retry, concurrency)):
        return loaded
    from ragkit.models._middleware import LayeredModel
    from ragkit.models._response_cache import AnswerCache

    return LayeredModel(
        loaded,
        budget=budget,
        cache=AnswerCache(cache) if isinstance(cache, str | Path) else cache,
        limit=limit,
        retry=retry,
        concurrency=concurrency,
    )


def _check_batch(model: object, limit: RateLimit | None, concurrency: int | None, poll_seconds: float) -> None:
    """Raise an error for arguments that do not go with ``batch``, before anything is loaded."""
    if not isinstance(model, str):
        raise InvalidInputError("`batch` goes with a spec such as 'openai:<model>', got it with a loaded model")
    if model.partition(":")[0] not in {"openai", "anthropic"}:
        raise UnsupportedError(
            f"`batch` needs a model of OpenAI or Anthropic, such as 'openai:<model>', got {model[:200]!r}; omit it"
        )
    if limit is not None or concurrency is not None:
        raise InvalidInputError("`batch` sends a single request for many prompts; omit `limit` and `concurrency`")
    if not 0 <= poll_seconds < float("inf"):
        raise InvalidInputError(f"`poll_seconds` must be a number of seconds of at least 0, got {poll_seconds!r}")


def _in_batches(
    loaded: LanguageModel,
    budget: Budget | None,
    cache: str | Path | AnswerCache | None,
    retry: Retry | None,
    poll_seconds: float,
) -> LanguageModel:
    """Put a model into batch mode, with a response cache and the journal of batches next to it."""
    from ragkit._files import cache_folder
    from ragkit.models._batch_model import batched
    from ragkit.models._middleware import LayeredModel
    from ragkit.models._response_cache import AnswerCache

    default = cache_folder() / "batches" / "answers.sqlite"
    path = cache.path if isinstance(cache, AnswerCache) else Path(default if cache is None else cache)
    model = batched(loaded, path.absolute(), poll_seconds=poll_seconds, retry=retry)
    kept = cache if isinstance(cache, AnswerCache) else AnswerCache(path)
    return LayeredModel(model, budget=budget, cache=kept, batch=True)


def _at_vendor(spec: str, base_url: str | None) -> tuple[str, str | None]:
    """Replace the folder of a remote fine-tuning run with the vendor's model and address; keep other specs."""
    from ragkit.finetuning._manifest import MANIFEST, Manifest

    folder = Path(spec.removeprefix("hf:"))
    if not os.path.isfile(folder / MANIFEST):  # noqa: PTH113 - unlike Path.is_file, accepts names of any length
        return spec, base_url
    manifest = Manifest.read(folder)
    if manifest.remote is None:
        return spec, base_url
    if "base_url" not in find("model", manifest.remote).parameters():
        raise InvalidInputError(f"{folder} stands for {manifest.remote!r}, which is not an API model; train again")
    if manifest.address not in {None, base_url}:
        raise InvalidInputError(
            f"{folder} stands for a model at {manifest.address}; pass `base_url` to send prompts and your API key there"
        )
    return manifest.remote, base_url


def _from_spec(
    spec: str,
    adapter: str | None,
    base_url: str | None,
    api_key_env: str | None,
    dtype: AnyDtype,
    prices: Prices | None,
    timeout: float,
    grammar_field: str | None,
    thinking: Mapping[str, object],
) -> LanguageModel:
    accepted = find("model", spec).parameters()
    at_provider = {"base_url": base_url, "api_key_env": api_key_env, "grammar_field": grammar_field}
    given = {"adapter": adapter, "dtype": None if dtype == "auto" else dtype, **at_provider}
    if any(value is not None for value in thinking.values()):
        from ragkit.models._reasoning import check_reasoning

        check_reasoning(*thinking.values())
        if "reasoning" not in accepted:
            raise InvalidInputError(f"`reasoning` and `max_reasoning_tokens` need a language model, got {spec!r}")
    for name, value in given.items():
        if value is not None and name not in accepted:
            kind = "an API model such as 'openai:<model>'" if name in at_provider else "a local model"
            raise InvalidInputError(f"`{name}` goes with {kind}, got it with {spec!r}")
    settings = {"adapter": adapter, "dtype": dtype, "prices": prices, "timeout": timeout, **at_provider, **thinking}
    loaded: LanguageModel = create("model", spec, settings=settings)
    return loaded


def _from_object(model: object, prices: Prices | None) -> LanguageModel:
    from ragkit.protocols import LanguageModel

    if isinstance(model, LanguageModel):
        return model
    if hasattr(model, "invoke") and hasattr(model, "bind"):
        from ragkit.models._api import LangChainModel

        return LangChainModel(model, prices=prices)
    raise InvalidInputError(
        "`model` must be a spec such as 'smollm2', a LanguageModel or a LangChain chat model; "
        f"got {type(model).__name__}"
    )


_HOME_OF = {
    "AdapterSet": "_adapters",
    "AnswerCache": "_response_cache",
    "Budget": "_budget",
    "LayeredModel": "_middleware",
    "ModelBase": "_base",
    "Price": "_prices",
    "Prices": "_prices",
    "RateLimit": "_rate_limit",
    "ReplayModel": "_replay",
    "Retry": "_rate_limit",
    "Sampling": "_sampling",
    "ScriptedModel": "_scripted",
    "cut_at_stop": "_prompts",
    "prompt_text": "_prompts",
}
__all__ = ["default_model", "load_model", *_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
