"""API models over real HTTP: a server on loopback runs `tiny`, and the answers must be those of `tiny` here."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import pytest
from openai_server import OpenAIServer

from ragkit.errors import ModelAccessError, ModelError, TransientModelError, UnsupportedError
from ragkit.models import load_model
from ragkit.models._api import LangChainModel
from ragkit.models._local import LocalModel
from ragkit.models._provider_errors import as_model_error
from ragkit.protocols import LanguageModel
from ragkit.records import Chat, Completion, Message, Prompt
from ragkit.testing import LanguageModelContract

KEY = "sk-secret-1234567890"
PROMPTS = [
    f"Input: dim the {word}\nOutput: fade {word}\n\nInput: dim the fan\nOutput:" for word in ("lamp", "vent", "é 🙂")
]


@pytest.fixture(scope="module")
def running(tiny: LocalModel):
    with OpenAIServer(tiny) as server:
        yield server


@pytest.fixture
def server(running: OpenAIServer):
    running.trouble = None
    running.requests.clear()
    running.keys.clear()
    return running


@pytest.fixture
def api(server: OpenAIServer):
    return load_model("openai:tiny", base_url=server.url)


class TestContract(LanguageModelContract):
    max_tokens = 8

    @pytest.fixture
    def model(self, api: LanguageModel):
        return api


def shown(answers: Sequence[Completion]):
    return [(answer.text, answer.usage, answer.finish_reason) for answer in answers]


@pytest.mark.parametrize(
    "settings", [{}, {"stop": ["\n\n"]}, {"stop": [" fade", "e"]}, {"temperature": 1.0, "seed": 5, "stop": ["\n\n"]}]
)
def test_answers_are_those_of_the_model_behind_it(api: LanguageModel, tiny: LocalModel, settings: dict[str, Any]):
    prompts = PROMPTS * 3
    assert shown(api.generate(prompts, max_tokens=12, **settings)) == shown(
        tiny.generate(prompts, max_tokens=12, **settings)
    )


def test_what_is_sent(api: LanguageModel, server: OpenAIServer):
    api.generate(Prompt("one ", "two"), max_tokens=7, temperature=0.5, stop=("a", "b"), seed=3)
    (body,) = server.requests
    assert body["messages"] == [{"role": "user", "content": "one two"}]
    assert (body["model"], body["temperature"], body["stop"], body["seed"]) == ("tiny", 0.5, ["a", "b"], 3)
    assert body.get("max_completion_tokens", body.get("max_tokens")) == 7


def test_a_chat_keeps_its_turns(api: LanguageModel, server: OpenAIServer):
    turns = (
        Message("system", "{Be} brief."),
        Message("user", "Hi"),
        Message("assistant", "Yes?"),
        Message("user", "Bye"),
    )
    api.generate(Chat(turns), max_tokens=2)
    sent = [(message["role"], message["content"]) for message in server.requests[0]["messages"]]
    assert sent == [(turn.role, turn.content) for turn in turns]


def test_batches_keep_their_order(api: LanguageModel, tiny: LocalModel):
    prompts = [f"Input: {number}\nOutput: {number}\n\nInput: {number}\nOutput:" for number in range(12)]
    answers = api.generate(prompts, max_tokens=4)
    assert shown(answers) == shown(tiny.generate(prompts, max_tokens=4))
    assert all(answer.cost is None and not answer.cached for answer in answers)


def test_no_key_is_needed_for_an_own_server(api: LanguageModel, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert api.generate("a", max_tokens=1).usage.completion_tokens == 1
    assert KEY not in str(server.keys)


def test_a_missing_key_is_explained():
    with pytest.raises(ModelError, match=r"openai:gpt-4o cannot be loaded .*set its key") as caught:
        load_model("openai:gpt-4o")
    assert caught.value.__cause__ is not None


def test_the_key_is_used_and_never_shown(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    model = load_model("openai:tiny", base_url=server.url)
    model.generate("a", max_tokens=1)
    assert server.keys == [f"Bearer {KEY}"]
    assert KEY not in f"{model!r} {model} {model.name} {model.fingerprint} {model.capabilities}"
    server.trouble = "401"
    with pytest.raises(ModelError, match="wrong key") as caught:
        model.generate("a", max_tokens=1)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert "[secret]" in str(caught.value)


def test_secrets_in_the_address_are_never_shown(server: OpenAIServer):
    address = server.url.replace("http://", "http://someone:hunter2@")
    model = load_model("openai:tiny", base_url=f"{address}?token=tokentoken")
    assert model.fingerprint == f"langchain:openai:tiny:{server.url}"
    with pytest.raises(ModelError) as caught:
        model.generate("a", max_tokens=1)
    told = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in told
    assert "tokentoken" not in told


def test_the_fingerprint_follows_the_address_and_the_name(server: OpenAIServer):
    loaded = [("openai:tiny", server.url), ("openai:tiny", "http://127.0.0.1:1/v1"), ("openai:other", server.url)]
    assert len({load_model(spec, base_url=url).fingerprint for spec, url in loaded}) == 3


@pytest.mark.parametrize(
    ("trouble", "said", "advice"),
    [
        ("500", "on fire", "check that the server is up"),
        ("not json", "<html>hello", "the reply is an HTML page"),
        ("empty", "IndexError", "check that the server is up"),
    ],
)
def test_trouble_on_the_server(server: OpenAIServer, trouble: str, said: str, advice: str):
    from langchain_openai import ChatOpenAI

    model = LangChainModel(
        ChatOpenAI(model="tiny", base_url=server.url, api_key="none", max_retries=0), name="openai:tiny"
    )
    server.trouble = trouble
    with pytest.raises(ModelError, match="openai:tiny gave no answer") as caught:
        model.generate(["a", "b"], max_tokens=1)
    assert said in str(caught.value)
    assert advice in str(caught.value)
    assert caught.value.__cause__ is not None
    server.trouble = None
    assert model.generate("a", max_tokens=1).usage.prompt_tokens > 0


def test_a_server_that_is_not_there():
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model="tiny", base_url="http://127.0.0.1:9/v1", api_key="none", max_retries=0)
    with pytest.raises(ModelError, match="Connection"):
        LangChainModel(chat).generate("a", max_tokens=1)


def test_a_langchain_chat_model_as_it_is(server: OpenAIServer, tiny: LocalModel):
    from langchain_openai import ChatOpenAI

    model = load_model(ChatOpenAI(model="tiny", base_url=server.url, api_key="none"))
    assert model.name == "ChatOpenAI:tiny"
    assert not model.capabilities.seed
    assert model.generate(PROMPTS[0], max_tokens=4).text == tiny.generate(PROMPTS[0], max_tokens=4).text
    assert "seed" not in server.requests[0]


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"finish_reason": "length"}, "length"),  # OpenAI and what speaks its protocol
        ({"stop_reason": "max_tokens"}, "length"),  # Anthropic
        ({"finish_reason": "MAX_TOKENS"}, "length"),  # Google, Cohere
        ({"stopReason": "max_tokens"}, "length"),  # Bedrock
        ({"done_reason": "length"}, "length"),  # Ollama
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"finish_reason": "STOP", "incomplete_details": None}, "stop"),
        ({"stop_reason": "end_turn"}, "stop"),
        ({}, "stop"),
    ],
)
def test_an_answer_that_was_cut_off_is_told_by_every_provider(told: dict[str, Any], reason: str):
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    model = LangChainModel(GenericFakeChatModel(messages=iter([AIMessage("a", response_metadata=told)])))
    assert model.generate("x").finish_reason == reason


def test_scores_are_refused(api: LanguageModel):
    with pytest.raises(UnsupportedError, match="openai:tiny gives no probabilities"):
        api.score(["a"], ["b"])


@pytest.mark.parametrize(
    ("status", "kind", "paid"),
    [(400, ModelError, False), (401, ModelAccessError, False), (404, ModelAccessError, False),
     (408, TransientModelError, True), (409, TransientModelError, False), (429, TransientModelError, False),
     (500, TransientModelError, True), (503, TransientModelError, True)],
)  # fmt: skip
def test_what_a_status_says_of_another_attempt_and_of_money(status: int, kind: type[ModelError], paid: bool):
    class ProviderError(Exception):
        status_code = status

    error = as_model_error(ProviderError("key sk-1 is odd"), "m", ["sk-1"])
    assert (type(error), error.maybe_paid) == (kind, paid)
    assert "key [secret] is odd" in str(error)
