"""Templates: text goes in once, is never read as a template, and comes out again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import InvalidInputError
from ragkit.records import Chat, Example, Message, Prompt
from ragkit.templates import Template

HOSTILE = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.sampled_from(
            ["{input}", "{output}", "{{", "}}", "{", "}", "{0}", "%s", "$x", "{{x}}", "\\n", "\n", "Output:", "a"]
        ),
        max_size=6,
    ).map("".join),
)


def test_a_prompt_by_value():
    template = Template(instruction="Name the colour.")
    prompt = template.prompt([Example("sky", "blue"), Example("blood", "red")], "grass")
    turns = [("system", "Name the colour."), ("user", "sky"), ("assistant", "blue"), ("user", "blood"),
             ("assistant", "red"), ("user", "grass")]  # fmt: skip
    assert prompt == Prompt(
        "Name the colour.\n\nInput: sky\nOutput: blue\n\nInput: blood\nOutput: red\n\n",
        "Input: grass\nOutput:",
        chat=Chat(tuple(Message(role, content) for role, content in turns)),
    )
    assert prompt.text == prompt.prefix + prompt.suffix
    assert template.stop == ("\n\n",)


def test_without_examples_and_instruction():
    expected = Prompt("", "Input: grass\nOutput:", chat=Chat((Message("user", "grass"),)))
    assert Template().prompt([], "grass") == expected


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_values_are_never_formatted(instruction: str, first: str, output: str, query: str):
    template = Template(instruction=instruction)
    head = f"{instruction}\n\n" if instruction else ""
    expected = head + "Input: " + first + "\nOutput: " + output + "\n\n" + "Input: " + query + "\nOutput:"
    assert template.prompt([Example(first, output)], query).text == expected


@given(HOSTILE, HOSTILE)
def test_fields_are_never_formatted(title: str, body: str):
    template = Template(query="T {title} B {body} T {title} =>", answer=" {output}")
    assert template.render_query({"title": title, "body": body}) == f"T {title} B {body} T {title} =>"


@given(HOSTILE.filter(lambda text: "\n\n" not in text.strip() and not text.startswith("\n")), HOSTILE)
def test_an_answer_is_read_back(output: str, following: str):
    template = Template()
    written = template.render_answer(output) + template.render_query(following)
    assert template.read_answer(written) == output.strip()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (" blue\n\nInput: red", "blue"),
        ("\n\nInput: red\nOutput: x", ""),
        (" \n\nInput: red", ""),
        (" blue \n", "blue"),
        ("", ""),
        ("\nblue\n\nred", "blue"),
    ],
)
def test_read_answer_ends_at_the_first_separator(written: str, read: str):
    assert Template().read_answer(written) == read


def test_other_delimiters():
    template = Template(query="Q<{input}>", answer="[{output}]", separator="###", instruction="I")
    assert template.prompt([Example("a###b", "c")], "d").text == "I###Q<a###b>[c]###Q<d>"
    assert template.stop == ("###",)


def test_other_braces_are_literal():
    template = Template(query='{"q": {input}, {}, {0}, { input }, {{input}} }', answer=" {{{output}}}")
    assert template.render_query("x") == '{"q": x, {}, {0}, { input }, {x} }'
    assert template.render_answer("y") == " {{y}}\n\n"


def test_input_of_several_fields():
    value = {"question": "who?", "context": "{question}"}
    assert Template().render_query(value) == "Input: question: who?\ncontext: {question}\nOutput:"
    named = Template(query="{context} | {question} =")
    assert named.render_query(value) == "{question} | who? ="
    assert Template().render_query({"input": "own", "more": "x"}) == "Input: own\nOutput:"


def test_a_missing_field_is_named():
    template = Template(query="{question} of {topic}:")
    with pytest.raises(InvalidInputError, match=r"'topic'.*\['input', 'question'\]"):
        template.render_query({"question": "who?"})
    with pytest.raises(InvalidInputError, match="'question'"):
        template.render_query("who?")


def test_a_field_that_is_no_text():
    with pytest.raises(InvalidInputError, match=r"'year'.*int"):
        Template().render_query({"year": 1984})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query": "no field"}, "query"),
        ({"query": "{0} {}"}, "query"),
        ({"answer": "no field"}, "answer"),
        ({"answer": "{output} {output}"}, "answer"),
        ({"answer": "{input} {output}"}, "answer"),
        ({"separator": ""}, "separator"),
    ],
)
def test_bad_templates(change: dict[str, Any], said: str):
    with pytest.raises(InvalidInputError, match=f"`{said}` must"):
        Template(**change)


def test_the_chat_form_writes_answers_alone_and_reads_all_of_them():
    template = Template(form="chat")
    assert (template.render_answer("blue"), template.stop) == ("blue", ())
    assert template.read_answer(" one\n\ntwo ") == "one\n\ntwo"


def test_a_query_template_of_ones_own_is_the_user_turn():
    template = Template(query="Q: {question}\nA:", answer=" {output}.")
    chat = template.prompt([Example({"question": "who?"}, "me")], {"question": "what?"}).chat
    assert chat is not None
    assert [turn.content for turn in chat.messages] == ["Q: who?\nA:", "me.", "Q: what?\nA:"]


def test_labels_are_listed_in_the_instruction():
    template = Template(instruction="Name it.", labels=("red", "blue"))
    assert template.prompt([], "x").text == "Name it. Answer with one of: red, blue.\n\nInput: x\nOutput:"
    assert Template(labels=("a, b", "c")).task == "Answer with one of the following:\n- a, b\n- c"


def test_labels_that_take_too_much_of_the_window_are_not_listed(tiny):
    many = tuple(f"label {number}" for number in range(5000))
    assert Template(labels=many).for_model(tiny).labels == ()
    assert Template(labels=many[:5]).for_model(tiny).labels == many[:5]


def test_an_answer_that_nothing_divides_from_its_query_is_rejected(tiny):
    with pytest.raises(InvalidInputError, match="nothing divides"):
        Template(query="{input}", answer="{output}").for_model(tiny)
    assert Template(query="{input}", answer="{output}", form="chat").render_answer("x") == "x"
