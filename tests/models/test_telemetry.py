"""OpenTelemetry spans of model calls and comparisons, read from the in-memory exporter of the SDK."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from ragkit import Example, FewShot, JaccardSelector, ScriptedModel, Task, compare
from ragkit.errors import MissingExtraError, ModelError, TransientModelError
from ragkit.models import AnswerCache, LayeredModel, load_model
from ragkit.models._rate_limit import Retry
from ragkit.telemetry import opentelemetry_spans

POOL = [Example("dim it", "fade"), Example("open it", "vent")]


@pytest.fixture
def spans():
    """A function that returns the finished spans, whose calls are those in the block of the test."""
    reason = "opentelemetry-sdk is not installed"
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason=reason)
    export = pytest.importorskip("opentelemetry.sdk.trace.export", reason=reason)
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason=reason)
    exporter, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    with opentelemetry_spans(provider):
        yield exporter.get_finished_spans
    provider.shutdown()


def test_a_call_has_the_attributes_of_the_conventions(spans):
    model = ScriptedModel(lambda _: " fade now")
    answer = model.generate("dim the lamp", max_tokens=7, temperature=0.5, seed=3, stop=["."], top_p=0.9)
    (span,) = spans()
    assert (span.name, span.kind.name) == ("text_completion scripted", "INTERNAL")
    assert span.instrumentation_scope.name == "ragkit"
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "ragkit",
        "gen_ai.request.model": "scripted",
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": (".",),
        "gen_ai.request.top_p": 0.9,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
    }
    assert answer.usage.prompt_tokens == 3
    assert "lamp" not in str(span.to_json())
    assert "fade" not in str(span.to_json())


def test_each_prompt_of_a_batch_and_each_stream_has_a_span(spans):
    model = ScriptedModel(lambda prompt: "x" * len(prompt))  # one token per four characters
    model.generate(["a" * 4, "b" * 8])
    assert list(model.stream("c" * 12)) == ["x" * 12]
    asyncio.run(model.agenerate("d" * 16))
    usage = [
        (span.attributes["gen_ai.usage.input_tokens"], span.attributes["gen_ai.usage.output_tokens"])
        for span in spans()
    ]
    assert usage == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_stream_that_is_closed_is_not_an_error(spans):
    pieces = ScriptedModel(["one answer"]).stream("a")
    next(pieces)
    pieces.close()
    (span,) = spans()
    assert span.status.status_code.name == "UNSET"


def test_an_error_has_its_type_and_not_its_message(spans):
    def fail(prompt):
        raise ModelError("no answer to the secret prompt")

    with pytest.raises(ModelError):
        ScriptedModel(fail).generate("secret prompt")
    (span,) = spans()
    assert (span.status.status_code.name, span.attributes["error.type"]) == ("ERROR", "ModelError")
    assert "secret" not in span.to_json()


def test_cached_responses_have_no_span_and_retries_have_one_each(spans, tmp_path):
    calls = []

    def answer(prompt):
        calls.append(prompt)
        if len(calls) == 1:
            raise TransientModelError("busy")
        return "fine"

    with closing(AnswerCache(tmp_path / "answers.sqlite")) as cache:
        model = LayeredModel(ScriptedModel(answer), cache=cache, retry=Retry(first_wait=0))
        assert model.generate("a").text == model.generate("a").text == "fine"
    assert [span.attributes.get("error.type") for span in spans()] == ["TransientModelError", None]


def test_calls_of_a_comparison_are_below_their_strategy(spans):
    test = [Example(f"dim number {n}", "fade") for n in range(3)]
    compare(Task("", POOL, test, name="devices"), ["majority", "zero-shot"], model=ScriptedModel(lambda _: " fade"),
            embedder="hash:8", seeds=[4])  # fmt: skip
    names = {span.context.span_id: span.name for span in spans()}
    parents = [(span.name, names.get(span.parent.span_id) if span.parent else None) for span in spans()]
    assert parents == [
        ("strategy majority", "comparison devices"),
        *[("text_completion scripted", "strategy zero-shot")] * 3,
        ("strategy zero-shot", "comparison devices"),
        ("comparison devices", None),
    ]
    assert dict(spans()[-2].attributes) == {"ragkit.pool_size": 2, "ragkit.seed": 4}


def test_calls_of_other_components_are_not_reported_but_calls_inside_them_are(spans):
    FewShot(ScriptedModel(lambda _: "fade"), JaccardSelector(POOL), k=1).invoke("dim the lamp")
    assert [span.name for span in spans()] == ["text_completion scripted"]


def test_a_model_behind_an_api_is_named_by_its_provider(spans):
    fake = pytest.importorskip("langchain_core.language_models.fake_chat_models")
    model = load_model(fake.GenericFakeChatModel(messages=iter(["hello"]), name="x"))
    model.generate("hi")
    (span,) = spans()
    assert (span.name.split()[0], span.kind.name) == ("chat", "CLIENT")
    provider, _, name = model.name.partition(":")
    assert (span.attributes["gen_ai.provider.name"], span.attributes["gen_ai.request.model"]) == (provider, name)


def test_nothing_is_reported_after_the_block(spans):
    with opentelemetry_spans():  # the global provider, which exports nothing
        ScriptedModel(["x"]).generate("a")
    assert spans() == ()


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("ragkit._extras.find_spec", lambda module: None)
    with pytest.raises(MissingExtraError, match=r"ragkit-py\[telemetry\]"), opentelemetry_spans():
        pass
