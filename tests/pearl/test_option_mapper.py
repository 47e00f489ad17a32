"""Mapping answers to options."""

import json

import pytest
from recorded_pearl import recorded

from ragkit.answers import read_option
from ragkit.errors import InvalidInputError
from ragkit.models._scripted import ScriptedModel
from ragkit_pipelines.pearl.run.option_mapper import OptionMapper


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("A", 0), ("b", 1), ("C.", 2), ("(D)", 3), ("**B**", 1), (" A)\n", 0), ('"C"', 2),
        ("The answer is A", 0), ("the answer is (b)", 1), ("Answer: C", 2), ("Option D.", 3), ("B. a man", 1),
        ("(B) the answer is B", 1), ("My choice is C, as it fits.", 2), ("D: because it rains", 3),
        ("The man", None), ("A man in the sea", None), ("T", None), ("E", None), ("none", None), ("", None),
        ("A or B", None), ("The answer is A. No, the answer is B.", None), ("Because A is wrong", None),
        ("a man", 0), ("It is a man.", 0), ("a ship", 1), ("both a man and a ship", None), ("human", None),
        ("I think", None),
    ],
)  # fmt: skip
def test_options_are_recognised_only_if_unambiguous(text, place):
    assert read_option(text, ["a man", "a ship", "the sea", "rain"]).place == place


def test_recorded_letters_are_recognised(data):
    rows = [json.loads(line) for line in (data / "pearl/plans.jsonl").read_text().splitlines()]
    for row in rows:
        read = read_option(row["map_answer"], ["w", "x", "y", "z"]).letter
        assert read == (row["map_answer"] if row["map_answer"] in "ABCD" else None)


def test_answers_that_cannot_be_mapped_are_counted():
    model = ScriptedModel(["B", "The first one, I think.", "C. the sea\nbecause"])
    mapper = OptionMapper(model)
    options = ["a man", "a ship", "the sea", "rain"]
    choices = mapper.map_many([(f"answer {n}", "what?", options) for n in range(3)] + [(" ", "what?", options)])
    assert [choice.letter for choice in choices] == ["B", None, "C", None]
    assert (mapper.mapped, mapper.unmapped) == (2, 2)
    assert len(model.asked) == 3
    assert "A. a man\nB. a ship\n" in model.asked[0]
    with pytest.raises(InvalidInputError):
        read_option("A", [])


def test_a_recorded_answer_is_mapped_to_its_option(data):
    each = recorded(data)[0]
    mapper = OptionMapper(ScriptedModel([each.mapped]))
    assert mapper.map(each.answer, each.question, each.options).letter == each.mapped
