"""The server over real HTTP: responses equal those of the models, and no field of a request is ignored."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import httpx
import openai
import pytest
from command_line import run as ragkit
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from waiting import wait_for

from ragkit import Budget, ScriptedModel, load_model
from ragkit.errors import InvalidInputError, ModelError, PromptTooLongError, RagkitWarning
from ragkit.models import LayeredModel, _scoring
from ragkit.models._base import ModelBase
from ragkit.records import Chat, Completion, Message, Prompt
from ragkit.testing import LanguageModelContract
from ragkit_pipelines.serving import Limits, Server

ROOT = Path(__file__).parents[2]
PROMPTS = [
    "Input: dim the lamp\nOutput:", "red", "one two three one two", "naïve 東京 🙂", "lamp fan vent " * 20,
]  # fmt: skip


def client(server, **options):
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, **options)


def user(prompt):
    return [{"role": "user", "content": prompt}]


def alone(adapters, name):
    return adapters.get(name, adapters.base)


class TestThroughLoadModel(LanguageModelContract):
    max_tokens = 8

    @pytest.fixture
    def model(self, server, adapters):
        return load_model(f"openai:{adapters.base.name}", base_url=server.url)


@pytest.mark.parametrize("settings", [{}, {"stop": ["e", "t"]}, {"temperature": 1.5, "seed": 3}])
def test_responses_equal_those_of_the_models(server, adapters, settings):
    api = client(server)
    for name in (adapters.base.name, "a", "b"):
        for prompt in PROMPTS:
            expected = alone(adapters, name).generate(prompt, max_tokens=12, **settings)
            answer = api.chat.completions.create(model=name, messages=user(prompt), max_tokens=12, **settings)
            plain = api.completions.create(model=name, prompt=prompt, max_tokens=12, **settings)
            assert answer.choices[0].message.content == plain.choices[0].text == expected.text
            assert answer.choices[0].finish_reason == plain.choices[0].finish_reason == expected.finish_reason
            assert answer.usage.prompt_tokens == plain.usage.prompt_tokens == expected.usage.prompt_tokens
            assert answer.usage.completion_tokens == expected.usage.completion_tokens
            assert answer.system_fingerprint == alone(adapters, name).fingerprint


@pytest.mark.parametrize("settings", [{}, {"stop": "e"}, {"temperature": 1.5, "seed": 3}])
def test_the_pieces_of_a_stream_form_the_response(server, adapters, settings):
    api, pieces = client(server), 0
    for prompt in PROMPTS:
        options = {"max_tokens": 12, "stream": True, "stream_options": {"include_usage": True}, **settings}
        stop = {"stop": list(settings["stop"])} if "stop" in settings else {}
        expected = adapters["a"].generate(prompt, max_tokens=12, **{**settings, **stop})
        chunks = list(api.chat.completions.create(model="a", messages=user(prompt), **options))
        texts = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
        assert "".join(texts) == expected.text
        assert chunks[0].choices[0].delta.role == "assistant"
        assert [chunk.choices[0].finish_reason for chunk in chunks[-2:-1]] == [expected.finish_reason]
        assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], expected.usage.completion_tokens)
        assert all(chunk.usage is None for chunk in chunks[:-1])
        options.pop("stream_options")
        plain = list(api.completions.create(model="a", prompt=prompt, **options))
        assert "".join(chunk.choices[0].text for chunk in plain) == expected.text
        assert all(chunk.usage is None for chunk in plain)
        pieces += len(chunks)
    assert pieces > 4 * len(PROMPTS)


def test_log_probabilities(server, adapters):
    api = client(server)
    expected = adapters["b"].generate("red", max_tokens=5)
    options = {"model": "b", "messages": user("red"), "max_tokens": 5, "logprobs": True, "top_logprobs": 4}
    tokens = api.chat.completions.create(**options).choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == expected.text
    assert bytes(byte for token in tokens for byte in token.bytes).decode() == expected.text
    score = adapters["b"].score(["red"], [expected.text])[0, 0]
    assert sum(token.logprob for token in tokens) == pytest.approx(score, abs=1e-3)
    for token in tokens:
        assert [(token.token, token.logprob)] == [(top.token, top.logprob) for top in token.top_logprobs[:1]]
        assert len(token.top_logprobs) == 4
    streamed = [chunk.choices[0].logprobs for chunk in api.chat.completions.create(**options, stream=True)]
    streamed_tokens = [token for part in streamed if part for token in part.content]
    assert [token.token for token in streamed_tokens] == [token.token for token in tokens]
    plain = api.completions.create(model="b", prompt=["red", "lamp"], max_tokens=5, logprobs=2).choices
    assert plain[0].logprobs.token_logprobs == pytest.approx([token.logprob for token in tokens], abs=1e-4)
    assert plain[0].logprobs.text_offset == [
        sum(len(token.token) for token in tokens[:index]) for index in range(len(tokens))
    ]
    assert plain[1].text == adapters["b"].generate("lamp", max_tokens=5).text


class Lamp(BaseModel):
    lit: bool
    size: Literal[1, 2, 3]


def test_responses_constrained_to_a_schema(server, adapters):
    form = {"type": "json_schema", "json_schema": {"name": "lamp", "schema": Lamp.model_json_schema()}}
    api = client(server)
    answer = api.chat.completions.create(model="a", messages=user("x"), max_tokens=100, response_format=form)
    assert answer.choices[0].message.content == adapters["a"].generate("x", max_tokens=100, schema=Lamp).text
    Lamp.model_validate_json(answer.choices[0].message.content)
    streamed = api.chat.completions.create(
        model="a", messages=user("x"), max_tokens=100, response_format=form, stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert text == answer.choices[0].message.content
    free = api.chat.completions.create(
        model="a", messages=user("x"), max_tokens=200, response_format={"type": "json_object"}
    ).choices[0]
    assert free.message.content.startswith("{")
    assert free.finish_reason == "length" or isinstance(json.loads(free.message.content), dict)


def test_responses_constrained_to_a_grammar(server, adapters):
    grammar = 'start: "turn " ("on" | "off") " room " /[1-9]/'
    expected = adapters["a"].generate("x", max_tokens=60, grammar=grammar).text
    api, asked = client(server), {"model": "a", "messages": user("x"), "max_tokens": 60}
    answer = api.chat.completions.create(**asked, extra_body={"guided_grammar": grammar}).choices[0]
    assert (answer.message.content, answer.finish_reason) == (expected, "stop")
    streamed = api.chat.completions.create(**asked, stream=True, extra_body={"guided_grammar": grammar})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == expected
    for body, message in (
        ({"guided_grammar": "start: order"}, "unknown name"),
        ({"guided_grammar": "start: " + " ".join(['"a"'] * 20_000)}, "the limit is"),
        ({"guided_grammar": grammar, "guided_choice": ["a"]}, "cannot be combined"),
        ({"guided_grammar": ""}, "guided_grammar"),
    ):
        with pytest.raises(openai.BadRequestError, match=message):
            api.chat.completions.create(**asked, extra_body=body)
    # The same through a model of ragkit.
    remote = load_model("openai:a", base_url=server.url, grammar_field="guided_grammar")
    assert remote.capabilities.grammar
    assert remote.generate("x", max_tokens=60, grammar=grammar).text == expected
    assert "".join(remote.stream("x", max_tokens=60, grammar=grammar)) == expected
    assert not load_model("openai:a", base_url=server.url).capabilities.grammar
    for wrong in ({"grammar_field": "guided_grammar"}, {"grammar_field": "lark", "base_url": server.url}):
        with pytest.raises(InvalidInputError, match="`grammar_field`"):
            load_model("openai:a", **wrong)


def test_langchain(server, adapters):
    model = ChatOpenAI(model="a", base_url=server.url, api_key="none", max_tokens=10, max_retries=0)
    expected = adapters["a"].generate("red", max_tokens=10)
    answer = model.invoke("red")
    assert (answer.content, answer.usage_metadata["output_tokens"]) == (
        expected.text, expected.usage.completion_tokens,
    )  # fmt: skip
    assert "".join(chunk.content for chunk in model.stream("red")) == expected.text
    assert [one.content for one in model.batch(PROMPTS)] == [
        one.text for one in adapters["a"].generate(PROMPTS, max_tokens=10)
    ]
    structured = ChatOpenAI(model="a", base_url=server.url, api_key="none", max_tokens=100).with_structured_output(Lamp)
    assert isinstance(structured.invoke("x"), Lamp)


def test_the_client_of_ragkit(server, adapters):
    model = load_model("openai:c", base_url=server.url)
    answers = model.generate(PROMPTS, max_tokens=8)
    assert [answer.text for answer in answers] == [one.text for one in adapters["c"].generate(PROMPTS, max_tokens=8)]
    assert model.generate("x", max_tokens=100, schema=Lamp).parsed == adapters["c"].generate(
        "x", max_tokens=100, schema=Lamp
    ).parsed  # fmt: skip
    assert model.generate("x", max_tokens=100, choices=["left", "right"]).text in {"left", "right"}
    with pytest.raises(ModelError, match="nobody"):
        load_model("openai:nobody", base_url=server.url).generate("x")


def test_models(server, adapters):
    api = client(server)
    assert [model.id for model in api.models.list()] == [adapters.base.name, "a", "b", "c"]
    assert api.models.retrieve("b").id == "b"
    assert httpx.get(server.url + "/models/" + adapters.base.name).json()["id"] == adapters.base.name
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve("d")
    assert httpx.get(server.url.replace("/v1", "/health")).json() == {"status": "ok", "waiting": 0}


CHAT = {"model": "a", "messages": [{"role": "user", "content": "red"}], "max_tokens": 3}
TEXT = {"model": "a", "prompt": "red", "max_tokens": 3}
ODD = {"type": "no such type"}
REFUSED = [
    ("chat/completions", {"n": 2}, "n"),
    ("chat/completions", {"top_p": 1.5}, "top_p"),
    ("chat/completions", {"tools": [{"type": "function"}]}, "tools[0].function"),
    ("chat/completions", {"frequency_penalty": 2.1}, "frequency_penalty"),
    ("chat/completions", {"presence_penalty": -3}, "presence_penalty"),
    ("completions", {"top_p": -0.1}, "top_p"),
    ("chat/completions", {"anything": 1}, "anything"),
    ("chat/completions", {"messages": []}, "messages"),
    ("chat/completions", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ("chat/completions", {"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages[0].name"),
    ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
    ("chat/completions", {"max_tokens": 0}, "max_tokens"),
    ("chat/completions", {"max_tokens": "3"}, "max_tokens"),
    ("chat/completions", {"max_completion_tokens": 4}, "max_tokens"),
    ("chat/completions", {"temperature": -1}, "temperature"),
    ("chat/completions", {"seed": 1.5}, "seed"),
    ("chat/completions", {"stop": [3]}, "stop[0]"),
    ("chat/completions", {"stop": [""]}, None),
    ("chat/completions", {"top_logprobs": 3}, "top_logprobs"),
    ("chat/completions", {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ("chat/completions", {"stream_options": {"include_usage": True}}, "stream_options"),
    ("chat/completions", {"response_format": {"type": "xml"}}, "response_format.type"),
    ("chat/completions", {"response_format": {"type": "json_schema"}}, "response_format"),
    ("chat/completions", {"response_format": {"type": "json_schema", "json_schema": {"schema": ODD}}}, None),
    ("chat/completions", {"messages": user("lamp " * 3000)}, None),
    ("chat/completions", {"max_tokens": 5000}, None),
    ("chat/completions", {"messages": [{"role": "system", "content": "x"}, *user("y")]}, None),  # no chat template
    ("completions", {"prompt": [1, 2, 3]}, "prompt[0]"),
    ("completions", {"echo": True, "stream": True}, "echo"),
    ("completions", {"echo": "yes"}, "echo"),
    ("completions", {"max_tokens": 0}, "max_tokens"),
    ("completions", {"max_tokens": -1, "echo": True}, "max_tokens"),
    ("completions", {"prompt": ["a", "b"], "stream": True}, "prompt"),
    ("completions", {"prompt": []}, "prompt"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "change", "field"), REFUSED)
def test_unsupported_fields_are_rejected_by_name(server, path, change, field):
    body = {**(CHAT if path.startswith("chat") else TEXT), **change}
    answer = httpx.post(f"{server.url}/{path}", json=body, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, field)
    assert field is None or field.partition("[")[0].partition(".")[0] in error["message"]


def test_neutral_values_are_accepted(server, adapters):
    neutral = {"n": 1, "top_p": 1, "frequency_penalty": 0, "logit_bias": {}, "tools": None, "stop": None, "user": "me",
               "presence_penalty": 0.0, "response_format": {"type": "text"}, "logprobs": None}  # fmt: skip
    turns = [{"role": "user", "content": [{"type": "text", "text": "re"}, {"type": "text", "text": "d"}], "name": None}]
    answer = httpx.post(server.url + "/chat/completions", json={**CHAT, **neutral, "messages": turns}, timeout=60)
    text = answer.json()["choices"][0]["message"]["content"]
    assert text == adapters["a"].generate("red", max_tokens=3).text


def test_top_p_and_penalties_are_those_of_the_model(server, adapters):
    settings = {"temperature": 1.0, "seed": 4, "top_p": 0.7, "presence_penalty": 1.5, "frequency_penalty": 0.5}
    for path, body in (("chat/completions", CHAT), ("completions", TEXT)):
        answer = httpx.post(f"{server.url}/{path}", json={**body, **settings, "max_tokens": 8}, timeout=60)
        choice = answer.json()["choices"][0]
        text = choice["message"]["content"] if path.startswith("chat") else choice["text"]
        assert text == adapters["a"].generate("red", max_tokens=8, **settings).text
        assert text != adapters["a"].generate("red", max_tokens=8, temperature=1.0, seed=4).text


@pytest.mark.parametrize("name", ["base", "a"])
def test_the_log_probabilities_of_the_prompt(server, adapters, name):
    """As evaluation harnesses request them; the model scores the end of the text in another way."""
    model = adapters.base if name == "base" else adapters[name]
    served = model.name if name == "base" else name
    prompt, end = "dim the lamp. naïve 東", " open the door"
    api = client(server)
    reply = api.completions.create(model=served, prompt=prompt + end, max_tokens=0, echo=True, logprobs=2)
    choice = reply.choices[0]
    assert (choice.text, reply.usage.completion_tokens) == (prompt + end, 0)
    values = choice.logprobs.token_logprobs
    assert (values[0], choice.logprobs.top_logprobs[0]) == (None, None)
    assert len(values) == len(model.encode_prompt(prompt + end)) == reply.usage.prompt_tokens
    tail = len(model.encode_text(end))
    assert sum(values[-tail:]) == pytest.approx(model.score([prompt], [end])[0, 0], abs=1e-4)
    best = [max(each.values()) for each in choice.logprobs.top_logprobs[1:]]
    assert all(most >= value - 1e-9 for most, value in zip(best, values[1:], strict=True))
    whole = api.completions.create(model=served, prompt=[prompt, "red"], max_tokens=3, echo=True, logprobs=0)
    for text, each in zip([prompt, "red"], whole.choices, strict=True):
        assert each.text == text + model.generate(Prompt(text, form="text"), max_tokens=3).text
        assert each.logprobs.token_logprobs[0] is None
        assert len(each.logprobs.token_logprobs) > len(model.encode_prompt(text))
    assert api.completions.create(model=served, prompt="red", max_tokens=0, echo=True).choices[0].text == "red"


def test_a_long_prompt_is_scored_in_parts(monkeypatch):
    model = load_model("tiny")
    row = model.encode_prompt("dim the lamp and open the door, then close it again. " * 4)
    expected = [token.logprob for token in model.prompt_logprobs(row, top=1)]
    monkeypatch.setattr(_scoring, "_MOST_POSITIONS", 7)
    found = [token.logprob for token in model.prompt_logprobs(row, top=1)]
    assert found[1:] == pytest.approx(expected[1:], abs=1e-5)
    assert len(found) == len(row) > 14
    assert model.prompt_logprobs(row[:1])[0].logprob != model.prompt_logprobs(row[:1])[0].logprob  # not a number
    with pytest.raises(PromptTooLongError):
        model.prompt_logprobs(row * 100)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def test_a_request_larger_than_the_queue_is_rejected_for_good():
    with Server(ScriptedModel(lambda prompt: "yes"), max_waiting=3) as server:
        body = {"model": "scripted", "prompt": ["a"] * 4}
        answer = httpx.post(server.url + "/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
        fitting = httpx.post(server.url + "/completions", json={**body, "prompt": ["a"] * 3})
        assert [choice["text"] for choice in fitting.json()["choices"]] == ["yes"] * 3


def test_invalid_bodies(server):
    url, kind = server.url + "/chat/completions", {"content-type": "application/json"}
    for content, status in ((b"{", 400), (b"[]", 400), (b"\xff", 400), (b"[" * 100_000, 400), (b"x" * 17 * 2**20, 413)):
        answer = httpx.post(url, content=content, headers=kind, timeout=60)
        assert (answer.status_code, "error" in answer.json()) == (status, True)
    invalid = [
        {"messages": user("a\ud83d")},
        {"a\ud83d": 1},
        {"stop": "a\ud83d", "n": 3},
        {"temperature": float("nan")},
    ]
    invalid += [{"stop": nested(depth)} for depth in (100, 300, 500, 700, 900)]
    invalid += [{"response_format": {"type": "json_schema", "json_schema": {"schema": {"anyOf": nested(depth)}}}}
                for depth in (300, 700, 900)]  # fmt: skip
    for change in invalid:
        answer = httpx.post(url, content=json.dumps({**CHAT, **change}), headers=kind, timeout=60)
        assert (answer.status_code, "error" in answer.json()) == (400, True), change
    assert httpx.post(url, content=json.dumps(CHAT)).status_code == 415
    assert httpx.get(url).status_code == 405
    assert httpx.get(server.url + "/nothing").status_code == 404


def test_limits_on_bodies(server, adapters, monkeypatch):
    def post(url, change):
        return httpx.post(url + "/chat/completions", json={"model": "scripted", "messages": user("x"), **change})

    with Server(ScriptedModel(lambda prompt: "yes"), limits=Limits(values=7, body_bytes=500)) as small:
        assert post(small.url, {"stop": ['[,,,,,,,,]\\"[{']}).status_code == 200  # text is not counted
        assert post(small.url, {"stop": ["a", "b"]}).json()["error"]["code"] == "invalid_request"
        assert post(small.url, {"user": "x" * 500}).status_code == 413
    # A text that cannot fit is not encoded.
    monkeypatch.setattr(adapters.base.encoder, "_ids", None)
    longest = max(map(len, adapters.base.tokenizer.get_vocab()))
    text = "x" * (longest * (adapters.base.capabilities.window + 1))
    answer = httpx.post(
        server.url + "/chat/completions", json={**CHAT, "model": adapters.base.name, "messages": user(text)}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_the_token():
    with Server(ScriptedModel(lambda prompt: "yes"), token="s3cret") as server:
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=server.url, api_key="s3cre", max_retries=0).models.list()
        api = openai.OpenAI(base_url=server.url, api_key="s3cret", max_retries=0)
        assert api.chat.completions.create(model="scripted", messages=user("x")).choices[0].message.content == "yes"
        url = server.url + "/models"
        for header in ("s3cret", "Basic s3cret", "Bearer", "Bearer S3cret", "Bearer é", ""):
            assert httpx.get(url, headers={"authorization": header.encode()}).status_code == 401
        assert httpx.post(server.url + "/chat/completions", json=CHAT).status_code == 401
        assert httpx.get(url, headers={"authorization": "bearer s3cret"}).status_code == 200
        assert httpx.get(server.url.replace("/v1", "/health")).status_code == 200


# Batches.


def test_requests_for_different_adapters_share_batches(server, adapters, monkeypatch):
    sizes, real = [], adapters.complete_rows

    def counted(rows, *args, **arguments):
        sizes.append(len(rows))
        return real(rows, *args, **arguments)

    monkeypatch.setattr(adapters, "complete_rows", counted)
    jobs = [(name, prompt) for prompt in PROMPTS for name in (adapters.base.name, "a", "b", "c")] * 2
    api = client(server)

    def ask(job):
        name, prompt = job
        settings = {"max_tokens": 8} if prompt != "red" else {"max_tokens": 8, "temperature": 1.0, "seed": len(name)}
        answer = api.chat.completions.create(model=name, messages=user(prompt), **settings)
        return answer.choices[0].message.content == alone(adapters, name).generate(prompt, **settings).text

    with ThreadPoolExecutor(len(jobs)) as threads:
        assert all(threads.map(ask, jobs))
    assert sum(sizes) == len(jobs)
    assert len(sizes) < len(jobs) / 2
    assert max(sizes) <= 16


class Slow(ModelBase):
    """A model that responds when `go` is set, and records its batches."""

    name, fingerprint = "slow", "slow"

    def __init__(self) -> None:
        self.go, self.batches = threading.Event(), []

    def _complete(self, prompts, sampling):
        self.batches.append(list(prompts))
        assert self.go.wait(60)
        return [Completion(text=f"{prompt}!") for prompt in prompts]


def connected(server, body):
    """Return a connection that has sent a request and not read the response."""
    address = httpx.URL(server.url)
    connection = socket.create_connection((address.host, address.port))
    content = json.dumps(body)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n"
    connection.sendall(f"{head}content-type: application/json\r\n\r\n{content}".encode())
    return connection


def test_a_full_queue_and_clients_that_disconnect():
    model = Slow()
    with Server(model, max_waiting=3, batch_size=2, gather=0.0) as server:
        health = server.url.replace("/v1", "/health")

        def waiting():
            return httpx.get(health).json()["waiting"]

        def ask(prompt):
            body = {"model": "slow", "messages": user(prompt)}
            return httpx.post(server.url + "/chat/completions", json=body, timeout=60)

        with ThreadPoolExecutor(8) as threads:
            first = threads.submit(ask, "first")
            wait_for(lambda: model.batches == [["first"]])
            leaves = connected(server, {"model": "slow", "messages": user("leaves")})
            wait_for(lambda: waiting() == 1)
            stays = [threads.submit(ask, f"stays {n}") for n in range(2)]
            wait_for(lambda: waiting() == 3)
            refused = ask("one too many")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["error"]["code"] == "overloaded"
            leaves.close()
            for _ in range(10):  # iterations of the server's event loop, in which it notices the disconnect
                waiting()
            model.go.set()
            answers = [job.result() for job in (first, *stays)]
        assert [answer.json()["choices"][0]["message"]["content"] for answer in answers] == [
            "first!", "stays 0!", "stays 1!",
        ]  # fmt: skip
    assert sorted(prompt for batch in model.batches for prompt in batch) == ["first", "stays 0", "stays 1"]


def test_a_disconnected_stream_ends_only_its_own_row(server, adapters):
    model, long = adapters["a"], {"max_tokens": 1500, "stop": ["never written"]}
    with ThreadPoolExecutor(1) as threads:
        body = {**CHAT, **long, "stream": True}
        with httpx.stream("POST", server.url + "/chat/completions", json=body, timeout=60) as stream:
            lines = stream.iter_lines()
            next(lines)
            short = threads.submit(httpx.post, server.url + "/chat/completions", json=CHAT, timeout=60)
            for _ in range(8):
                next(lines)
        # The row of 1,500 tokens was cancelled, so the next request does not wait for it.
        answer = short.result().json()["choices"][0]["message"]["content"]
    assert answer == model.generate("red", max_tokens=3).text
    assert httpx.get(server.url.replace("/v1", "/health")).json()["waiting"] == 0


def test_an_error_fails_only_its_own_request():
    def answer(prompt):
        if prompt == "bad":
            raise ModelError("the lamp is broken")
        if prompt == "bug":
            raise RuntimeError("a secret path")
        return prompt.upper()

    with Server(ScriptedModel(answer), gather=0.05) as server, ThreadPoolExecutor(4) as threads:

        def ask(prompt):
            body = {"model": "scripted", "messages": user(prompt)}
            return httpx.post(server.url + "/chat/completions", json=body, timeout=60)

        bad = ask("bad")
        assert (bad.status_code, bad.json()["error"]["message"]) == (502, "the lamp is broken")
        bug = ask("bug")
        assert (bug.status_code, "secret" in bug.text) == (500, False)
        streamed = httpx.post(server.url + "/chat/completions", timeout=60,
                              json={"model": "scripted", "messages": user("bad"), "stream": True})  # fmt: skip
        assert streamed.status_code == 502
        mixed = list(threads.map(ask, ["a", "bad", "b"]))
        assert [one.status_code for one in mixed] == [200, 502, 200]
        fine = list(threads.map(ask, ["a", "b", "c"]))
        assert [one.json()["choices"][0]["message"]["content"] for one in fine] == ["A", "B", "C"]


def test_other_models_can_be_served(server):
    api = load_model("openai:a", base_url=server.url, budget=Budget(calls=3))
    assert isinstance(api, LayeredModel)
    with Server(api) as gateway:
        ask = client(gateway).chat.completions.create
        answer = ask(model="openai:a", messages=user("red"), max_tokens=3)
        assert answer.choices[0].message.content == api.generate("red", max_tokens=3).text
        pieces = ask(model="openai:a", messages=user("red"), max_tokens=3, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in pieces) == answer.choices[0].message.content
        with pytest.raises(openai.BadRequestError, match="`logprobs`"):
            ask(model="openai:a", messages=user("red"), logprobs=True)
        with pytest.raises(openai.APIStatusError) as caught:
            ask(model="openai:a", messages=user("red"), max_tokens=3)
        assert caught.value.status_code == 402


def test_conversations_reach_the_model_unchanged():
    script = ScriptedModel(lambda prompt: f"[{prompt}]")
    with Server(script) as server:
        turns = [{"role": "developer", "content": "short"}, {"role": "user", "content": "a"},
                 {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]  # fmt: skip
        answer = client(server).chat.completions.create(model="scripted", messages=turns)
        chat = Chat(tuple(Message(turn["role"].replace("developer", "system"), turn["content"]) for turn in turns))
        assert answer.choices[0].message.content == script.generate(chat).text


# Start and shutdown.


def test_invalid_settings(base, folders, adapters):
    for settings in (
        {"token": " "},
        {"gather": 2},
        {"batch_size": 0},
        {"max_tokens": 0},
        {"max_waiting": 0},
        {"adapters": folders},
        {"port": 70_000},
    ):
        with pytest.raises(InvalidInputError, match=f"`{next(iter(settings))}`"):
            Server(adapters, **settings)
    for limits in ({"body_bytes": 0}, {"connections": True}, {"receive_seconds": float("nan")}, {"values": "9"}):
        with pytest.raises(InvalidInputError, match=f"`{next(iter(limits))}`"):
            Limits(**limits)
    with pytest.raises(InvalidInputError, match="base"):
        Server(base, adapters={base: folders["a"]})
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InvalidInputError, match="port"):
        Server(adapters, port=taken.getsockname()[1])
    script = ScriptedModel(["x"])
    with pytest.warns(RagkitWarning, match="token"), Server(script, host="0.0.0.0") as server:  # noqa: S104
        assert server.url.startswith("http://0.0.0.0:")


def command(*arguments, **variables):
    return [sys.executable, "-m", "ragkit_pipelines.cli", "serve", *map(str, arguments)], {**os.environ, **variables}


def test_the_command_line_shuts_down_on_sigterm(base, folders):
    line, variables = command("--base", base, "--adapter", f"a={folders['a']}", "--port", 0, "--token-env", "TOKEN",
                              TOKEN="abc")  # fmt: skip
    with subprocess.Popen(
        line, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith(f"serving {base}, a at http://127.0.0.1:")
            url = line.split()[-1]
            headers = {"authorization": "Bearer abc"}
            body = {**CHAT, "max_tokens": 400, "stream": True}
            with httpx.stream("POST", url + "/chat/completions", json=body, headers=headers, timeout=60) as pending:
                lines = pending.iter_lines()
                next(lines)
                process.send_signal(signal.SIGTERM)
                assert list(filter(None, lines))[-1] == "data: [DONE]"  # pending requests are completed
            process.wait(60)
        finally:
            process.kill()
        assert process.returncode in {0, -signal.SIGTERM}
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--adapter", "a"], "name=folder"),
        (["--adapter", "a=x", "--adapter", "a=y"], "'a' twice"),
        (["--token-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE"),
        (["--base", "tinny"], "Did you mean 'tiny'"),
    ],
)
def test_invalid_command_lines(arguments, message):
    done = ragkit("serve", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
