"""Reasoning before an answer: how it is requested, separated from the answer, counted, and truncated."""

from pathlib import Path

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from openai import OpenAI
from scripted_server import Reply, ScriptedServer, streamed, whole

from ragkit import Template, load_model
from ragkit._answering import Answering
from ragkit.answers._reasoning import answer_pieces, separate_reasoning
from ragkit.errors import InvalidInputError, ReasoningTruncatedError, UnsupportedError
from ragkit.models import Budget, LayeredModel, Price, Prices, Retry, ScriptedModel
from ragkit.models._api import LangChainModel
from ragkit.models._provider_parameters import Parameters
from ragkit.models._reasoning import Reasoning, answer_after_reasoning, reasoning_by_template, reasoning_of
from ragkit.models._sources import weights_of
from ragkit.records import Chat, Completion, Message, Usage
from ragkit_pipelines.compare.strategies.base import remarks
from ragkit_pipelines.serving import Server

ONCE = Retry(attempts=1)
COUNTED = {
    "prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 60,
    "completion_tokens_details": {"reasoning_tokens": 40},
}  # fmt: skip


@pytest.fixture
def start():
    servers = []

    def started(*replies, spec="openai:m", **options):
        servers.append(ScriptedServer(*map(Reply, replies)))
        servers[-1].__enter__()
        return load_model(spec, base_url=servers[-1].url, **{"retry": ONCE, **options}), servers[-1]

    yield started
    for server in servers:
        server.__exit__()


def message(text, **fields):
    reply = whole(text)
    reply["choices"][0]["message"] |= fields
    return reply


# Separation.


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("text", "begun", "reasoning", "answer"),
    [
        ("<think>B? No.</think>\n\nA", False, "B? No.", "A"),
        ("\n<think>\n</think>A", False, "", "A"),
        ("<|channel|>analysis<|message|>hm<|channel|>final<|message|>A", False, "hm", "A"),
        ("[THINK]hm[/THINK]A", False, "hm", "A"),
        ("A", False, "", "A"),
        ("a <think> tag</think>", False, "", "a <think> tag</think>"),
        ("<b>bold</b>", False, "", "<b>bold</b>"),
        ("", False, "", ""),
        ("<thin", False, "", "<thin"),
        ("hm</think>A", True, "hm", "A"),
        ("A", True, "", "A"),
        ("<think>hm</think>A </think> B", False, "hm", "A </think> B"),
    ],
)
def test_reasoning_is_separated_from_the_answer(text, begun, reasoning, answer, size):
    assert separate_reasoning(text, begun=begun) == (reasoning, answer, False)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert "".join(answer_pieces(pieces, begun=begun)) == answer


@pytest.mark.parametrize(("text", "begun"), [("<think>hm", False), (" <think>", False), ("hm", True)])
def test_truncated_reasoning_is_no_answer(text, begun):
    assert separate_reasoning(text, begun=begun, truncated=True)[1:] == ("", True)
    assert list(answer_pieces(text, begun=begun, truncated=lambda: True)) == []


# Replies of providers.


@pytest.mark.parametrize(
    "reply",
    [
        message("A", reasoning_content="B? No."),
        message("A", reasoning="B? No."),
        message("<think>B? No.</think>\nA"),
    ],
)
def test_reasoning_in_a_reply(start, reply):
    model, _ = start(reply)
    answer = model.generate("x")
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("A", "B? No.", "stop")


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "thinking", "thinking": "B? No.", "signature": "x"}, {"type": "text", "text": "A"}],  # Anthropic
        [{"type": "reasoning", "summary": [{"text": "B? "}, {"text": "No."}]}, {"type": "text", "text": "A"}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "B? No."}]}, {"type": "text", "text": "A"}],
    ],
)
def test_reasoning_among_the_blocks_of_a_message(content):
    model = LangChainModel(GenericFakeChatModel(messages=iter([AIMessage(content=content)])))
    answer = model.generate("x")
    assert (answer.text, answer.reasoning) == ("A", "B? No.")


def test_a_stream_yields_only_the_answer(start):
    body = streamed("<thi", "nk>B? ", "No.</th", "ink>\n", "A", "B")
    model, _ = start(body)
    stream = model.stream("x")
    assert list(stream) == ["A", "B"]
    assert (stream.completion.text, stream.completion.reasoning) == ("AB", "B? No.")


def test_a_stream_with_reasoning_in_fields_of_its_own(start):
    body = streamed("", "", "A").replace(b'"content": ""', b'"content": "", "reasoning_content": "hm"')
    model, _ = start(body)
    stream = model.stream("x")
    assert "".join(stream) == "A"
    assert stream.completion.reasoning == "hmhm"


def test_reasoning_tokens_have_a_price(start):
    prices = Prices({"openai:m": Price(input=1.0, output=2.0, reasoning=4.0)})
    model, _ = start({**message("A"), "usage": COUNTED}, prices=prices)
    answer = model.generate("x")
    assert answer.usage == Usage(prompt_tokens=10, completion_tokens=50, reasoning_tokens=40)
    assert answer.cost == pytest.approx((10 * 1 + 10 * 2 + 40 * 4) / 1e6)
    assert Price(input=1.0, output=2.0).cost(answer.usage) == pytest.approx(110 / 1e6)


TRUNCATED = [
    {**whole("", finish="length"), "usage": COUNTED},
    {**whole(None, finish="length"), "usage": COUNTED},
    whole("<think>B? No, but", finish="length"),
    streamed("<think>B? No", ", but", finish="length"),
]


@pytest.mark.parametrize("reply", TRUNCATED)
def test_an_answer_that_was_truncated_in_its_reasoning_is_an_error(start, reply, tmp_path):
    model, server = start(reply, cache=tmp_path / "cache.sqlite")
    for _ in range(2):
        with pytest.raises(ReasoningTruncatedError, match="max_reasoning_tokens") as caught:
            list(model.stream("x")) if isinstance(reply, bytes) else model.generate("x")
    assert caught.value.completion.truncated_in_reasoning
    assert caught.value.completion.finish_reason == "length"
    assert len(server.requests) == 2  # not cached


def test_its_tokens_are_spent(start):
    model, _ = start(TRUNCATED[0], budget=Budget(tokens=10_000))
    with pytest.raises(ReasoningTruncatedError):
        model.generate("x")
    assert model.budget.spent["tokens"] == 60


def test_a_comparison_counts_it_with_its_reason(start):
    model, _ = start(whole("red"), TRUNCATED[0])
    answering = Answering(LayeredModel(model, concurrency=1), Template(labels=("red", "blue")))
    read = answering.answers([answering.template.prompt([], text) for text in "xy"])
    assert [(answer.text, answer.readable) for answer, _ in read] == [("red", True), ("", False)]
    assert "truncated during its reasoning" in read[1][0].why
    said = remarks([completion for _, completion in read], model)
    assert said == "1 of 2 completions were truncated during reasoning; 40 of 55 completion tokens are reasoning"


def test_an_answer_that_was_truncated_after_its_reasoning_is_an_answer(start):
    model, _ = start(whole("<think>hm</think>The", finish="length"))
    answer = model.generate("x")
    assert (answer.text, answer.finish_reason) == ("The", "length")


def test_stop_sequences_do_not_end_the_reasoning(start):
    model, server = start(
        whole("<think>one"), whole("<think>one\ntwo</think>\nA\nB"), retry=Retry(attempts=2, first_wait=0)
    )
    answer = model.generate("x", stop=["\n"])
    assert (answer.text, answer.reasoning, answer.attempts) == ("A", "one\ntwo", 2)
    assert ["stop" in request for request in server.requests] == [True, False]


# Levels.


def of(provider, level=None, tokens=None, **parameters):
    return reasoning_of(f"{provider}:m", Parameters(**parameters), level, tokens)


REASONS = {"reasons": True, "efforts": ("minimal", "low", "medium", "high")}
ADAPTIVE = {"reasons": True, "efforts": ("low", "medium", "high", "xhigh", "max")}


@pytest.mark.parametrize(
    ("found", "active", "tokens", "fields", "body"),
    [
        (of("openai"), False, 0, {}, {}),
        (of("openai", rejected=frozenset({"temperature"}), **REASONS), True, 8192, {}, {}),
        (of("openai", "low", **REASONS), True, 2048, {"reasoning_effort": "low"}, {}),
        (of("openai", "high", 100, **REASONS), True, 100, {"reasoning_effort": "high"}, {}),
        (of("openai", "none", **REASONS), True, 2048, {"reasoning_effort": "minimal"}, {}),
        (of("openai", "none"), False, 0, {"reasoning_effort": "none"}, {}),
        (of("openai", "none", reasons=False), False, 0, {}, {}),
        (of("openai", None, 500), True, 500, {}, {}),
        (of("vllm", "none"), False, 0, {}, {"chat_template_kwargs": {"enable_thinking": False}}),
        (of("llamacpp", "low"), True, 2048, {},
         {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "low"}}),
        (of("anthropic", "none"), False, 0, {}, {}),
        (of("anthropic", "low", 500), True, 1024, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, {}),
        (of("anthropic", "low", **ADAPTIVE), True, 2048, {"reasoning_effort": "low"}, {}),
        (of("anthropic", "none", **ADAPTIVE), False, 0, {"thinking": {"type": "disabled"}}, {}),
        (of("google_genai", "none"), False, 0, {"thinking_budget": 0, "include_thoughts": False}, {}),
        (of("google_genai", "medium", **REASONS), True, 8192,
         {"thinking_level": "medium", "include_thoughts": True}, {}),
    ],
)  # fmt: skip
def test_each_provider_is_asked_in_its_own_way(found, active, tokens, fields, body):
    assert (found.active, found.tokens, found.fields, found.body) == (active, tokens, fields, body)


def test_levels_that_a_model_does_not_have():
    with pytest.raises(UnsupportedError, match="always reasons"):
        of("openai", "none", reasons=True)
    with pytest.raises(UnsupportedError, match="does not reason"):
        of("openai", "low", reasons=False)
    with pytest.raises(UnsupportedError, match="LangChain chat model"):
        of("cohere", "low")


def test_reasoning_has_tokens_of_its_own(start):
    model, server = start(whole("A"), spec="openai:gpt-5", reasoning="low", max_reasoning_tokens=500)
    with pytest.warns(match="temperature"):
        model.generate("x", max_tokens=7)
    assert (server.requests[0]["reasoning_effort"], server.requests[0]["max_completion_tokens"]) == ("low", 507)
    assert model.max_reasoning_tokens == 500
    other, _ = start(whole("A"), spec="openai:gpt-5")
    assert other.fingerprint != model.fingerprint


def test_a_budget_reserves_them(start):
    model, server = start(whole("A"), reasoning="low", budget=Budget(tokens=1000))
    with pytest.raises(Exception, match="the budget is 1,000"):
        model.generate("x", max_tokens=7)
    assert server.requests == []


@pytest.mark.parametrize(
    "arguments",
    [{"reasoning": "much"}, {"max_reasoning_tokens": -1}, {"max_reasoning_tokens": True},
     {"reasoning": "none", "max_reasoning_tokens": 5}],
)  # fmt: skip
def test_arguments_that_make_no_sense(arguments):
    with pytest.raises(InvalidInputError, match="reasoning"):
        load_model("openai:m", base_url="http://127.0.0.1:1/v1", **arguments)


# Local models.


SWITCH = (
    "{% if enable_thinking is defined and enable_thinking is false %}<think></think>"
    "{% elif enable_thinking is defined %}<think>{% endif %}"
)


def test_a_template_with_a_switch():
    low, variables = reasoning_by_template("m", SWITCH, "low", None)
    assert (low.active, low.tokens, variables) == (True, 2048, {"enable_thinking": True})
    assert reasoning_by_template("m", SWITCH, "none", None) == (Reasoning(), {"enable_thinking": False})
    assert reasoning_by_template("m", "{{ reasoning_effort }}", "high", 9)[1] == {"reasoning_effort": "high"}
    for template, level in (("{{ messages }}", "low"), ("{{ reasoning_effort }}", "none"), (None, "low")):
        with pytest.raises(UnsupportedError):
            reasoning_by_template("m", template, level, None)


def test_the_answer_of_a_local_model_after_its_reasoning():
    done = answer_after_reasoning(Completion(text="one\ntwo</think>\n\nA\nB"), ["\n"], "m")
    assert (done.text, done.reasoning, done.finish_reason) == ("A", "one\ntwo", "stop")
    cut = answer_after_reasoning(Completion(text="one", finish_reason="length"), [], "m")
    assert isinstance(cut, ReasoningTruncatedError)


def test_models_without_a_switch():
    with pytest.raises(UnsupportedError, match="chat template"):
        load_model("tiny", reasoning="low")
    with pytest.raises(InvalidInputError, match="language model"):
        load_model("replay:x", reasoning="low")


@pytest.fixture(scope="module")
def thinking_folder(tmp_path_factory):
    """SmolLM2 with a chat template that opens the reasoning if it is switched on."""
    folder = tmp_path_factory.mktemp("thinking")
    for file in Path(weights_of("smollm2").place).iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).symlink_to(file)
    original = load_model("smollm2").tokenizer.get_chat_template()
    (folder / "chat_template.jinja").write_text(original + SWITCH, encoding="utf-8")
    return folder


def test_a_local_model_reasons_before_its_answer(thinking_folder):
    turns = [
        Message("system" if not turn else "user" if turn % 2 else "assistant", text)
        for turn, text in enumerate(
            ["Reason, then name the colour.", "sky", "<think>The sky is blue.\n</think>blue", "grass",
             "<think>The grass is green.\n</think>green", "sky"]
        )
    ]  # fmt: skip
    chat = Chat(tuple(turns))
    model = load_model(f"hf:{thinking_folder}", reasoning="low", max_reasoning_tokens=24)
    assert not model.capabilities.choices
    assert model.tokenizer.decode(model.encode_prompt(chat)).endswith("<think>")
    answer = model.generate(chat, max_tokens=4, stop=["\n"])
    assert (answer.text, answer.reasoning) == ("blue", "The sky is blue.")
    assert 0 < answer.usage.reasoning_tokens < answer.usage.completion_tokens
    stream = model.stream(chat, max_tokens=4, stop=["\n"])
    assert "".join(stream) == stream.completion.text == "blue"
    short = load_model(f"hf:{thinking_folder}", reasoning="low", max_reasoning_tokens=1)
    with pytest.raises(ReasoningTruncatedError):
        short.generate(chat, max_tokens=1)
    off = load_model(f"hf:{thinking_folder}", reasoning="none")
    assert off.tokenizer.decode(off.encode_prompt(chat)).endswith("<think></think>")
    assert len({model.fingerprint, short.fingerprint, off.fingerprint}) == 3


def test_a_served_model_reasons_before_its_answer(thinking_folder):
    turns = [{"role": "user", "content": "sky"}, {"role": "assistant", "content": "<think>It is blue.\n</think>blue"},
             {"role": "user", "content": "grass"}, {"role": "assistant", "content": "<think>It is blue.\n</think>blue"},
             {"role": "user", "content": "sky"}]  # fmt: skip
    spec = f"hf:{thinking_folder}"
    with Server(spec, reasoning="low", max_reasoning_tokens=24) as server:
        asked = {"model": spec, "messages": turns, "max_tokens": 4, "stop": ["\n"]}
        api = OpenAI(base_url=server.url, api_key="none", max_retries=0)
        with api:
            reply = api.chat.completions.create(**asked)
            (choice,) = reply.choices
            assert (choice.message.content, choice.message.reasoning_content) == ("blue", "It is blue.")
            assert 0 < reply.usage.completion_tokens_details.reasoning_tokens < reply.usage.completion_tokens
            chunks = api.chat.completions.create(**asked, stream=True)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "blue"
        answer = load_model(f"openai:{spec}", base_url=server.url).generate(
            Chat(tuple(Message(**turn) for turn in turns)), max_tokens=4, stop=["\n"]
        )
        assert (answer.text, answer.reasoning) == ("blue", "It is blue.")
    with Server(spec, reasoning="low", max_reasoning_tokens=1) as server:
        with OpenAI(base_url=server.url, api_key="none", max_retries=0) as api:
            reply = api.chat.completions.create(**{**asked, "max_tokens": 1})
        assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("", "length")
    with Server(spec, reasoning="none") as server:
        with OpenAI(base_url=server.url, api_key="none", max_retries=0) as api:
            reply = api.chat.completions.create(**asked, logprobs=True)  # as of any local model
        assert "<think>" not in reply.choices[0].message.content
        assert reply.choices[0].logprobs.content


def test_reasoning_of_a_server_needs_a_spec_without_adapters():
    for arguments in ({"model": ScriptedModel(["a"])}, {"model": "tiny", "adapters": {"a": "folder"}}):
        with pytest.raises(InvalidInputError, match="require `model` to be a spec"):
            Server(**arguments, reasoning="low")
    with pytest.raises(UnsupportedError, match="no chat template"):
        Server("tiny", reasoning="low")
