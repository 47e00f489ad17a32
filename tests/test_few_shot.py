import pytest

from ragkit import Example, FewShot, JaccardSelector, ScriptedModel, Task
from ragkit.errors import PromptTooLongError, TruncationWarning
from ragkit.protocols import Capabilities
from ragkit.templates import Template

POOL = [Example("red apple pie", "A"), Example("red apple", "B"), Example("blue sky", "C")]


class Narrow(ScriptedModel):
    capabilities = Capabilities(window=120)

    def count_tokens(self, text):
        return len(text.split())


def test_the_most_similar_example_stands_next_to_the_query():
    model = ScriptedModel([" B\n\nInput: more"])
    answer = FewShot(model, JaccardSelector(POOL), k=2).invoke("red apple")
    assert model.asked == [
        "Input: red apple pie\nOutput: A\n\nInput: red apple\nOutput: B\n\nInput: red apple\nOutput:"
    ]
    assert answer.text == "B"
    assert [hit.id for hit in answer.selection.hits] == ["1", "0"]


def test_similar_first_and_the_tasks_instruction():
    model = ScriptedModel([" B"])
    task = Task("Do it.", POOL, POOL)
    pipeline = FewShot.from_task(task, model, JaccardSelector(POOL), k=2)
    pipeline.order = "similar_first"
    pipeline.invoke("red apple")
    assert model.asked[0].startswith("Do it.\n\nInput: red apple\nOutput: B\n\nInput: red apple pie")


def test_an_example_longer_than_the_window_is_left_out_with_its_reason():
    pool = [Example("red " + "long " * 200, "A"), Example("red apple", "B")]
    model = Narrow([" B"])
    with pytest.warns(TruncationWarning, match="1 of 2 examples"):
        answer = FewShot(model, JaccardSelector(pool), k=2).invoke("red long")
    assert [example.output for example in answer.selection] == ["B"]
    assert answer.selection.dropped[0][0] == "0"
    assert "window of 120" in answer.selection.dropped[0][1]
    assert "long long" not in model.asked[0]


@pytest.mark.filterwarnings("ignore::ragkit.errors.TruncationWarning")
def test_what_just_fits_the_window_is_shown():
    model = Narrow([" B"] * 2)
    query, output = "red", 16
    bare = model.count_tokens(Template().prompt([], query).text) + output + 8  # what a model adds around a prompt
    room = model.capabilities.window - bare
    for more, shown in ((0, 1), (1, 0)):
        words = room + more - model.count_tokens(Template().render_example(Example("red", "B")))
        example = Example("red" + " long" * words, "B")
        assert model.count_tokens(Template().render_example(example)) == room + more
        assert len(FewShot(model, JaccardSelector([example]), k=1, max_tokens=output).invoke(query).selection) == shown


def test_a_query_longer_than_the_window_is_an_error():
    with pytest.raises(PromptTooLongError, match="shorten the query"):
        FewShot(Narrow([]), None).invoke("word " * 100)


def test_text_of_examples_is_never_a_template():
    pool = [Example("{input} {0} {{x}}", "{output}")]
    model = ScriptedModel([""])
    FewShot(model, JaccardSelector(pool), k=1).invoke("{secret} {input}")
    assert model.asked == ["Input: {input} {0} {{x}}\nOutput: {output}\n\nInput: {secret} {input}\nOutput:"]


def test_an_example_that_several_prompts_show_is_measured_once():
    measured = []

    class Measured(ScriptedModel):
        def count_tokens(self, text):
            measured.append(text)
            return len(text.split())

    queries = ["red apple", "a red apple", "apple"]
    answers = FewShot(Measured(lambda _: " A"), JaccardSelector(POOL), k=3).invoke(queries)
    rows = [f"Input: {row.input}\nOutput: {row.output}\n\n" for row in POOL]
    assert sorted(text for text in measured if text in rows) == sorted(rows)
    assert [answer.selection.tokens for answer in answers] == [sum(len(row.split()) for row in rows)] * 3
