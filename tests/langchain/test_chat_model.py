"""ragkit models as LangChain chat models: prompts, responses and errors."""

import asyncio

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter
from pydantic import BaseModel

from ragkit import ScriptedModel, load_model
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.langchain import RagkitChatModel
from ragkit.models._base import ModelBase
from ragkit.models._middleware import LayeredModel
from ragkit.protocols import Capabilities
from ragkit.records import Chat, Completion, Message, Usage


class Keeping(ModelBase):
    """Keeps what it is asked; answers in pieces, and by a schema where it is told that it can."""

    name = "keeping"
    fingerprint = "keeping:1"
    one_by_one = False

    def __init__(self, *, chats=True, schema=False) -> None:
        self.asked, self.chats, self.able = [], chats, schema

    @property
    def capabilities(self):
        return Capabilities(schema=self.able, batches=not self.one_by_one)

    def _complete(self, prompts, sampling):
        raise NotImplementedError

    def generate(self, prompts, **settings):
        self.asked.append((prompts, settings))
        several = prompts if isinstance(prompts, list) else [prompts]
        if not self.chats and any(isinstance(each, Chat) for each in several):
            raise UnsupportedError("no chat template")
        text = '{"city": "Paris"}' if settings.get("schema") else "Paris, of course"
        usage = Usage(prompt_tokens=7, cached_tokens=2, completion_tokens=3)
        done = Completion(text=text, usage=usage, cost=0.5, finish_reason="length")
        return [done] * len(several) if isinstance(prompts, list) else done

    def stream(self, prompt, *, max_tokens, temperature, stop, seed):
        whole = self.generate(prompt, max_tokens=max_tokens, temperature=temperature, stop=stop, seed=seed)
        yield from ("Paris", ", ", "of course")
        assert whole.text


CONVERSATION = [
    SystemMessage("Be brief."),
    SystemMessage([{"type": "text", "text": "Be kind."}]),
    HumanMessage("Hello", name="ann"),
    AIMessage("Hi"),
    HumanMessage("Capital of France?"),
    HumanMessage("Say only the name."),
]
CHAT = Chat(
    (
        Message("system", "Be brief.\n\nBe kind."),
        Message("user", "Hello"),
        Message("assistant", "Hi"),
        Message("user", "Capital of France?\n\nSay only the name."),
    )
)


def test_prompts():
    model = Keeping()
    chat = RagkitChatModel(model=model, max_tokens=9, stop=["\n"], seed=3)
    chat.invoke(CONVERSATION)
    chat.invoke("Capital of {France}?", stop=["."], temperature=0.5, max_tokens=4)
    asyncio.run(chat.ainvoke(CONVERSATION))
    assert [asked for asked, _ in model.asked] == [CHAT, "Capital of {France}?", CHAT]
    assert model.asked[0][1] == {"max_tokens": 9, "temperature": 0.0, "seed": 3, "stop": ["\n"]}
    assert model.asked[1][1] == {"max_tokens": 4, "temperature": 0.5, "seed": 3, "stop": ["."]}


def test_a_model_without_a_chat_template_gets_a_transcript():
    model = Keeping(chats=False)
    chat = RagkitChatModel(model=model)
    transcript = (
        "System: Be brief.\n\nBe kind.\nHuman: Hello\nAI: Hi\nHuman: Capital of France?\n\nSay only the name.\nAI:"
    )
    chat.invoke(CONVERSATION)
    list(chat.stream(CONVERSATION))
    asyncio.run(chat.ainvoke(CONVERSATION))
    assert [asked for asked, _ in model.asked] == [CHAT, transcript] * 3
    model.asked.clear()
    chat.batch([CONVERSATION, "x"])
    assert [asked for asked, _ in model.asked] == [[CHAT, "x"], [transcript, "x"]]
    with pytest.raises(UnsupportedError, match="no chat template"):
        RagkitChatModel(model=Refusing()).invoke("x")
    with pytest.raises(UnsupportedError, match="no chat template"):
        RagkitChatModel(model=Refusing()).batch(["x", "y"])


class Refusing(Keeping):
    """Can nothing."""

    def generate(self, prompts, **settings):
        raise UnsupportedError("no chat template")


def test_responses():
    chat = RagkitChatModel(model=Keeping())
    message = chat.invoke("x")
    assert message.content == "Paris, of course"
    assert message.usage_metadata == {
        "input_tokens": 7,
        "output_tokens": 3,
        "total_tokens": 10,
        "input_token_details": {"cache_read": 2},
    }
    assert message.response_metadata["model_name"] == "keeping"
    assert message.response_metadata["finish_reason"] == "length"
    assert message.response_metadata["cost"] == 0.5
    chunks = list(chat.stream("four byte tokens"))
    assert [chunk.content for chunk in chunks] == ["Paris", ", ", "of course", ""]
    whole = sum(chunks[1:], chunks[0])
    assert whole.usage_metadata["input_tokens"] == 4  # counted by the model: bytes over four
    assert whole.usage_metadata["output_tokens"] == 4
    with get_usage_metadata_callback() as told:
        chat.batch(["x", "y"])
    assert told.usage_metadata["keeping"]["total_tokens"] == 20


def test_responses_equal_those_of_the_model(tiny):
    chat = RagkitChatModel(model=tiny, max_tokens=12)
    prompts = ["turn on the light ->", "Q: what time is it?\nA:"]
    expected = [done.text for done in tiny.generate(prompts, max_tokens=12)]
    assert [message.content for message in chat.batch(prompts)] == expected
    assert "".join(chunk.content for chunk in chat.stream(prompts[0])) == expected[0]
    assert asyncio.run(chat.ainvoke(prompts[1])).content == expected[1]
    assert load_model(chat).generate(prompts[0], max_tokens=12).text == expected[0]  # and back again


class Tokens(BaseCallbackHandler):
    """Keeps tokens."""

    def __init__(self) -> None:
        self.tokens = []

    def on_llm_new_token(self, token, **_):
        self.tokens.append(token)


def test_callbacks_receive_tokens():
    told = Tokens()
    RagkitChatModel(model=Keeping(), streaming=True).invoke("x", {"callbacks": [told]})
    assert told.tokens == ["Paris", ", ", "of course", ""]

    async def events():
        chain = ChatPromptTemplate.from_template("{word}") | RagkitChatModel(model=Keeping()) | StrOutputParser()
        return [event async for event in chain.astream_events({"word": "x"}, version="v2")]

    seen = [event for event in asyncio.run(events()) if event["event"] == "on_chat_model_stream"]
    assert [event["data"]["chunk"].content for event in seen] == told.tokens


class Runs(BaseCallbackHandler):
    """Keeps what happened to each run, in order."""

    def __init__(self) -> None:
        self.seen = []

    def on_chat_model_start(self, serialized, messages, *, run_id, **more):
        self.seen.append(("start", messages[0][-1].content, more["metadata"]["ls_model_name"]))

    def on_llm_end(self, response, **_):
        self.seen.append(("end", response.generations[0][0].message.content))

    def on_llm_error(self, error, **_):
        self.seen.append(("error", str(error)))


class Upper(Keeping):
    """Answers in capitals; does not answer "bad"."""

    def generate(self, prompts, **settings):
        self.asked.append((prompts, settings))
        if "bad" in prompts:
            raise InvalidInputError("bad was asked")
        return [Completion(text=each.upper()) for each in prompts] if isinstance(prompts, list) else None


def batches(chat):
    return (chat.batch, lambda *asked, **more: asyncio.run(chat.abatch(*asked, **more)))


def test_a_batch_is_one_call():
    model = Upper()
    chat = RagkitChatModel(model=model)
    chain = ChatPromptTemplate.from_template("{word}") | chat | StrOutputParser()
    for run in batches(chat):
        told = [Runs(), Runs(), Runs()]
        words = ["a", "b", "c"]
        answers = run(words, [{"callbacks": [each]} for each in told], max_tokens=5)
        assert [answer.content for answer in answers] == ["A", "B", "C"]
        assert [each.seen for each in told] == [[("start", w, "keeping"), ("end", w.upper())] for w in words]
    for run in batches(chain):
        assert run([{"word": word} for word in "ab"]) == ["A", "B"]
    for run in batches(chat):
        assert [answer.content for answer in run(["a", "b", "c"], {"max_concurrency": 2})] == ["A", "B", "C"]
        assert run([]) == []
    assert [asked for asked, _ in model.asked] == [["a", "b", "c"]] * 2 + [["a", "b"]] * 2 + [["a", "b"], ["c"]] * 2
    assert [settings["max_tokens"] for _, settings in model.asked[:3]] == [5, 5, 256]


def test_an_invalid_input_in_a_batch():
    for place in (0, 1):
        told, chat = Runs(), RagkitChatModel(model=Upper())
        run = batches(chat)[place]
        with pytest.raises(InvalidInputError, match="bad was asked"):
            run(["a", "bad", "c"], {"callbacks": [told]})
        assert len(chat.language_model.asked) == 1  # a failed batch is not repeated if the error is raised
        assert sorted(told.seen)[:3] == [("error", "bad was asked")] * 3
        first, second, third = run(["a", "bad", "c"], return_exceptions=True)
        assert (first.content, third.content) == ("A", "C")
        assert isinstance(second, InvalidInputError)
        with pytest.raises(InvalidInputError, match="'tempature'"):
            run(["a", "b"], tempature=1)


def test_batches_that_langchain_processes():
    alone = Keeping()
    alone.one_by_one = True
    kept, limited, streaming = Keeping(), Keeping(), Keeping()
    for chat in (
        RagkitChatModel(model=alone),
        RagkitChatModel(model=kept, cache=InMemoryCache()),
        RagkitChatModel(model=limited, rate_limiter=InMemoryRateLimiter(requests_per_second=1000)),
        RagkitChatModel(model=streaming, streaming=True),
        RagkitChatModel(model=LayeredModel(alone)),
    ):
        for run in batches(chat):
            assert [answer.content for answer in run(["x", "y"])] == ["Paris, of course"] * 2
    for model in (alone, kept, limited, streaming):
        assert all(isinstance(asked, str) or len(asked) == 1 for asked, _ in model.asked)
    assert len(kept.asked) == 2


class InWords(ScriptedModel):
    """Cannot be held to a schema, and is asked for it in words."""

    capabilities = Capabilities()


class City(BaseModel):
    """A city."""

    city: str


def test_structured_output():
    able = Keeping(schema=True)
    assert RagkitChatModel(model=able).with_structured_output(City).invoke("x") == City(city="Paris")
    asked, settings = able.asked[0]
    assert asked == "x"
    assert settings["schema"]["properties"]["city"]["type"] == "string"
    texts = InWords(['{"city": "Rome"}', "Rome", '```json\n{"city": 3}\n```', '{"city": "Oslo"}'])
    chat = RagkitChatModel(model=texts)
    assert chat.with_structured_output(City).invoke([("human", "Where?")]) == City(city="Rome")
    assert '"city"' in texts.asked[0]
    assert texts.asked[0].startswith("Where?\n\n")
    with pytest.raises(OutputParserException, match="Rome"):
        chat.with_structured_output(City).invoke("x")
    raw = chat.with_structured_output(City, include_raw=True).invoke("x")
    assert raw["parsed"] is None
    assert isinstance(raw["parsing_error"], OutputParserException)
    assert "3" in raw["raw"].content
    schema = {"title": "City", "description": "A city.", "type": "object", "properties": {"city": {"type": "string"}}}
    assert chat.with_structured_output(schema).invoke("x") == {"city": "Oslo"}


@pytest.mark.parametrize("schema", [True, False], ids=["constrained", "prompted"])
def test_structured_output_in_batches_and_streams(schema):
    model = Keeping(schema=True) if schema else InWords(['{"city": "Paris"}'] * 9)
    paris = RagkitChatModel(model=model).with_structured_output(City)
    assert paris.batch(["x", "y"]) == [City(city="Paris")] * 2
    assert asyncio.run(paris.abatch(["x", "y"])) == [City(city="Paris")] * 2
    assert list(paris.stream("x")) == [City(city="Paris")]
    assert len(model.asked) == (3 if schema else 5)
    streaming = RagkitChatModel(model=model, streaming=True).with_structured_output(City)
    assert streaming.invoke("x") == City(city="Paris")


def test_callbacks_of_a_batch_receive_the_schema():
    told = []

    class Listener(BaseCallbackHandler):
        def on_chat_model_start(self, serialized, messages, **facts):
            told.append(facts["options"]["ls_structured_output_format"]["schema"]["title"])

    chat = RagkitChatModel(model=Keeping(schema=True)).with_structured_output(City)
    chat.batch(["x", "y"], {"callbacks": [Listener()]})
    assert told == ["City", "City"]


def test_langchains_cache_distinguishes_models_and_settings():
    cache = InMemoryCache()
    first, second = Keeping(), Keeping()
    second.fingerprint = "keeping:2"
    for model, most in ((first, 5), (first, 5), (first, 6), (second, 5)):
        RagkitChatModel(model=model, cache=cache, max_tokens=most).invoke("x")
    assert (len(first.asked), len(second.asked)) == (2, 1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: RagkitChatModel(model="tinny"), "Did you mean 'tiny'"),
        (lambda: RagkitChatModel(model=ScriptedModel([]), temprature=1), "Extra inputs are not permitted"),
        (lambda: RagkitChatModel(model=ScriptedModel([]), max_tokens=0), "greater than or equal to 1"),
        (lambda: RagkitChatModel(model=ScriptedModel([])).invoke("x", tempature=1), "'tempature'"),
        (lambda: RagkitChatModel(model=ScriptedModel([])).invoke([]), "message"),
    ],
)
def test_invalid_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
