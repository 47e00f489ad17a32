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
            return _loaded, (spec, _at_provider(self.model), self.model.fingerprint)
        if type(self.model).__module__.startswith("ragkit."):
            raise InvalidInputError(
                f"the model {self.model.name!r} cannot be pickled, because no spec loads it; pass a spec such as "
                '"smollm2" as `model`, or create the chat model in the other process'
            )
        return _wrapped, (self.model,)


def spec_of(model: LanguageModel) -> str | None:
    """Return the spec that loads a model; None if there is none."""
    return model.name if is_known("model", model.name) else None


def unlayered(model: Any) -> Any:
    """Return a model without its middleware."""
    while isinstance(model, LayeredModel):
        model = model.model
    return model


def _at_provider(model: LanguageModel) -> dict[str, Any]:
    """Return the server and the name of the key of an API model, as far as they are not those of its provider."""
    inner = unlayered(model)
    given = {"base_url": getattr(inner, "address", None), "api_key_env": getattr(inner, "key_variable", None)}
    return {name: value for name, value in given.items() if isinstance(value, str)}


def checked_model(model: LanguageModel, fingerprint: str) -> LanguageModel:
    """Return a model that was loaded again, or raise `InvalidInputError` if its answers may differ."""
    if model.fingerprint != fingerprint:
        raise InvalidInputError(
            f"the model {shown(model.name)} has the fingerprint {model.fingerprint} here, and had {fingerprint} where "
            "the chat model was saved: it was loaded with other arguments, or from other files; create the chat model "
            "in this process"
        )
    return model


def _loaded(spec: str, at_provider: dict[str, Any], fingerprint: str) -> ModelReference:
    return ModelReference(checked_model(load_model(spec, **at_provider), fingerprint))


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
        fields = {
            name: value if name not in _SHARED or isinstance(value, bool) else None
            for name, value in state["__dict__"].items()
            if name != "_serialized"  # computed again
        }
        return {**state, "__dict__": {**fields, "language_model": ModelReference(self.language_model)}}

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
        """Return the settings, and the spec and fingerprint of the model; other models are not serialisable."""
        spec = spec_of(self.language_model)
        if spec is None or _at_provider(self.language_model):
            return self.to_json_not_implemented()
        fields = {name: getattr(self, name) for name, field in type(self).model_fields.items() if not field.exclude}
        given = {name: value for name, value in fields.items() if value != type(self).model_fields[name].default}
        model = {"model": spec, "fingerprint": self.language_model.fingerprint}
        return {"lc": 1, "type": "constructor", "id": self.lc_id(), "kwargs": {**given, **model}}

    @override
    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """Return the settings with the fingerprint of the model, for the key of LangChain's cache."""
        params = {**self._get_invocation_params(stop=stop, **kwargs), **kwargs}
        return str(sorted(params.items()))
