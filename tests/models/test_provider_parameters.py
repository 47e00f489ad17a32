"""Parameters that models do not accept: known from profiles and a table, and learned from errors over real HTTP."""

import warnings
from types import SimpleNamespace

import pytest
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from scripted_server import Reply, ScriptedServer, failed, streamed, whole

from ragkit import load_model
from ragkit.errors import ModelError, RagkitWarning, UnsupportedError
from ragkit.models import Retry
from ragkit.models._provider_errors import rejected_setting
from ragkit.models._provider_parameters import Parameters, parameters_of
from ragkit.models._provider_settings import ProviderSettings
from ragkit.models._reasoning import Reasoning
from ragkit.records import Chat, Message

SAMPLING = {"temperature", "top_p", "stop", "seed"}


@pytest.fixture
def start():
    """Start a server with a script, and load a model of it."""
    servers = []

    def started(*replies, name="m"):
        servers.append(ScriptedServer(*(each if isinstance(each, Reply) else Reply(each) for each in replies)))
        servers[-1].__enter__()
        return load_model(f"openai:{name}", base_url=servers[-1].url, retry=Retry(attempts=1)), servers[-1]

    yield started
    for server in servers:
        server.__exit__()


def rejecting(message, status=400, **fields):
    return Reply(failed(message, **fields), status)


def known(name):
    return parameters_of(ChatOpenAI(model=name, api_key="none"), f"openai:{name}")


# Known parameters.


@pytest.mark.parametrize(
    ("name", "temperature", "stop", "reasons"),
    [
        ("gpt-4o-mini", True, True, False),
        ("gpt-4.1", True, True, False),
        ("gpt-5", False, False, True),
        ("gpt-5-mini-2025-08-07", False, False, True),  # no profile
        ("gpt-5.1", True, False, True),
        ("o3", False, False, True),
        ("o4-mini-2025-04-16", False, False, True),
        ("gpt-5-chat-latest", True, True, None),
        ("llama", True, True, None),
    ],
)
def test_what_models_of_openai_accept(name, temperature, stop, reasons):
    found = known(name)
    assert ("temperature" not in found.rejected, "stop" not in found.rejected) == (temperature, stop)
    assert found.reasons is reasons
    assert (found.seed, found.limit) == ("seed", "max_tokens")


@pytest.mark.parametrize(
    ("spec", "seed", "limit", "stops"),
    [
        ("anthropic:claude-x", None, "max_tokens", ["a", "b", "c", "d", "e", "f"]),
        ("google_genai:gemini-x", "seed", "max_output_tokens", ["a", "\n", "b", "c", "d"]),
        ("mistralai:mistral-x", "random_seed", "max_tokens", ["a", "\n", "b", "c", "d", "e", "f"]),
        ("openai:gpt-4o", "seed", "max_tokens", ["a", "\n", "b", "c"]),
    ],
)
def test_names_and_stop_sequences_differ_between_providers(spec, seed, limit, stops):
    found = parameters_of(SimpleNamespace(model=spec.partition(":")[2]), spec)
    assert (found.seed, found.limit) == (seed, limit)
    assert found.stops(["a", "\n", "b", "c", "d", "e", "f"]) == stops


def test_a_profile_decides():
    chat = SimpleNamespace(model="claude-x", profile={"temperature": False, "structured_output": False})
    assert {"temperature", "top_p", "schema"} <= parameters_of(chat, "anthropic:claude-x").rejected
    chat.profile = {"temperature": True, "reasoning_effort_levels": ["low", "high"], "reasoning_output": True}
    found = parameters_of(chat, "anthropic:claude-x")
    assert "temperature" not in found.rejected
    assert (found.efforts, found.reasons) == (("low", "high"), True)


def test_a_chat_model_that_the_caller_created():
    chat = AzureChatOpenAI(
        azure_deployment="d", model="o3", api_key="none", azure_endpoint="http://127.0.0.1:1", api_version="1"
    )
    found = parameters_of(chat, None)
    assert "stop" in found.rejected
    assert found.seed is None


def test_a_reasoning_model_is_called_without_them_from_the_start(start):
    model, server = start(whole("one\ntwo"), name="gpt-5")
    with pytest.warns(RagkitWarning, match="may vary between runs"):
        answer = model.generate("x", stop=["\n"])
    assert (answer.text, answer.omitted_settings) == ("one", ("temperature",))
    assert SAMPLING & server.requests[0].keys() == {"seed"}
    assert not model.capabilities.temperature
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate("y")
    with pytest.raises(UnsupportedError, match="temperature"):
        model.generate("x", temperature=0.7)
    assert len(server.requests) == 2


def test_the_answers_of_other_models_are_repeatable(start):
    model, server = start(whole("a"))
    assert model.generate("x").omitted_settings == ()
    assert model.capabilities.temperature
    assert server.requests[0]["temperature"] == 0.0


def test_more_stop_sequences_than_the_provider_accepts(start):
    model, server = start(whole("one;two"), streamed("one", ";two"))
    stop = ["a1", "a2", "a3", "a4", ";"]
    assert model.generate("x", stop=stop).text == "one"
    assert server.requests[0]["stop"] == stop[:4]
    assert "".join(model.stream("x", stop=stop)) == "one"


# Parameters learned from errors.


def test_what_an_error_said_holds_for_every_model_object_of_this_process(start):
    refusal = rejecting("Unsupported value: 'temperature' does not support 0.0", param="temperature")
    model, server = start(refusal, whole("a"))
    with pytest.warns(RagkitWarning, match="temperature"):
        model.generate("x")
    again = load_model("openai:m", base_url=server.url)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert again.generate("y").omitted_settings == ("temperature",)
    assert not again.capabilities.temperature
    assert ["temperature" in request for request in server.requests] == [True, False, False]
    other, elsewhere = start(whole("a"))
    other.generate("x")
    assert "temperature" in elsewhere.requests[0]


@pytest.mark.parametrize(
    "said",
    [
        "Unsupported parameter: 'max_completion_tokens' is not supported with this model. Use 'max_tokens' instead.",
        "{'loc': ['body', 'max_completion_tokens'], 'msg': 'Extra inputs are not permitted'}",
    ],
)
def test_a_parameter_under_another_name(start, said):
    model, server = start(rejecting(said), whole("a"))
    assert [model.generate(text, max_tokens=7).text for text in "xy"] == ["a", "a"]
    limits = ("max_completion_tokens", "max_tokens")
    sent = [tuple(request.get(name) for name in limits) for request in server.requests]
    assert sent == [(7, None), (None, 7), (None, 7)]


def test_a_limit_that_is_rejected_under_both_names_is_an_error(start):
    model, server = start(
        rejecting("Unsupported parameter: 'max_completion_tokens'"), rejecting("Unsupported parameter: 'max_tokens'")
    )
    with pytest.raises(ModelError, match="max_tokens"):
        model.generate("x")
    assert len(server.requests) == 2


def test_a_renamed_limit_keeps_the_body_of_the_caller():
    with ScriptedServer(rejecting("Unknown parameter: 'max_completion_tokens'"), Reply(whole("a"))) as server:
        chat = ChatOpenAI(model="m", base_url=server.url, api_key="none", max_retries=0)
        load_model(chat.bind(extra_body={"tenant": 7})).generate("x", max_tokens=5)
        assert [(each.get("tenant"), each.get("max_tokens")) for each in server.requests] == [(7, None), (7, 5)]


@pytest.mark.parametrize(
    "said",
    [
        "System role not supported",
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "Developer instruction is not enabled for models/gemma-3-27b-it",
    ],
)
def test_a_model_without_a_system_role(start, said):
    model, server = start(rejecting(said), whole("a"))
    chat = Chat((Message("system", "Be brief."), Message("user", "Hi")))
    assert [model.generate(each).text for each in (chat, chat)] == ["a", "a"]
    turns = [[(turn["role"], turn["content"]) for turn in request["messages"]] for request in server.requests]
    assert turns == [[("system", "Be brief."), ("user", "Hi")], *[[("user", "Be brief.\n\nHi")]] * 2]


def test_each_request_that_was_sent_before_an_error_is_repeated():
    error = Exception("System role not supported")
    error.status_code = 400
    settings = ProviderSettings("m", "http://several-in-progress", Parameters(), Reasoning())
    assert [settings.leave_out(error, (), system_role=sent) for sent in (True, True, False)] == [True, True, False]
    assert not settings.system_role


@pytest.mark.parametrize(
    ("said", "names", "found"),
    [
        ("Unrecognized request argument supplied: seed", ["seed", "stop"], "seed"),  # Azure
        ("temperature: Extra inputs are not permitted", ["seed", "temperature"], "temperature"),  # Anthropic
        ("`temperature` is deprecated for this model.", ["temperature"], "temperature"),
        ("`temperature` may only be set to 1 when thinking is enabled.", ["temperature"], "temperature"),
        ("`temperature` and `top_p` cannot both be specified for this model.", ["top_p", "temperature"], "top_p"),
        ("Invalid JSON payload received. Unknown name \"seed\" at 'generation_config'", ["seed"], "seed"),  # Google
        ("temperature: range: 0..1", ["temperature"], None),
    ],
)
def test_the_words_of_each_provider(said, names, found):
    error = Exception(said)
    error.status_code = 400
    assert rejected_setting(error, names) == found
