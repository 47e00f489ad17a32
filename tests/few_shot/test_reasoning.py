"""Reasoning before the answer: prompts, paragraphs, truncation, votes, and the strategy `reason`."""

import pytest

from ragkit import Example, FewShot, JaccardSelector, ScriptedModel, Task, compare
from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare.strategies.named import Prompting, load_strategy
from ragkit_pipelines.reasoning import Reasoning

POOL = [
    Example("2 bags of 3 apples?", "6", metadata={"rationale": "Each bag has 3.\n\nSo 2 * 3 = 6."}),
    Example("4 bags of 5 pears?", "20", metadata={"rationale": "4 * 5 = 20."}),
    Example("1 bag of 9 plums?", "9"),
]
TEST = [Example("3 bags of 3 apples?", "9"), Example("2 bags of 5 pears?", "10")]
STEPS = " Each bag has 3.\n\nThere are 3 bags.\n\nAnswer: 9\n\n---\n\nInput: 7 bags?"


def task(**changes):
    facts = {"instruction": "Solve it.", "examples": POOL, "test": TEST, "metric": "number", "reader": "number"}
    return Task(**(facts | changes))


def test_reasoning_in_several_paragraphs_is_not_truncated():
    plain = FewShot.from_task(task(), ScriptedModel([STEPS]), None).invoke("3 bags of 3 apples?")
    assert plain.completion.text == " Each bag has 3."  # a blank line ends an answer without reasoning
    model = ScriptedModel([STEPS])
    answer = FewShot.from_task(task(), model, None, reasoning=True).invoke("3 bags of 3 apples?")
    assert (answer.text, answer.readable, answer.completion.finish_reason) == ("9", True, "stop")
    assert answer.completion.text.endswith("Answer: 9")
    assert model.asked == [
        'Solve it. Think step by step. Then write "Answer:" and the answer, without further text, on the last line.'
        "\n\n---\n\nInput: 3 bags of 3 apples?\nOutput:"
    ]


def test_examples_are_rendered_with_their_reasoning():
    model = ScriptedModel([STEPS])
    pipeline = FewShot.from_task(task(), model, JaccardSelector(POOL), k=3, reasoning=True)
    answer = pipeline.invoke("4 bags of 5 pears?")
    assert "Output: Each bag has 3.\n\nSo 2 * 3 = 6.\nAnswer: 6\n\n---\n\n" in model.asked[0]
    assert "Output: 4 * 5 = 20.\nAnswer: 20\n\n---\n\nInput: 4 bags" in model.asked[0]
    assert {example.output for example in answer.selection} == {"6", "20", "9"}


def test_reasoning_in_the_output_before_the_marker_of_the_reader():
    reasoning = Reasoning.of(task().template, "after:####|number")
    row = Example("2 bags of 3?", "2 * 3 = 6\n#### 6")
    assert (reasoning.marker, reasoning.example(row)) == ("####", row)
    assert reasoning.example(Example("2 bags of 3?", "6")) is None
    ended = Example("x", "6", metadata={"reasoning": "2 * 3 = 6\n#### 6"})
    assert reasoning.example(ended).output == "2 * 3 = 6\n#### 6"


@pytest.mark.parametrize(
    ("completion", "text", "readable"),
    [
        ("3 + 3 = 6, and then 3 * 3 = 9, so there are many", "3 + 3 = 6, and then 3 * 3 = 9, so there are many", False),
        ("3 * 3 = 9\nAnswer: 12", "3 * 3 = 9\nAnswer: 12", False),  # perhaps the beginning of 125
        ("3 * 3 = 9\nAnswer: 9\nAnswer: 9\nAns", "9", True),
        ("<think>3 * 3", "", False),
    ],
)
def test_truncated_reasoning_is_unreadable_and_says_why(completion, text, readable):
    tokens = ScriptedModel([]).count_tokens(completion)
    kept = completion.encode()[: 4 * tokens].decode()
    model = ScriptedModel([kept + " and so on, which no one reads"])
    pipeline = FewShot.from_task(task(), model, None, max_tokens=tokens, reasoning=True)
    answer = pipeline.answer(pipeline.prompts(["3 bags of 3?"]))[0]
    assert answer.completion.finish_reason == "length"
    assert answer.readable == readable
    if readable:
        assert (answer.text, answer.why) == (text, "")
    else:
        assert answer.why == f"the reasoning was truncated after {tokens} tokens, before an answer"


@pytest.mark.parametrize(
    ("completion", "reader", "text"),
    [
        ("They pay 10 and get 5 back.\n\nAnswer: -$5", "number", "-5"),
        ("It is the capital.\n\nSo \\boxed{B}", "choice", "B"),
        ("<think>blue? no</think>It glows.\n**Answer:** red", "whole", "red"),
        ("3 * 3\nAnswer：9", "number", "9"),
        ("No. First 5, then 6 remain.", "number", "6"),
        ("It is red, not blue.\nAnswer: blue\nThat is all.", "whole", "blue"),
    ],
)
def test_public_reports_of_answers_after_reasoning(completion, reader, text):
    answer = FewShot(ScriptedModel([completion]), None, reader=reader, reasoning=True).invoke("?")
    assert (answer.text, answer.readable) == (text, True)


def test_labels_are_read_after_the_reasoning_and_do_not_constrain_it():
    labelled = Task("Name the colour.", [Example("a", "red"), Example("b", "blue")], [], labels=("red", "blue"))
    model = ScriptedModel(["Red is warm, blue is not.\nAnswer: Blue"])
    assert FewShot.from_task(labelled, model, None, reasoning=True).invoke("c").text == "blue"
    unfinished = FewShot.from_task(labelled, ScriptedModel(["Red is warm, or"]), None, reasoning=True).invoke("c")
    assert (unfinished.readable, unfinished.why) == (False, "no text follows the marker 'Answer:'")


def test_a_model_that_repeats_its_prompt_has_no_answer():
    model = ScriptedModel(lambda prompt: prompt)
    answer = FewShot(model, None, reader="whole", reasoning=True, max_tokens=500).invoke("why?")
    assert answer.readable is False


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("reason", Prompting(reasoning=True)),
        ("reason*5", Prompting(reasoning=True, samples=5)),
        ("reason:bm25@2*3", Prompting("bm25", k=2, samples=3, reasoning=True)),
    ],
)
def test_names_of_strategies_with_reasoning(name, strategy):
    assert load_strategy(name) == strategy
    assert load_strategy(strategy).name == name


def test_compare_votes_over_samples_and_reports_truncated_reasoning(tmp_path):
    cut = " ".join(["so"] * 3000)
    rounds = {"3 bags": ["a\n\nAnswer: 9", "b\nAnswer: 8", "c\nAnswer: 9"], "2 bags of 5": [cut, cut, cut]}
    turns = dict.fromkeys(rounds, 0)

    def draw(prompt):
        part = next(part for part in rounds if f"Input: {part}" in prompt)
        turns[part] += 1
        return rounds[part][(turns[part] - 1) % 3]

    result = compare(task(), ["reason*3", "reason:bm25@2"], model=ScriptedModel(draw), embedder="hash:8", out=tmp_path)
    voted, shown = result.results.rows
    assert (voted.strategy, voted.score, voted.unreadable) == ("reason*3", 0.5, 1)
    assert voted.note == "1 unreadable: the reasoning was truncated after 512 tokens, before an answer"
    assert (shown.strategy, shown.score, shown.unreadable) == ("reason:bm25@2", 0.5, 1)


def test_examples_without_reasoning_are_an_error_before_any_call():
    model = ScriptedModel([])
    bare = task(examples=[Example("2 bags?", "6"), Example("3 bags?", "9")])
    with pytest.raises(InvalidInputError, match="none of the 2 examples has one; add one of the fields 'rationale'"):
        compare(bare, ["reason:bm25"], model=model, embedder="hash:8")
    assert model.asked == []
