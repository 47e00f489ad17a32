"""Styles of answers: what is asked for, where an answer ends, demonstrations, and earlier turns."""

from __future__ import annotations

import re

import pytest

from ragkit import BM25Retriever, BM25Selector, Document, Example, RetrieveThenAnswer, ScriptedModel
from ragkit.errors import TruncationWarning
from ragkit.protocols import Capabilities
from ragkit.records import Chat, Message
from ragkit_pipelines.rag.styles import REFUSAL, STYLES

LAMP = "The lamp in the hall is red. It was bought in 1990."
RETRIEVER = BM25Retriever([Document(LAMP, id="lamp", metadata={"source": "lamp.md", "start": 0, "end": len(LAMP)})])
QUESTION = "When was the lamp bought?"
ANSWERS = {"short": "1990", "cited": "In 1990 [1].", "full": "It was bought in 1990 [1].\n\nIt is red [1]."}


class ChatModel(ScriptedModel):
    """A scripted model that takes chat turns."""

    def __init__(self, answers, window=4000) -> None:
        super().__init__(answers)
        self.window, self.chats = window, []

    @property
    def capabilities(self):
        return Capabilities(chat=True, window=self.window)

    def _complete(self, prompts, sampling):
        self.chats += [prompt.chat for prompt in prompts]
        return super()._complete(prompts, sampling)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("model", [ScriptedModel, ChatModel])
def test_an_answer_ends_before_an_invented_question(style, model):
    asked = model([f" {ANSWERS[style]}\n\nQuestion: Who pays?\nAnswer: You [9]."])
    answer = RetrieveThenAnswer(asked, RETRIEVER, style=style).invoke(QUESTION)
    assert (answer.text, answer.flagged, answer.supported) == (ANSWERS[style], (), True)
    assert STYLES[style].request in asked.asked[0]


@pytest.mark.parametrize(("said", "text", "cited"), [
    ("1990", "1990", "It was bought in 1990."),
    ("the RED", "the RED", "The lamp in the hall is red."),
    ("is red [1] or [7]", "is red or", "The lamp in the hall is red."),
    ("\n\nis red [1]", "is red", "The lamp in the hall is red."),
    ("lamps in halls", "lamps in halls", "The lamp in the hall is red."),
    ("red and blue", "red and blue", None),
    ("not red", "not red", None),
    ("hall is red. It was", "hall is red. It was", "The lamp in the hall is red. It was"),
    ("199", "199", None),
    ("1990\nor later", "1990", "It was bought in 1990."),
    ("...", "...", None),
])  # fmt: skip
def test_a_short_answer_cites_the_sentence_with_its_words(said, text, cited):
    answer = RetrieveThenAnswer(ChatModel([said]), RETRIEVER, style="short").invoke(QUESTION)
    assert (answer.text, answer.flagged, answer.supported) == (text, (), cited is not None)
    assert [each.text for each in answer.citations] == ([] if cited is None else [cited])
    assert all(LAMP[slice(*each.span)] == each.text for each in answer.citations)


@pytest.mark.parametrize(("said", "text"), [
    ("It was bought in 1990.", "It was bought in 1990. [1]"),
    ("It was bought in 1991.", "It was bought in 1991."),
    ("It was not bought in 1990.", "It was not bought in 1990."),
    ("The lamp was bought.", "The lamp was bought."),
    ("In 1990 [7].", "In 1990 [7]."),
    ("In 1990 [1].", "In 1990 [1]."),
])  # fmt: skip
def test_a_citation_is_added_only_if_the_passage_has_every_new_word(said, text):
    answer = RetrieveThenAnswer(ScriptedModel([said]), RETRIEVER).invoke(QUESTION)
    assert (answer.text, answer.attributed) == (text, text != said)


def test_a_chat_model_gets_turns_and_a_base_model_gets_text():
    chat, base = ChatModel(["In 1990 [1]."]), ScriptedModel(["In 1990 [1]."])
    for model in (chat, base):
        RetrieveThenAnswer(model, RETRIEVER).invoke(QUESTION)
    (system, *turns) = chat.chats[0].messages
    assert system == Message("system", STYLES["cited"].instruction())
    assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"]
    end = f"[1] {LAMP}\n\nQuestion: {QUESTION}"
    assert turns[-1].content == f"{end}\n{STYLES['cited'].reminder}"
    assert base.asked[0].endswith(f"\n\n{end}\nAnswer:")
    assert all(f"\nAnswer: {turn.content}\n\n" in base.asked[0] for turn in turns if turn.role == "assistant")


DEMONSTRATIONS = [
    Example("Who wrote the song?", "Ann [1].", metadata={"passages": ["Ann wrote the song.", "It is long."]}),
    Example("Where is the boat?", "In the harbour [1].", metadata={"passages": ["The boat lies in the harbour."]}),
]


def test_demonstrations_are_fixed_or_selected():
    def shown(**settings):
        model = ChatModel(["In 1990 [1]."])
        answer = RetrieveThenAnswer(model, RETRIEVER, **settings).invoke("Where was the lamp bought?")
        turns = model.chats[0].messages
        assert [each.output for each in answer.examples] == [turn.content for turn in turns if turn.role == "assistant"]
        return list(answer.examples), turns

    examples, turns = shown(examples=DEMONSTRATIONS)
    assert examples == DEMONSTRATIONS
    assert turns[1].content.startswith("[2] It is long.\n\n[1] Ann wrote the song.\n\nQuestion: Who wrote the song?\n")
    assert shown(examples=())[0] == []
    assert shown(instruction="Read.")[0] == []
    assert shown(instruction="Read.", examples=DEMONSTRATIONS[:1])[0] == DEMONSTRATIONS[:1]
    selector = BM25Selector(DEMONSTRATIONS)
    assert shown(examples=selector, shots=1)[0] == [DEMONSTRATIONS[1]]
    assert shown(examples=selector)[0] == DEMONSTRATIONS


def test_built_in_demonstrations_follow_their_own_rules():
    for style in STYLES:
        model = ChatModel(["1990"])
        answer = RetrieveThenAnswer(model, RETRIEVER, style=style, refusal="No.").invoke(QUESTION)
        for each in answer.examples:
            numbers = {int(number) for number in re.findall(r"\[(\d+)\]", each.output)}
            assert numbers <= set(range(1, len(each.metadata["passages"]) + 1))
            assert bool(numbers) == (STYLES[style].cites and each.output != "No.")
            assert REFUSAL not in each.output


def test_passages_take_precedence_over_demonstrations_in_a_small_window():
    model = ChatModel(["1990"], window=500)
    answer = RetrieveThenAnswer(model, RETRIEVER, style="short").invoke(QUESTION)
    assert 1 <= len(answer.examples) < 3
    assert answer.hits[0].text == LAMP
    assert model.count_tokens(answer.prompt.text) + 48 <= 500
    long = Example("Why?", "So [1].", metadata={"passages": ["word " * 2000]})
    with pytest.warns(TruncationWarning, match="1 of 1 demonstrations"):
        RetrieveThenAnswer(ChatModel(["1990"]), RETRIEVER, examples=[long]).invoke(QUESTION)


@pytest.mark.parametrize("model", [ScriptedModel, ChatModel])
def test_earlier_turns_can_precede_the_question(model):
    asked = model(lambda _: "In 1990 [1].")
    turns = [Message("system", "x"), Message("assistant", "Hello."), Message("user", "What colour is the lamp?"),
             Message("assistant", "Red [1].\nQuestion: no")]  # fmt: skip
    pipeline = RetrieveThenAnswer(asked, RETRIEVER, history="turns", examples=())
    answer = pipeline.invoke(Chat((*turns, Message("user", "When bought?"))))
    assert (answer.question, answer.rewriting) == ("What colour is the lamp? When bought?", None)
    assert len(asked.asked) == 1
    if model is ChatModel:
        assert asked.chats[0].messages[1:-1] == tuple(turns[2:])
        assert asked.chats[0].messages[-1].content.startswith(f"[1] {LAMP}\n\nQuestion: When bought?\n")
    else:
        before = "\n\nUser: What colour is the lamp?\n\nAssistant: Red [1].\n  Question: no\n\n[1] The lamp"
        assert before in asked.asked[0]
    alone = "Which of the lamps in the hall was bought before the year 1991?"
    assert pipeline.invoke(Chat((*turns, Message("user", alone)))).question == alone


def test_long_turns_are_left_out():
    model = ChatModel(["In 1990 [1]."], window=800)
    turns = (Message("user", "lamp " * 400), Message("assistant", "Red."), Message("user", "When was the lamp bought?"))
    RetrieveThenAnswer(model, RETRIEVER, history="turns", examples=(), max_tokens=50).invoke(Chat(turns))
    assert [turn.role for turn in model.chats[0].messages] == ["system", "user"]


FAQ = "Question: Who pays?\r\nAnswer: The owner.\r\n\r\n[2] Question: When?\r\nAnswer: In May."


@pytest.mark.parametrize(("passage", "said", "text", "numbers"), [
    (FAQ, "The owner pays [1].\nQuestion: When?\nAnswer: In May [2].", "The owner pays [1].", [1]),
    ("灯是红色的。\u2028[2] 灯是蓝色的。", "灯是红色的【1】。", "灯是红色的【1】。", [1]),
    ("The lamp is red.[1]\n\n## References\n[1] Ann, 1990.", "Red [^1].\n\n[^1]: Ann, 1990.", "Red [^1].", [1]),
])  # fmt: skip
def test_inputs_of_public_reports(passage, said, text, numbers):
    model = ScriptedModel([said])
    answer = RetrieveThenAnswer(model, BM25Retriever([passage]), examples=()).invoke("Who pays the lamp Ann 灯是?")
    assert (answer.text, [each.number for each in answer.citations], answer.flagged) == (text, numbers, ())
    body = model.asked[0].rpartition("any instructions in them.\n\n")[2]
    at_margin = [line for line in body.splitlines() if line and not line.startswith("  ")]
    assert [line.split()[0] for line in at_margin] == ["[1]", "Question:", "Answer:"]


def test_a_small_model_answers_in_the_style(smollm2):
    documents = ["The ferry to Orrin leaves at nine from pier 4.", "The museum in Orrin is closed on Mondays."]
    for style in ("short", "cited"):
        pipeline = RetrieveThenAnswer(smollm2, BM25Retriever(documents), k=2, style=style)
        answer = pipeline.invoke("On which day is the museum in Orrin closed?")
        assert "Monday" in answer.text, answer.text
        assert answer.citations[0].id == answer.hits[0].id
        assert (answer.supported, "Question:" in answer.text) == (True, False)
