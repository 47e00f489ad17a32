"""Models behind one interface. `load_model` turns a name into one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.extras import require

if TYPE_CHECKING:
    from ragkit.models.pricing import Prices
    from ragkit.protocols import LanguageModel

PROVIDERS = ("anthropic", "azure_openai", "bedrock", "cohere", "deepseek", "google_genai", "google_vertexai", "groq",
             "huggingface", "mistralai", "ollama", "openai", "openrouter", "perplexity", "together", "xai")  # fmt: skip
KNOWN = ("tiny", "hf:<hub id or folder>", "replay:<file>", *(f"{provider}:<model>" for provider in PROVIDERS))


def load_model(
    model: str | LanguageModel | object,
    *,
    adapter: str | None = None,
    base_url: str | None = None,
    prices: Prices | None = None,
) -> LanguageModel:
    """Return the model that a spec stands for; a model is returned as it is.

    Args:
        model: ``"tiny"`` (ships with ragkit), ``"hf:"`` and a hub id, a model folder or a folder that
            `ragkit.finetune` wrote, ``"replay:"`` and a recording, ``"<provider>:<model>"`` as LangChain's
            ``init_chat_model`` reads it, or a LangChain chat model.
        adapter: Folder of a PEFT adapter to put on a local model.
        base_url: Address of an OpenAI-compatible server, for ``"openai:…"``.
        prices: Prices of your own, for API models.

    Returns:
        A language model.

    Raises:
        UnknownSpecError: If the spec stands for nothing known.
        InvalidInputError: If an argument does not go with the spec.
    """
    if not isinstance(model, str):
        if adapter is not None or base_url is not None:
            raise InvalidInputError("`adapter` and `base_url` go with a spec, got one with a loaded model")
        return _from_object(model)
    kind, _, rest = model.partition(":")
    if adapter is not None and kind not in {"tiny", "hf"}:
        raise InvalidInputError(f"`adapter` goes with a local model, got it with {model!r}")
    if base_url is not None and kind not in PROVIDERS:
        raise InvalidInputError(f"`base_url` goes with an API model such as 'openai:<model>', got it with {model!r}")
    if model == "tiny" or (kind == "hf" and rest):
        require("torch", "transformers")
        from ragkit.models.loading import load_local

        return load_local(model, adapter=adapter)
    if kind == "replay" and rest:
        from ragkit.models.replay import ReplayModel

        return ReplayModel(rest)
    if kind in PROVIDERS and rest:
        from ragkit.models.langchain_chat import LangChainModel

        return LangChainModel.from_spec(model, base_url=base_url, prices=prices)
    raise UnknownSpecError("model", model, KNOWN)


def _from_object(model: object) -> LanguageModel:
    from ragkit.protocols import LanguageModel

    if isinstance(model, LanguageModel):
        return model
    if hasattr(model, "invoke") and hasattr(model, "bind"):
        from ragkit.models.langchain_chat import LangChainModel

        return LangChainModel(model)
    raise InvalidInputError(
        f"`model` must be a spec such as 'tiny', a LanguageModel or a LangChain chat model; got {type(model).__name__}"
    )
