"""Models behind one interface. `load_model` turns a name into one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ragkit.errors import InvalidInputError
from ragkit.lazy import lazy_names
from ragkit.models.devices import AnyDtype
from ragkit.progress import progress
from ragkit.registry import create, find

if TYPE_CHECKING:
    from ragkit.models.adapters import AdapterSet as AdapterSet
    from ragkit.models.base import ModelBase as ModelBase
    from ragkit.models.budget import Budget as Budget
    from ragkit.models.middleware import LayeredModel as LayeredModel
    from ragkit.models.pricing import Price as Price
    from ragkit.models.pricing import Prices as Prices
    from ragkit.models.prompts import cut_at_stop as cut_at_stop
    from ragkit.models.prompts import prompt_text as prompt_text
    from ragkit.models.rate_limit import RateLimit as RateLimit
    from ragkit.models.rate_limit import Retry as Retry
    from ragkit.models.replay import ReplayModel as ReplayModel
    from ragkit.models.response_cache import AnswerCache as AnswerCache
    from ragkit.models.sampling import Sampling as Sampling
    from ragkit.models.scripted import ScriptedModel as ScriptedModel
    from ragkit.protocols import LanguageModel


def default_model() -> str:
    """Choose the model for commands and comparisons that name none.

    Returns:
        The spec in the environment variable ``RAGKIT_MODEL`` if it is set, else ``"smollm2"`` if its package is
        installed, else ``"tiny"``.
    """
    from ragkit.smollm2 import SMOLLM2

    return os.environ.get("RAGKIT_MODEL") or ("smollm2" if SMOLLM2.parts() is not None else "tiny")


def load_model(  # noqa: PLR0913 - the settings of every kind of model, each by name
    model: str | LanguageModel | object,
    *,
    adapter: str | None = None,
    base_url: str | None = None,
    dtype: AnyDtype = "auto",
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
        model: ``"smollm2"`` (SmolLM2-135M-Instruct), ``"tiny"`` (ships with ragkit), ``"gguf:"`` and a file,
            ``"hf:"`` and a hub id, a model folder or a folder that `ragkit.finetune` wrote, ``"minilm"`` or ``"st:"``
            and a folder for an encoder that chooses, ``"replay:"`` and a recording, ``"<provider>:<model>"`` as
            LangChain's ``init_chat_model`` reads it, or a LangChain chat model.
        adapter: Folder of a PEFT adapter to put on a local model.
        base_url: Address of an OpenAI-compatible server, for ``"openai:…"``.
        dtype: Precision of a local model: ``"float32"``, ``"bfloat16"``, or ``"auto"`` for bfloat16 on GPUs that
            compute in it, and on processors that multiply it if the weights are stored in 16 bits. It is part of the
            fingerprint, since it changes the answers.
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
        UnknownSpecError: If no model has this name; `ragkit.registry.specs` lists them.
        InvalidInputError: If an argument does not go with the spec.
    """
    loaded: LanguageModel
    if dtype not in get_args(AnyDtype):
        raise InvalidInputError(f"`dtype` must be one of {get_args(AnyDtype)}, got {dtype!r}")
    if isinstance(model, str) and model.startswith("hf:"):
        model, base_url = _at_vendor(model, base_url)
    if not isinstance(model, str):
        if adapter is not None or base_url is not None or dtype != "auto":
            raise InvalidInputError("`adapter`, `base_url` and `dtype` go with a spec, got one with a loaded model")
        loaded = _from_object(model, prices)
    else:
        with progress(f"loading {model[:60]}", None):
            loaded = _from_spec(model, adapter, base_url, dtype, prices, timeout)
        if "base_url" in find("model", model).parameters():  # an API model
            from ragkit.models.rate_limit import Retry

            retry = retry or Retry()
    if loaded.capabilities.batches and all(layer is None for layer in (budget, cache, limit, retry, concurrency)):
        return loaded
    from ragkit.models.middleware import LayeredModel
    from ragkit.models.response_cache import AnswerCache

    return LayeredModel(
        loaded,
        budget=budget,
        cache=AnswerCache(cache) if isinstance(cache, str | Path) else cache,
        limit=limit,
        retry=retry,
        concurrency=concurrency,
    )


def _at_vendor(spec: str, base_url: str | None) -> tuple[str, str | None]:
    """Replace the folder of a run at a vendor by the vendor's model and address; other specs stay as they are."""
    from ragkit.finetuning.manifest import MANIFEST, Manifest

    folder = Path(spec.removeprefix("hf:"))
    if not os.path.isfile(folder / MANIFEST):  # noqa: PTH113 - no name is too long for it
        return spec, base_url
    manifest = Manifest.read(folder)
    return (spec, base_url) if manifest.remote is None else (manifest.remote, base_url or manifest.address)


def _from_spec(
    spec: str, adapter: str | None, base_url: str | None, dtype: AnyDtype, prices: Prices | None, timeout: float
) -> LanguageModel:
    accepted = find("model", spec).parameters()
    if adapter is not None and "adapter" not in accepted:
        raise InvalidInputError(f"`adapter` goes with a local model, got it with {spec!r}")
    if dtype != "auto" and "dtype" not in accepted:
        raise InvalidInputError(f"`dtype` goes with a local model, got it with {spec!r}")
    if base_url is not None and "base_url" not in accepted:
        raise InvalidInputError(f"`base_url` goes with an API model such as 'openai:<model>', got it with {spec!r}")
    settings = {"adapter": adapter, "base_url": base_url, "dtype": dtype, "prices": prices, "timeout": timeout}
    loaded: LanguageModel = create("model", spec, settings=settings)
    return loaded


def _from_object(model: object, prices: Prices | None) -> LanguageModel:
    from ragkit.protocols import LanguageModel

    if isinstance(model, LanguageModel):
        return model
    if hasattr(model, "invoke") and hasattr(model, "bind"):
        from ragkit.models.api import LangChainModel

        return LangChainModel(model, prices=prices)
    raise InvalidInputError(
        "`model` must be a spec such as 'smollm2', a LanguageModel or a LangChain chat model; "
        f"got {type(model).__name__}"
    )


_HOME_OF = {
    "AdapterSet": "adapters",
    "AnswerCache": "response_cache",
    "Budget": "budget",
    "LayeredModel": "middleware",
    "ModelBase": "base",
    "Price": "pricing",
    "Prices": "pricing",
    "RateLimit": "rate_limit",
    "ReplayModel": "replay",
    "Retry": "rate_limit",
    "Sampling": "sampling",
    "ScriptedModel": "scripted",
    "cut_at_stop": "prompts",
    "prompt_text": "prompts",
}
__all__ = ["default_model", "load_model", *_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
