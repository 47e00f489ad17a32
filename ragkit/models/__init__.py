"""Models behind one interface. `load_model` turns a name into one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.extras import require
from ragkit.progress import progress

if TYPE_CHECKING:
    from ragkit.models.answers import AnswerCache
    from ragkit.models.budget import Budget
    from ragkit.models.limits import RateLimit, Retry
    from ragkit.models.pricing import Prices
    from ragkit.protocols import LanguageModel

PROVIDERS = ("anthropic", "azure_openai", "bedrock", "cohere", "deepseek", "google_genai", "google_vertexai", "groq",
             "huggingface", "mistralai", "ollama", "openai", "openrouter", "perplexity", "together", "xai")  # fmt: skip
KNOWN = (
    "tiny",
    "hf:<hub id or folder>",
    "minilm",
    "st:<hub id or folder>",
    "onnx:minilm",
    "onnx:st:<hub id or folder>",
    "replay:<file>",
    *(f"{provider}:<model>" for provider in PROVIDERS),
)


def load_model(
    model: str | LanguageModel | object,
    *,
    adapter: str | None = None,
    base_url: str | None = None,
    prices: Prices | None = None,
    budget: Budget | None = None,
    cache: str | Path | AnswerCache | None = None,
    limit: RateLimit | None = None,
    retry: Retry | None = None,
    timeout: float = 120.0,
    concurrency: int | None = None,
) -> LanguageModel:
    """Return the model that a spec stands for; a model is returned as it is, behind the layers that are asked for.

    Args:
        model: ``"tiny"`` (ships with ragkit), ``"hf:"`` and a hub id, a model folder or a folder that
            `ragkit.finetune` wrote, ``"minilm"`` or ``"st:"`` and a folder for an encoder that chooses, ``"replay:"``
            and a recording, ``"<provider>:<model>"`` as LangChain's ``init_chat_model`` reads it, or a LangChain chat
            model.
        adapter: Folder of a PEFT adapter to put on a local model.
        base_url: Address of an OpenAI-compatible server, for ``"openai:…"``.
        prices: Prices of your own, for API models.
        budget: What may be spent.
        cache: A file for answers, so that none is paid for twice.
        limit: Requests and tokens a minute.
        retry: How often to try again; API models try six times if None.
        timeout: Seconds after which a request to an API is given up.
        concurrency: Requests under way at once; 8 for API models if None.

    Returns:
        A language model.

    Raises:
        UnknownSpecError: If the spec stands for nothing known.
        InvalidInputError: If an argument does not go with the spec.
    """
    loaded: LanguageModel
    if isinstance(model, str) and model.startswith("hf:"):
        from ragkit.finetuning.remote import remote_of

        if (remote := remote_of(model)) is not None:
            model, base_url = remote[0], base_url or remote[1]
    if not isinstance(model, str):
        if adapter is not None or base_url is not None:
            raise InvalidInputError("`adapter` and `base_url` go with a spec, got one with a loaded model")
        loaded = _from_object(model, prices)
    else:
        with progress(f"loading {model[:60]}", None):
            loaded = _from_spec(model, adapter, base_url, prices, timeout)
        if model.partition(":")[0] in PROVIDERS:
            from ragkit.models.limits import Retry

            retry = retry or Retry()
    if loaded.capabilities.batches and all(layer is None for layer in (budget, cache, limit, retry, concurrency)):
        return loaded
    from ragkit.models.answers import AnswerCache
    from ragkit.models.layers import LayeredModel

    return LayeredModel(
        loaded,
        budget=budget,
        cache=AnswerCache(cache) if isinstance(cache, str | Path) else cache,
        limit=limit,
        retry=retry,
        concurrency=concurrency,
    )


def _from_spec(
    spec: str, adapter: str | None, base_url: str | None, prices: Prices | None, timeout: float
) -> LanguageModel:
    kind, _, rest = spec.partition(":")
    if adapter is not None and kind not in {"tiny", "hf"}:
        raise InvalidInputError(f"`adapter` goes with a local model, got it with {spec!r}")
    if base_url is not None and kind not in PROVIDERS:
        raise InvalidInputError(f"`base_url` goes with an API model such as 'openai:<model>', got it with {spec!r}")
    if spec == "tiny" or (kind == "hf" and rest):
        require("torch", "transformers")
        from ragkit.models.loading import load_local

        return load_local(spec, adapter=adapter)
    if spec == "minilm" or (kind in {"st", "onnx"} and rest):
        from ragkit.embedders import load_embedder
        from ragkit.models.encoder import EncoderModel

        return EncoderModel(load_embedder(spec))
    if kind == "replay" and rest:
        from ragkit.models.replay import ReplayModel

        return ReplayModel(rest)
    if kind in PROVIDERS and rest:
        from ragkit.models.langchain_chat import LangChainModel

        return LangChainModel.from_spec(spec, base_url=base_url, prices=prices, timeout=timeout)
    raise UnknownSpecError("model", spec, KNOWN)


def _from_object(model: object, prices: Prices | None) -> LanguageModel:
    from ragkit.protocols import LanguageModel

    if isinstance(model, LanguageModel):
        return model
    if hasattr(model, "invoke") and hasattr(model, "bind"):
        from ragkit.models.langchain_chat import LangChainModel

        return LangChainModel(model, prices=prices)
    raise InvalidInputError(
        f"`model` must be a spec such as 'tiny', a LanguageModel or a LangChain chat model; got {type(model).__name__}"
    )
