"""Templates: text goes in once, is never read as a template, and comes out again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.errors import InvalidInputError
from ragkit.records import Example, Prompt
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
    assert prompt == Prompt(
        "Name the colour.\n\nInput: sky\nOutput: blue\n\nInput: blood\nOutput: red\n\n", "Input: grass\nOutput:"
    )
    assert prompt.text == prompt.prefix + prompt.suffix
    assert template.stop == ("\n\n",)


def test_without_examples_and_instruction():
    assert Template().prompt([], "grass") == Prompt("", "Input: grass\nOutput:")


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
