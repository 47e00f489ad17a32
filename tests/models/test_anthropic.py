"""Anthropic's API over real HTTP, through langchain-anthropic: its parameters, reasoning, prompt cache and streams."""

import json

import pytest
from scripted_server import Reply, ScriptedServer

from ragkit import Example, Template, load_model
from ragkit.errors import RefusalError, TransientModelError, UnsupportedError
from ragkit.models import Retry

pytest.importorskip("langchain_anthropic", reason="needs langchain-anthropic")

USAGE = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}


def whole(*blocks, reason="end_turn", usage=USAGE):
    return {
        "id": "1", "type": "message", "role": "assistant", "model": "m", "content": list(blocks), "stop_reason": reason,
        "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def text(words):
    return {"type": "text", "text": words}


def streamed(*texts, reason="end_turn", last=None):
    events = [
        {"type": "message_start", "message": whole(reason=None) | {"stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": text("")},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": each}} for each in texts),
        {"type": "content_block_stop", "index": 0},
    ]
    if reason:
        delta = {"stop_reason": reason, "stop_sequence": None}
        events += [
            {"type": "message_delta", "delta": delta, "usage": USAGE | {"output_tokens": 7}},
            {"type": "message_stop"},
        ]
    events += [last] if last else []
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)


@pytest.fixture
def start(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    servers = []

    def started(*replies, name="claude-m", **options):
        servers.append(ScriptedServer(*(each if isinstance(each, Reply) else Reply(each) for each in replies)))
        servers[-1].__enter__()
        url = servers[-1].url.removesuffix("/v1")
        retry = Retry(attempts=1)
        return load_model(f"anthropic:{name}", base_url=url, **{"retry": retry, **options}), servers[-1]

    yield started
    for server in servers:
        server.__exit__()


def test_what_is_sent(start):
    model, server = start(whole(text("one\ntwo")))
    assert model.generate("x", stop=["\n", "END"], max_tokens=7).text == "one"
    (sent,) = server.requests
    assert (sent["max_tokens"], sent["temperature"], sent["stop_sequences"]) == (7, 0.0, ["END"])
    assert "seed" not in sent
    with pytest.raises(UnsupportedError, match="seed"):
        model.generate("x", temperature=0.5, seed=3)


def test_a_model_without_temperature(start):
    model, server = start(whole(text("a")), name="claude-opus-4-7")
    with pytest.warns(match="may vary"):
        assert model.generate("x").omitted_settings == ("temperature",)
    assert "temperature" not in server.requests[0]


def test_reasoning(start):
    model, server = start(
        whole({"type": "thinking", "thinking": "B? No.", "signature": "s"}, text("A")),
        reasoning="low", max_reasoning_tokens=1500,
    )  # fmt: skip
    with pytest.warns(match="may vary"):
        answer = model.generate("x", max_tokens=7)
    assert (answer.text, answer.reasoning) == ("A", "B? No.")
    (sent,) = server.requests
    assert (sent["thinking"], sent["max_tokens"]) == ({"type": "enabled", "budget_tokens": 1500}, 1507)


def test_adaptive_reasoning(start):
    model, server = start(whole(text("A")), name="claude-opus-4-7", reasoning="high")
    with pytest.warns(match="may vary"):
        model.generate("x")
    assert server.requests[0]["output_config"] == {"effort": "high"}
    assert server.requests[0]["thinking"]["type"] == "adaptive"


def test_shared_prefixes_are_marked_for_the_prompt_cache(start):
    used = USAGE | {"input_tokens": 10, "cache_creation_input_tokens": 1200}
    model, server = start(whole(text("a"), usage=used), whole(text("b")), concurrency=1)
    template = Template(instruction="Name the colour. " * 300, form="chat")
    prompts = [template.prompt([Example("sky", "blue")], query) for query in ("grass", "sea", "sun")]
    answers = model.generate([*prompts, "x"])
    first = answers[0].usage
    assert (first.prompt_tokens, first.cache_written_tokens) == (1210, 1200)
    marked = ["cache_control" in json.dumps(request) for request in server.requests]
    assert marked == [True, False, True, True]  # "x" has no prefix; the first of a prefix comes before the others
    assert server.requests[0]["messages"][-2]["content"][0]["cache_control"] == {"type": "ephemeral"}
    model.generate(template.prompt([Example("sky", "green")], "grass"))
    assert "cache_control" not in json.dumps(server.requests[-1])


def test_a_refusal(start):
    model, _ = start(whole(text("I"), reason="refusal"))
    with pytest.raises(RefusalError) as caught:
        model.generate("x")
    assert caught.value.completion.finish_reason == "refusal"


def test_streams(start):
    model, _ = start(streamed("a", "b"))
    stream = model.stream("x")
    assert list(stream) == ["a", "b"]
    assert (stream.completion.usage.prompt_tokens, stream.completion.usage.completion_tokens) == (10, 7)


def test_a_stream_that_ends_early(start):
    model, _ = start(streamed("a", reason=None))
    with pytest.raises(TransientModelError, match="finish reason"):
        list(model.stream("x"))


def test_an_error_in_a_stream(start):
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    model, server = start(
        streamed(reason=None, last=error), streamed("a"), retry=Retry(attempts=2, first_wait=0)
    )  # fmt: skip
    assert "".join(model.stream("x")) == "a"
    assert len(server.requests) == 2


def test_an_overloaded_server(start):
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    model, server = start(Reply(error, 529), whole(text("a")), retry=Retry(attempts=2, first_wait=0))
    assert model.generate("x").text == "a"
    assert len(server.requests) == 2
