"""Text models on servers: what is sent, and scores that equal those of the same model on this machine."""

from math import log

import numpy as np
import pytest
from scripted_server import Reply, ScriptedServer, failed

from ragkit import Example, Task, Template, compare, load_model
from ragkit.errors import (
    InvalidInputError,
    ModelAccessError,
    ModelError,
    PromptTooLongError,
    TransientModelError,
    UnsupportedError,
)
from ragkit.models import Price, Prices, Retry
from ragkit.models._servers import ServedModel
from ragkit.models._text_completions import TextModel
from ragkit.records import Chat, Message, Prompt
from ragkit.testing import LanguageModelContract
from ragkit_pipelines.serving import Server

PROMPTS = ["Input: dim the lamp\nOutput:", "red", "naïve 東京 🙂"]
CHOICES = [" open the door", " lamp", " lamp fan", "é", ""]
KEY = "sk-secret-1234567890"


@pytest.fixture(scope="module")
def local():
    return load_model("tiny")


@pytest.fixture(scope="module")
def server(local):
    with Server(local) as running:
        yield running


@pytest.fixture
def remote(server):
    return load_model("completions:tiny", base_url=server.url, retry=Retry(attempts=1))


class TestContract(LanguageModelContract):
    max_tokens = 8

    @pytest.fixture
    def model(self, remote):
        return remote


def test_answers_are_those_of_the_model(local, remote):
    settings = {"max_tokens": 12, "stop": ["e "], "temperature": 0.8, "seed": 3, "top_p": 0.9, "presence_penalty": 0.5}
    found, expected = remote.generate(PROMPTS, **settings), local.generate(PROMPTS, **settings)
    assert [(each.text, each.finish_reason) for each in found] == [(e.text, e.finish_reason) for e in expected]
    assert [each.usage.completion_tokens for each in found] == [each.usage.completion_tokens for each in expected]
    for prompt in PROMPTS:
        stream = remote.stream(prompt, max_tokens=12)
        assert "".join(stream) == local.generate(prompt, max_tokens=12).text
        assert stream.completion.usage.completion_tokens > 0


def test_scores_are_those_of_the_model(local, remote):
    assert remote.capabilities.score
    np.testing.assert_allclose(remote.score(PROMPTS, CHOICES), local.score(PROMPTS, CHOICES), atol=2e-4)
    assert remote.score([], CHOICES).shape == (0, 5)
    assert remote.score(PROMPTS, []).shape == (3, 0)


def test_a_comparison_scores_classes_that_begin_alike(local, remote, tmp_path):
    examples = [Example(f"{label} {number}", label) for label in ("light.on", "light.off") for number in range(6)]
    task = Task("Name it.", examples[::2], examples[1::2], labels=("light.on", "light.off"))
    rows = []
    for name, model in (("local", local), ("remote", remote)):
        done = compare(task, ["score", "channel:jaccard@2"], model=model, sizes=[4], out=tmp_path / name)
        rows.append(done.results.rows)
    for ours, theirs in zip(*rows, strict=True):
        assert (ours.score, ours.confidence_kind) == (theirs.score, "probability")
        assert ours.calibration.brier == pytest.approx(theirs.calibration.brier, abs=1e-3)


def test_the_log_probabilities_of_an_answer(local, remote):
    answer = remote.generate(PROMPTS[0], max_tokens=6, logprobs=True)
    assert "".join(token for token, _ in answer.logprobs) == answer.text
    total = local.score([PROMPTS[0]], [answer.text])[0, 0]
    assert sum(value for _, value in answer.logprobs) == pytest.approx(total, abs=1e-3)


def test_prompts_are_texts(remote, local):
    assert remote.generate(Prompt("red", form="text"), max_tokens=3).text == local.generate("red", max_tokens=3).text
    assert Template().for_model(remote).form == "text"
    with pytest.raises(UnsupportedError, match="no chat template"):
        remote.generate(Chat((Message("user", "x"),)))
    for settings in ({"choices": ["a"]}, {"schema": {"type": "object"}}):
        with pytest.raises(UnsupportedError, match="cannot honour"):
            remote.generate("x", **settings)


# Servers that differ.


def completed(text="hi", *, finish="stop", tokens=None, written=1, top=None):
    logprobs = None
    if tokens is not None:
        logprobs = {"tokens": [t for t, _ in tokens], "token_logprobs": [v for _, v in tokens], "top_logprobs": top,
                    "text_offset": []}  # fmt: skip
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": logprobs}
    usage = {"prompt_tokens": 3, "completion_tokens": written, "total_tokens": 3 + written}
    return {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


@pytest.fixture
def scripted():
    from openai import OpenAI

    servers = []

    def start(*replies, echoes=False, window=None):
        server = ScriptedServer(*(each if isinstance(each, Reply) else Reply(each) for each in replies)).__enter__()
        servers.append(server)
        client = OpenAI(base_url=server.url, api_key=KEY, max_retries=0)
        prices = Prices({"completions:m": Price(input=1.0, output=2.0)})
        model = TextModel(client, ServedModel("m", window), name="completions:m", prices=prices)
        model._echoes = echoes
        return model, server

    yield start
    for server in servers:
        server.__exit__()


def test_what_is_sent(scripted):
    model, server = scripted(completed("one\ntwo", finish="length"))
    answer = model.generate("x", max_tokens=7, stop=["\n"], seed=3)
    assert (answer.text, answer.finish_reason, answer.cost) == ("one", "stop", pytest.approx((3 + 2) / 1e6))
    (sent,) = server.requests
    assert sent == {"model": "m", "prompt": "x", "max_tokens": 7, "temperature": 0.0, "seed": 3, "stop": ["\n"]}


def test_a_token_that_reaches_into_the_choice_counts(scripted):
    before = completed(tokens=[("the", None), (" la", log(0.5)), ("?", -9.0)])
    joined = completed(tokens=[("the", None), (" lamp", log(0.25)), ("s", log(0.5)), ("?", -9.0)])
    model, server = scripted(before, joined, echoes=True)
    assert model.score(["the la"], ["mps"]).tolist() == [[pytest.approx(log(0.125))]]
    assert [(sent["prompt"], sent["echo"], sent["max_tokens"]) for sent in server.requests] == [
        ("the la", True, 1), ("the lamps", True, 1)
    ]  # fmt: skip


def test_tokens_before_the_text_do_not_matter(scripted):
    """A beginning-of-text token, and a server that generated nothing."""
    before = completed(tokens=[("<s>", None), ("the", -1.0)], written=0)
    joined = completed(tokens=[("<s>", None), ("the", -1.0), (" fan", -2.0)], written=0)
    model, _ = scripted(before, joined, echoes=True)
    assert model.score(["the"], [" fan"]).tolist() == [[-2.0]]


@pytest.mark.parametrize(
    ("reply", "echoes"),
    [
        (completed(tokens=[("one", None), (" two", -1.0), (" three", -1.0), ("x", -1.0)]), True),
        (completed(tokens=[("x", -1.0)]), False),  # llama.cpp ignores `echo`
        (completed(), False),
        (Reply(failed("echo is not supported"), 400), False),
    ],
)
def test_whether_a_server_echoes_is_found_out(scripted, reply, echoes):
    model, _ = scripted(reply)
    model.probe_echo()
    assert model.capabilities.score is echoes


def test_without_echo_the_first_token_tells_choices_apart(scripted):
    model, server = scripted(completed(tokens=[("A", log(0.7))], top=[{"A": log(0.7), " B": log(0.2)}]), completed())
    np.testing.assert_allclose(np.exp(model.score(["x"], ["A", "B"])), [[0.7, 0.2]], rtol=1e-9)
    assert server.requests[0]["logprobs"] == 5
    with pytest.raises(UnsupportedError, match="no probabilities"):
        model.score(["x"], ["A", "B"])


def test_log_probabilities_of_llamacpp(scripted):
    reply = completed("A")
    token = {"token": "A", "logprob": -0.5, "bytes": [65], "top_logprobs": [{"token": "A", "logprob": -0.5}]}
    reply["choices"][0]["logprobs"] = {"content": [token]}
    model, _ = scripted(reply)
    assert model.generate("x", logprobs=True).logprobs == (("A", -0.5),)
    assert model.score(["x"], ["A"]).tolist() == [[pytest.approx(-0.5)]]


def streamed(*texts, finish="stop"):
    import json

    events = [completed(text, finish=None) for text in texts] + ([completed("", finish=finish)] if finish else [])
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events) + b"data: [DONE]\n\n"


def test_a_stream_that_ends_early(scripted):
    model, _ = scripted(streamed("one", finish=None))
    with pytest.raises(TransientModelError, match="without a finish reason"):
        list(model.stream("x"))
    model, _ = scripted(streamed("one\n", "two", finish=None))
    assert list(model.stream("x", stop=["\n"])) == ["one"]


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (Reply(failed("This model's maximum context length is 9 tokens. However, you requested 12 tokens"), 400),
         PromptTooLongError, "12"),
        (Reply(failed(f"Incorrect API key: {KEY}"), 401), ModelAccessError, "api_key_env"),
        (Reply(failed("loading"), 503), TransientModelError, "still be loading"),
        (Reply({"choices": []}), TransientModelError, "no answer"),
    ],
)  # fmt: skip
def test_errors(scripted, reply, kind, said):
    model, _ = scripted(reply)
    with pytest.raises(kind, match=said) as caught:
        model.generate("x")
    assert KEY not in str(caught.value)


def test_errors_of_loading(server, monkeypatch):
    with pytest.raises(InvalidInputError, match="pass base_url"):
        load_model("completions:tiny")
    with pytest.raises(InvalidInputError, match="did you mean 'tiny'"):
        load_model("completions:tyni", base_url=server.url)
    with pytest.raises(ModelError, match=r"no server answers at http://127\.0\.0\.1:9/v1.*ragkit serve"):
        load_model("completions:tiny", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ModelError, match=f"pass base_url='{server.url}'"):
        load_model("completions:tiny", base_url=server.url.removesuffix("/v1"))
    with pytest.raises(InvalidInputError, match="`api_key_env`"):
        load_model("completions:tiny", base_url=server.url, api_key_env="MISSING")
    with pytest.raises(InvalidInputError, match="`reasoning`"):
        load_model("completions:tiny", base_url=server.url, reasoning="low")
