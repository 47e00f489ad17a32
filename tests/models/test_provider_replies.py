"""Replies of providers that are no answers, over real HTTP: each is told from an answer, and none is cached."""

import warnings
from functools import partial
from types import SimpleNamespace

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_openai import ChatOpenAI
from scripted_server import Reply, ScriptedServer, failed, streamed, whole

from ragkit import Example, Template, load_model
from ragkit._answering import Answering
from ragkit.errors import (
    AnswerFormError,
    BatchError,
    ModelAccessError,
    ModelError,
    RagkitWarning,
    RefusalError,
    TransientModelError,
    UnsupportedError,
)
from ragkit.models import AnswerCache, LayeredModel, Retry
from ragkit.models._api import LangChainModel
from ragkit.models._provider_errors import as_model_error
from ragkit.models._provider_replies import reported_usage
from ragkit.protocols import Capabilities
from ragkit.records import Completion

ONCE = Retry(attempts=1)
TWICE = Retry(attempts=2, first_wait=0)


@pytest.fixture
def asked(tmp_path):
    """Start a server with a script, and load a model of it with a cache."""
    servers = []

    def start(*replies, retry=ONCE):
        server = ScriptedServer(*(each if isinstance(each, Reply) else Reply(each) for each in replies)).__enter__()
        servers.append(server)
        model = load_model("openai:m", base_url=server.url, retry=retry, cache=AnswerCache(tmp_path / "cache.sqlite"))
        return model, server

    yield start
    for server in servers:
        server.__exit__()


def read(model, text="x"):
    stream = model.stream(text)
    assert "".join(stream) == stream.completion.text
    return stream.completion


# Refusals and filters.


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (whole(None, refusal="No."), ""),
        (whole("The way", finish="content_filter"), "The way"),
        (streamed("The ", "way", finish="content_filter"), "The way"),
        (streamed("", "").replace(b'"content": ""', b'"content": "", "refusal": "No."'), ""),
    ],
)
def test_a_refusal_is_an_error_with_what_was_written(asked, reply, text):
    model, server = asked(reply)
    for _ in range(2):
        with pytest.raises(RefusalError) as caught:
            read(model) if isinstance(reply, bytes) else model.generate("x")
        assert caught.value.completion.text == text
        assert not isinstance(caught.value, TransientModelError)
    assert len(server.requests) == 2
    assert len(model.cache) == 0


def test_the_tokens_of_a_refusal_are_spent(asked):
    model, _ = asked(whole(None, refusal="No."))
    model.budget.tokens = 1000
    with pytest.raises(RefusalError):
        model.generate("x", max_tokens=500)
    assert model.budget.spent["tokens"] == 15


@pytest.mark.parametrize(
    "told",
    [
        {"stop_reason": "refusal"},  # Anthropic
        {"finish_reason": "SAFETY"},  # Google
        {"stopReason": "guardrail_intervened"},  # Bedrock
        {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},  # OpenAI's Responses
    ],
)
def test_a_filter_is_told_by_every_provider(told):
    model = LangChainModel(GenericFakeChatModel(messages=iter([AIMessage("a", response_metadata=told)])))
    with pytest.raises(RefusalError):
        model.generate("x")


def test_a_refusal_among_the_blocks_of_a_message():
    blocks = [{"type": "refusal", "refusal": "I cannot."}]
    model = LangChainModel(GenericFakeChatModel(messages=iter([AIMessage(content=blocks)])))
    with pytest.raises(RefusalError, match="I cannot"):
        model.generate("x")


def test_a_refusal_is_an_answer_that_cannot_be_read(asked):
    model, _ = asked(whole("red"), whole("the red o", finish="content_filter"))
    answering = Answering(LayeredModel(model, concurrency=1), Template(labels=("red", "blue")), reader="first-line")
    (first, _), (second, completion) = answering.answers([answering.template.prompt([], text) for text in "xy"])
    assert (first.text, first.readable, second.readable) == ("red", True, False)
    assert completion.usage.prompt_tokens == 10


def test_one_refusal_leaves_the_other_answers(asked):
    model, _ = asked(whole("a"), whole(None, refusal="No."))
    with pytest.raises(BatchError) as caught:
        LayeredModel(model, concurrency=1).generate(["x", "y"])
    assert [type(each).__name__ for each in caught.value.results] == ["Completion", "RefusalError"]


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_an_answer_by_a_schema_that_was_ended_early_is_told(asked, finish):
    model, _ = asked(whole('{"a": "re', finish=finish))
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    with pytest.raises(AnswerFormError if finish == "length" else RefusalError) as caught:
        model.generate("x", schema=schema)
    completion = caught.value.completion
    assert (completion.text, completion.usage.prompt_tokens, completion.usage.completion_tokens) == ('{"a": "re', 10, 5)
    assert len(model.cache) == 0


@pytest.mark.parametrize("finish", ["error", "cancelled"])
def test_a_failure_while_the_answer_is_written_is_tried_again(asked, finish):
    model, server = asked(whole("The", finish=finish), whole("The lamp"), retry=TWICE)
    assert model.generate("x").text == "The lamp"
    assert len(server.requests) == 2


def test_a_blank_answer_is_given_but_not_cached(asked):
    model, server = asked(whole(""))
    assert [model.generate("x").text for _ in range(2)] == ["", ""]
    assert len(server.requests) == 2


def test_a_tool_call_is_no_answer():
    call = {"name": "search", "args": {}, "id": "1"}
    model = LangChainModel(GenericFakeChatModel(messages=iter([AIMessage("", tool_calls=[call])])))
    with pytest.raises(ModelError, match="search"):
        model.generate("x")


# Streams.


def test_a_stream_without_an_end_is_incomplete(asked):
    model, server = asked(streamed("Hi", finish=None))
    for _ in range(2):
        pieces = []
        with pytest.raises(TransientModelError):
            pieces.extend(model.stream("x"))
    assert len(server.requests) == 2
    assert len(model.cache) == 0


def test_a_stream_that_is_left_at_a_stop_sequence_is_complete(asked):
    model, _ = asked(streamed("one\n", "two", finish=None))
    stream = model.stream("x", stop=["\n"])
    assert list(stream) == ["one"]
    assert stream.completion.finish_reason == "stop"


def test_a_finish_reason_on_several_chunks(asked):
    body = streamed("a", finish="length").replace(b"data: [DONE]\n\n", b"") + streamed(finish="length")
    model, _ = asked(body)
    assert read(model).finish_reason == "length"


def test_an_error_within_a_stream(asked):
    model, server = asked(streamed(finish=None, last=failed(code=429)), streamed("a"), retry=TWICE)
    assert read(model).text == "a"
    assert len(server.requests) == 2


@pytest.mark.parametrize("reply", [streamed(finish=None), failed(), b""])
def test_a_stream_without_events_is_tried_again(asked, reply):
    model, server = asked(reply, streamed("a"), retry=TWICE)
    assert read(model).text == "a"
    assert len(server.requests) == 2


def test_an_error_after_the_first_piece_is_raised(asked):
    model, _ = asked(streamed("a", finish=None, last=failed(type="server_error")), retry=TWICE)
    with pytest.raises(TransientModelError):
        list(model.stream("x"))
    assert len(model.cache) == 0


def usage(read, written):
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


@pytest.mark.parametrize(
    "usages", [[usage(10, 5)] * 3, [usage(10, 1), usage(10, 3), usage(10, 5)], [usage(10, 5)], [{}, {}, usage(10, 5)]]
)
def test_running_totals_of_usage_count_once(asked, usages):
    model, _ = asked(streamed("a", "b", usages=usages))
    found = read(model).usage
    assert (found.prompt_tokens, found.completion_tokens) == (10, 5)


def test_parts_of_usage_are_added():
    parts = [(10, 0), (0, 2), (0, 3)]  # as Anthropic reports them
    chunks = [
        AIMessageChunk("a", usage_metadata={"input_tokens": one, "output_tokens": two, "total_tokens": one + two})
        for one, two in parts
    ]
    found = reported_usage(chunks)
    assert (found.prompt_tokens, found.completion_tokens) == (10, 5)


# Errors.


@pytest.mark.parametrize(
    "reply",
    [
        {"choices": None, **failed(code=429)},
        {"choices": [], **failed(code="503")},
        failed(type="overloaded_error"),
        failed(),
        {"choices": None},
    ],
)
def test_an_error_in_a_reply_of_status_200_is_tried_again(asked, reply):
    model, server = asked(reply, whole(), retry=TWICE)
    assert model.generate("x").text == "hi"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(failed(type="invalid_request_error")), ModelError),
        (Reply(failed(code="insufficient_quota"), 429), ModelAccessError),
        (Reply(failed(type="insufficient_quota"), 429, (("retry-after", "0"),)), ModelAccessError),
        (Reply(failed("Insufficient Balance"), 402), ModelAccessError),
        (Reply(failed("Your credit balance is too low", type="invalid_request_error"), 400), ModelAccessError),
        (Reply(failed(code="invalid_api_key")), ModelAccessError),
    ],
)
def test_what_no_retry_can_fix_is_not_tried_again(asked, reply, kind):
    model, server = asked(reply, retry=TWICE)
    with pytest.raises(ModelError) as caught:
        model.generate("x")
    assert type(caught.value) is kind
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2),
        ({"retry-after-ms": "300", "retry-after": "1"}, 0.3),
        ({"retry-after": "Tue, 01 Dec 2026 10:00:30 GMT", "date": "Tue, 01 Dec 2026 10:00:00 GMT"}, 30),
        ({"retry-after": "Tue, 01 Dec 2026 09:00:00 GMT", "date": "Tue, 01 Dec 2026 10:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "soon", "retry-after": "-1"}, 0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "0m20.5s",
          "x-ratelimit-remaining-tokens": "10", "x-ratelimit-reset-tokens": "6m0s"}, 20.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 30),  # until it is full
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms",
          "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2s"}, 2),
        ({"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "2s"}, None),
        ({"anthropic-ratelimit-input-tokens-remaining": "0", "date": "Tue, 01 Dec 2026 10:00:00 GMT",
          "anthropic-ratelimit-input-tokens-reset": "2026-12-01T10:00:07Z"}, 7),
        ({"x-ratelimit-reset": "1796119205000", "date": "Tue, 01 Dec 2026 10:00:00 GMT"}, 5),  # OpenRouter
        ({"ratelimit-remaining": "0", "ratelimit-reset": "9"}, 9),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "soon"}, None),
        ({"retry-after": "1", "x-ratelimit-reset-requests": "9s"}, 1),
        ({}, None),
    ],
)  # fmt: skip
def test_when_to_come_back(asked, headers, seconds):
    model, _ = asked(Reply(failed(), 429, tuple(headers.items())))
    with pytest.raises(TransientModelError) as caught:
        model.generate("x")
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Rate limit reached for gpt-4o on tokens per min. Please try again in 1.5s. Visit …", 1.5),
        ("Please try again in 6m0s.", 360),
        ("Please retry after 10 seconds.", 10),  # Azure
        ("{'@type': 'type.googleapis.com/google.rpc.RetryInfo', 'retryDelay': '32s'}", 32),
        ("try again later", None),
    ],
)
def test_when_to_come_back_according_to_the_message(asked, said, seconds):
    model, _ = asked(Reply(failed(said), 429))
    with pytest.raises(TransientModelError) as caught:
        model.generate("x")
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (whole(None, refusal="No."), "refusal"),
        (whole("The", finish="content_filter"), "content_filter"),
        (whole("The", finish="length"), "length"),
        (whole("The"), "stop"),
    ],
)
def test_the_finish_reason(asked, reply, reason):
    model, _ = asked(reply)
    try:
        answer = model.generate("x")
    except RefusalError as error:
        answer = error.completion
    assert answer.finish_reason == reason


@pytest.mark.parametrize("reason", ["refusal", "content_filter", "error"])
def test_a_custom_model_whose_response_is_no_answer_is_not_cached(tmp_path, reason):
    model = SimpleNamespace(
        name="m", fingerprint="m", capabilities=Capabilities(batches=False), count_tokens=len,
        generate=lambda prompts, **_: [Completion(text="No.", finish_reason=reason) for _ in prompts],
    )  # fmt: skip
    layered = LayeredModel(model, cache=AnswerCache(tmp_path / "cache.sqlite"))
    assert layered.generate("x").finish_reason == reason
    assert len(layered.cache) == 0


def test_a_date_without_the_servers_clock_is_judged_by_ours():
    class ProviderError(Exception):
        status_code = 429
        response = SimpleNamespace(headers={"retry-after": "Thu, 01 Jan 2099 00:00:00 GMT"})

    assert as_model_error(ProviderError("x"), "m", []).retry_after > 1e6


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("server_error: The server had an error", TransientModelError),  # an error event of OpenAI's Responses
        ("ResponseError(code='rate_limit_exceeded', message='slow')", TransientModelError),
        ("cyber_policy: This was flagged", ModelError),
        ("broken", ModelError),
    ],
)
def test_an_error_whose_code_is_only_in_its_message(said, kind):
    assert type(as_model_error(ValueError(said), "m", [])) is kind


# Settings that a model does not accept.

TEMPERATURE = Reply(
    failed("Unsupported value: 'temperature' does not support 0.0 with this model.", param="temperature",
           code="unsupported_value"), 400,
)  # fmt: skip
STOP = Reply(failed("Unsupported parameter: 'stop' is not supported with this model.", param="stop"), 400)
SEED = Reply(
    failed("[{'type': 'extra_forbidden', 'loc': ['body', 'seed'], 'msg': 'Extra inputs are not permitted'}]"), 422
)


def test_settings_that_a_model_does_not_accept_are_left_out(asked):
    model, server = asked(TEMPERATURE, STOP, SEED, whole("one\ntwo"))
    with pytest.warns(RagkitWarning, match="temperature"):
        answer = model.generate("x", stop=["\n"])
    assert (answer.text, answer.attempts) == ("one", 1)
    sent = [{"temperature", "stop", "seed"} & request.keys() for request in server.requests]
    assert sent == [{"temperature", "stop", "seed"}, {"stop", "seed"}, {"seed"}, set()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate("y", stop=["\n"])
    assert len(server.requests) == 5


def test_a_stream_leaves_them_out_too(asked):
    model, server = asked(TEMPERATURE, streamed("a"))
    with pytest.warns(RagkitWarning):
        assert read(model).text == "a"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("reply", "settings"), [(TEMPERATURE, {"temperature": 0.5}), (SEED, {"temperature": 0.5, "seed": 3})]
)
def test_sampling_that_was_asked_for_is_not_left_out(asked, reply, settings):
    model, server = asked(reply, whole())
    for _ in range(2):
        with pytest.raises(UnsupportedError, match=list(settings)[-1]):
            model.generate("x", **settings)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        failed("temperature must be at most 2", param="temperature", code="decimal_above_max_value"),
        failed("Unsupported parameter: 'n'", param="n"),
        failed("This model does not support images, so stop sending them"),
    ],
)
def test_other_mistakes_of_a_request_are_errors(asked, reply):
    model, server = asked(Reply(reply, 400))
    with pytest.raises(ModelError):
        model.generate("x", temperature=2.5, stop=["a"])
    assert len(server.requests) == 1


def test_examples_and_labels_survive_a_server_without_seeds(asked):
    model, server = asked(SEED, whole('{"answer": "red"}'))
    template = Template(labels=("red", "blue")).prompt([Example("a", "red")], "b")
    assert model.generate(template, choices=["red", "blue"]).text == "red"
    assert server.requests[-1]["response_format"]["type"] == "json_schema"


# Chat models of LangChain with settings of their own.


def test_settings_of_a_chat_model_are_sent_and_tell_its_answers_apart():
    with ScriptedServer(Reply(whole())) as server:
        chat = partial(ChatOpenAI, model="m", base_url=server.url, api_key="none")
        models = [
            load_model(each)
            for each in (chat(), chat(top_p=0.5), chat().bind(top_p=0.5), chat().bind(extra_body={"tenant": 7}))
        ]
        for model in models:
            model.generate("x")
        assert [(each.get("top_p"), each.get("tenant")) for each in server.requests] == [
            (None, None), (0.5, None), (0.5, None), (None, 7),
        ]  # fmt: skip
        assert {model.name for model in models} == {"ChatOpenAI:m"}
        assert models[1].fingerprint == models[2].fingerprint
        assert len({model.fingerprint for model in models}) == 3
        assert load_model(chat(temperature=0.3, max_tokens=7)).fingerprint == models[0].fingerprint
