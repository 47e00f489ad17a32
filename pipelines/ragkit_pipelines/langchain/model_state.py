"""Pickling, copying and serialising a LangChain chat model whose model can be loaded by its spec."""

from __future__ import annotations

from typing import Any, Self

from langchain_core.language_models import BaseChatModel
from langchain_core.load.serializable import SerializedConstructor, SerializedNotImplemented
from typing_extensions import override

from ragkit._text import shown
from ragkit.errors import InvalidInputError
from ragkit.models import load_model
from ragkit.models._middleware import LayeredModel
from ragkit.protocols import LanguageModel
from ragkit.registry import is_known

_SHARED = (
    "language_model",
    "cache",
    "callbacks",
    "rate_limiter",
    "custom_get_token_ids",
)  # live objects, which copies share


class ModelReference:
    """A model in the state of a pickled object: other processes load it by its spec."""

    def __init__(self, model: LanguageModel) -> None:
        """Refer to a model."""
        self.model = model

    def __reduce__(self) -> tuple[Any, ...]:
        spec = spec_of(self.model)
        if spec is not None:
            return _loaded, (spec, _address(self.model), self.model.fingerprint)
        if type(self.model).__module__.startswith("ragkit."):
            raise InvalidInputError(
                f"the model {self.model.name!r} cannot be pickled, because no spec loads it; pass a spec such as "
                '"smollm2" as `model`, or create the chat model in the other process'
            )
        return _wrapped, (self.model,)


def spec_of(model: LanguageModel) -> str | None:
    """Return the spec that loads a model; None if there is none."""
    return model.name if is_known("model", model.name) else None


def _address(model: LanguageModel) -> str | None:
    """Return the address of an API model's server, without secrets; None for the provider's server."""
    inner = model.model if isinstance(model, LayeredModel) else model
    address = getattr(inner, "address", None)
    return address if isinstance(address, str) else None


def _loaded(spec: str, base_url: str | None, fingerprint: str) -> ModelReference:
    model = load_model(spec, base_url=base_url)
    if model.fingerprint != fingerprint:
        raise InvalidInputError(
            f"the model {shown(spec)} has the fingerprint {model.fingerprint} here, and had {fingerprint} where the "
            "chat model was pickled: it was loaded with other arguments, or from other files; create the chat model "
            "in this process"
        )
    return ModelReference(model)


def _wrapped(model: LanguageModel) -> ModelReference:
    return ModelReference(model)


class SerialisableChatModel(BaseChatModel):
    """A chat model that is pickled and serialised with the spec of its model, without secrets and live objects.

    Copies share the model. Callbacks, caches and rate limiters are objects of one process and are not pickled; neither
    is the middleware of the model, such as its budget.
    """

    model: str
    language_model: Any

    @override
    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        fields = {**state["__dict__"], **dict.fromkeys(_SHARED), "language_model": ModelReference(self.language_model)}
        fields.pop("_serialized", None)  # computed again
        return {**state, "__dict__": fields}

    @override
    def __setstate__(self, state: dict[Any, Any]) -> None:
        fields = state["__dict__"]
        super().__setstate__({**state, "__dict__": {**fields, "language_model": fields["language_model"].model}})

    @override
    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        shared = {} if memo is None else memo
        for name in _SHARED:
            shared[id(getattr(self, name))] = getattr(self, name)
        return super().__deepcopy__(shared)

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    @classmethod
    @override
    def get_lc_namespace(cls) -> list[str]:
        return ["ragkit", "langchain"]

    @override
    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Return the settings and the spec of the model; a model without a spec is not serialisable."""
        spec = spec_of(self.language_model)
        if spec is None or _address(self.language_model) is not None:
            return self.to_json_not_implemented()
        fields = {name: getattr(self, name) for name, field in type(self).model_fields.items() if not field.exclude}
        given = {name: value for name, value in fields.items() if value != type(self).model_fields[name].default}
        return {"lc": 1, "type": "constructor", "id": self.lc_id(), "kwargs": {**given, "model": spec}}

    @override
    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """Return the settings with the fingerprint of the model, for the key of LangChain's cache."""
        params = {**self._get_invocation_params(stop=stop, **kwargs), **kwargs}
        return str(sorted(params.items()))
