"""OpenTelemetry spans for model calls and comparisons, named by the semantic conventions for generative AI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ragkit._extras import require
from ragkit._observation import Kind, ObservedCall, Unreported, observing
from ragkit.records import Completion

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from ragkit.protocols import LanguageModel

__all__ = ["opentelemetry_spans"]

# The names of the conventions for providers that ragkit's specs name otherwise.
_PROVIDERS = {
    "azure_openai": "azure.ai.openai", "bedrock": "aws.bedrock", "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai", "mistralai": "mistral_ai", "xai": "x_ai",
}  # fmt: skip
_REQUEST = {"stop": "stop_sequences"}  # settings of a call that the conventions name otherwise
_SETTINGS = ("max_tokens", "temperature", "seed", "stop", "top_p", "presence_penalty", "frequency_penalty")


@contextmanager
def opentelemetry_spans(tracer_provider: TracerProvider | None = None) -> Iterator[None]:
    """Emit a span for each prompt that a model receives within a block of code, and for comparisons and strategies.

    The spans of model calls have the model, the settings, the finish reason, the token usage and the type of an error,
    but neither prompts nor answers. Cached responses have no span, because the model is not called, and each retry has
    one of its own. Calls of ``score`` and calls in worker processes have no spans.

    Args:
        tracer_provider: The provider of the OpenTelemetry SDK that exports the spans; the global one if None.

    Yields:
        Nothing.

    Raises:
        MissingExtraError: If ``opentelemetry-api`` is not installed.
    """
    require("opentelemetry")
    from opentelemetry import trace

    from ragkit import __version__

    tracer = trace.get_tracer("ragkit", __version__, tracer_provider)

    def observe(kind: Kind, component: Any, inputs: Sequence[Any], settings: Mapping[str, Any]) -> ObservedCall:
        if kind == "model" and not _is_wrapper(component):
            return _Spans([_model_span(tracer, component, settings) for _ in inputs])
        if kind in {"comparison", "strategy"}:
            return _Spans([tracer.start_span(f"{kind} {component}", attributes=dict(settings))])
        return Unreported()

    with observing(observe):
        yield


class _Spans:
    """The spans of a call in progress, one per input of a model."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans

    def inside(self) -> AbstractContextManager[Any]:
        """Make a single span the parent of the spans inside it."""
        from opentelemetry import trace

        if len(self._spans) > 1:
            return nullcontext()
        inside: AbstractContextManager[Any] = trace.use_span(
            self._spans[0], record_exception=False, set_status_on_exception=False
        )
        return inside

    def piece(self, text: str) -> None:
        """Report nothing: the usage is known at the end."""

    def ended(self, results: Sequence[Any]) -> None:
        """End the spans, with the usage of completions."""
        for index, span in enumerate(self._spans):
            result = results[index] if index < len(results) else None
            if isinstance(result, Completion):
                span.set_attributes(_response(result))
            elif isinstance(result, BaseException):
                _fail(span, result)
            span.end()

    def failed(self, error: BaseException) -> None:
        """End all spans; a stream that the caller does not read to its end is not an error."""
        for span in self._spans:
            if not isinstance(error, GeneratorExit):
                _fail(span, error)
            span.end()


def _is_wrapper(model: object) -> bool:
    """Return whether the calls of a model are those of another one, which is observed itself."""
    from ragkit.models import ModelBase
    from ragkit.models._wrapper import ModelWrapper

    return isinstance(model, ModelWrapper) and isinstance(model.model, ModelBase)


def _model_span(tracer: Tracer, model: LanguageModel, settings: Mapping[str, Any]) -> Span:
    from opentelemetry.trace import SpanKind

    from ragkit.models._api import LangChainModel

    remote = isinstance(model, LangChainModel)
    prefix, _, rest = model.name.partition(":") if remote else ("ragkit", "", model.name)
    operation = "chat" if model.capabilities.chat else "text_completion"
    given = {name: settings[name] for name in _SETTINGS if settings.get(name) not in {None, ()}}
    attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": _PROVIDERS.get(prefix, prefix),
        "gen_ai.request.model": rest or prefix,
        **{f"gen_ai.request.{_REQUEST.get(name, name)}": value for name, value in given.items()},
    }
    kind = SpanKind.CLIENT if remote else SpanKind.INTERNAL
    return tracer.start_span(f"{operation} {attributes['gen_ai.request.model']}", kind=kind, attributes=attributes)


def _response(completion: Completion) -> dict[str, Any]:
    usage = completion.usage
    return {
        "gen_ai.response.finish_reasons": [completion.finish_reason],
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_written_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }


def _fail(span: Span, error: BaseException) -> None:
    """Mark a span as failed. Messages of errors may contain prompts, so only the type is recorded."""
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR))
