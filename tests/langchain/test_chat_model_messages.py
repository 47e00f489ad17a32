"""Messages of other providers' models, in the middle of a conversation, as conversations for ragkit's models."""

from functools import partial

import pytest
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.runnables import RunnableLambda

from ragkit import ScriptedModel
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.langchain import RagkitChatModel
from ragkit.records import Chat, Message, ToolCall
from ragkit_pipelines.langchain.messages import chat_of, prompts_of

CALL = {"name": "weather", "args": {"city": "Oslo"}, "id": "c1", "type": "tool_call"}


def test_only_the_text_of_an_answer_is_kept():
    openai = AIMessage(
        [{"type": "reasoning", "summary": []}, {"type": "text", "text": "It "}, {"type": "text", "text": "is."}]
    )
    anthropic = AIMessage(
        [
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}},
        ],
        tool_calls=[CALL],
    )
    chat = chat_of(
        [HumanMessage("Weather?"), openai, HumanMessage("Oslo"), anthropic, ToolMessage("rain", tool_call_id="c1")]
    )
    call = ToolCall("weather", '{"city": "Oslo"}', "c1")
    assert chat == Chat(
        (
            Message("user", "Weather?"),
            Message("assistant", "It is."),
            Message("user", "Oslo"),
            Message("assistant", "Let me see.", tool_calls=(call,)),
            Message("tool", "rain", answers=call),
        )
    )
    assert prompts_of(chat)[1] == (
        "Human: Weather?\nAI: It is.\nHuman: Oslo\n"
        'AI: Let me see.\nHuman: The result of weather(city="Oslo"):\nrain\nAI:'
    )


def test_roles_of_chat_messages():
    roles = ["developer", "user", "assistant", "human", "ai"]
    given = [ChatMessage(role=role, content=role) for role in roles]
    assert [turn.role for turn in chat_of(given).messages] == ["system", "user", "assistant", "user", "assistant"]
    result = chat_of([HumanMessage("x"), FunctionMessage(name="weather", content="rain")]).messages[1]
    assert result == Message("tool", "rain", answers=ToolCall("weather", "{}"))
    with pytest.raises(
        InvalidInputError, match=r"messages\[1\] is a ChatMessage with the role 'critic'; expected one of"
    ):
        chat_of([HumanMessage("x"), ChatMessage(role="critic", content="x")])


def test_plain_text_blocks():
    blocks = ["a", {"type": "text", "text": "b"}, {"type": "text-plain", "text": "c", "mime_type": "text/plain"}]
    assert chat_of([SystemMessage(blocks), HumanMessage(blocks)]).messages[1] == Message("user", "abc")
    result = ToolMessage([{"type": "text", "text": "rain"}], tool_call_id="c1", name="weather")
    assert chat_of([HumanMessage("x"), result]).messages[1].answers == ToolCall("weather", "{}", "c1")


@pytest.mark.parametrize(
    ("kind", "blocks", "says"),
    [
        (HumanMessage, [{"type": "image_url", "image_url": {"url": "data:"}}], "block 0 has the type 'image_url'"),
        (HumanMessage, ["x", {"type": "image", "url": "x"}], "block 1 has the type 'image'"),
        (HumanMessage, [{"type": "input_audio", "input_audio": {}}], "block 0 has the type 'input_audio'"),
        (HumanMessage, [{"type": "text-plain", "url": "https://example.org"}], "block 0 has the type 'text-plain'"),
        (AIMessage, [{"type": "image", "url": "https://example.org"}], "block 0 has the type 'image'"),
        (partial(ToolMessage, tool_call_id="1"), [{"type": "file", "file_id": "1"}], "block 0 has the type 'file'"),
    ],
)
def test_content_that_is_not_text(kind, blocks, says):
    chat, message = RagkitChatModel(model=ScriptedModel(["x"])), kind(blocks)
    with pytest.raises(UnsupportedError, match="a text that describes it") as caught:
        chat.invoke([SystemMessage("x"), message])
    assert f"messages[1] ({type(message).__name__}): content {says}" in str(caught.value)
    assert chat.language_model.asked == []


def test_messages_that_are_not_turns():
    chat = RagkitChatModel(model=ScriptedModel(["x"]))
    with pytest.raises(InvalidInputError, match=r"messages\[1\] is a RemoveMessage.*'m1'.*add_messages"):
        chat.invoke([HumanMessage("x"), RemoveMessage(id="m1")])


def test_a_fallback_in_the_middle_of_a_conversation():
    def fails(_):
        raise ConnectionError

    chat = RagkitChatModel(model=ScriptedModel(["It rains."]))
    failed = AIMessage("", invalid_tool_calls=[{"name": "weather", "args": '{"city', "id": "c0", "error": "cut"}])
    history = [
        HumanMessage("Oslo?"), failed, ToolMessage("malformed", tool_call_id="c0"),
        AIMessage("", tool_calls=[CALL, {**CALL, "id": "c2", "args": {"city": "Rome"}}]),
        ToolMessage("rain", tool_call_id="c1"), ToolMessage("sun", tool_call_id="c2"),
    ]  # fmt: skip
    assert RunnableLambda(fails).with_fallbacks([chat]).invoke(history).content == "It rains."
    assert 'The result of weather(city="Rome"):\nsun' in chat.language_model.asked[0]


def test_smollm2_reads_the_result_of_a_tool(smollm2):
    chat = RagkitChatModel(model=smollm2, max_tokens=16)
    history = [
        HumanMessage("What is the weather in Oslo?"),
        AIMessage("", tool_calls=[CALL]),
        ToolMessage("It is snowing in Oslo.", tool_call_id="c1"),
    ]
    assert "snow" in chat.invoke(history).content
