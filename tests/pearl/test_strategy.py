"""``pearl`` as one strategy of a comparison."""

import pytest
from recorded_pearl import by_step

from ragkit.errors import InvalidInputError
from ragkit.models._scripted import ScriptedModel
from ragkit.records import Example
from ragkit.tasks import Task
from ragkit_pipelines.compare import compare
from ragkit_pipelines.pearl.run.option_mapper import OptionMapper

PLAN = 'New actions:\n- None\n\n1. a = ABOUT(CTX, "a") : Step A'


def answer(prompt):
    if prompt.endswith("Option:"):
        return "B" if "ship" in prompt.split("The question:")[1] else "A"
    return PLAN if prompt.endswith("?\n\n") else by_step(prompt)


def rows(split):
    return [
        Example({"question": f"{split}: is it a {word}?", "document": f"text of {word}"}, label)
        for word, label in (("ship", "yes"), ("house", "no"))
    ]


def test_pearl_is_compared_with_others(tmp_path):
    task = Task("", rows("train"), rows("test"), labels=("no", "yes"), metric="accuracy")
    result = compare(task, ["majority", "pearl"], model=ScriptedModel(answer), embedder="hash:64", out=tmp_path)
    by_name = {row.strategy: row for row in result.results.rows}
    assert by_name["pearl"].score == 1.0
    assert by_name["pearl"].prompt_tokens > 2000
    free = Task("", rows("train"), [Example(rows("test")[0].input, "value of A")], labels=None, metric="exact_match")
    found = compare(free, ["pearl"], model=ScriptedModel(answer), embedder="hash:64", out=tmp_path / "free")
    assert found.results.rows[0].score == 1.0


def test_inputs_without_a_document_are_refused(tmp_path):
    task = Task("", [Example("a", "b")], [Example("c", "d")])
    with pytest.raises(InvalidInputError, match="needs documents"):
        compare(task, ["pearl"], model=ScriptedModel(answer), embedder="hash:64", out=tmp_path)


def test_mapping_answers_to_labels_is_counted(tmp_path):
    task = Task("", rows("train"), rows("test"), labels=("no", "yes"), metric="accuracy")
    free = Task("", rows("train"), rows("test"), metric="exact_match")
    model = ScriptedModel(answer)
    mapped, plain = (
        compare(each, ["pearl"], model=model, embedder="hash:64", out=tmp_path / str(place)).results.rows[0]
        for place, each in enumerate((task, free))
    )
    asked = [prompt for prompt in model.asked if prompt.endswith("Option:")]
    assert len(asked) == 2
    assert mapped.prompt_tokens - plain.prompt_tokens == sum(map(model.count_tokens, asked))
    assert mapped.completion_tokens - plain.completion_tokens == 2


def test_more_labels_than_letters_are_refused_before_anything_is_asked(tmp_path):
    labels = tuple(f"label {n}" for n in range(27))
    fields = {"question": "which?", "document": "text"}
    task = Task("", [Example(fields, labels[0])], [Example(fields | {"question": "what?"}, labels[26])], labels=labels)
    model = ScriptedModel(answer)
    with pytest.raises(InvalidInputError, match="at most 26 labels"):
        compare(task, ["pearl"], model=model, embedder="hash:64", out=tmp_path)
    with pytest.raises(InvalidInputError):
        OptionMapper(model).map("an answer", "which?", labels)
    assert model.asked == []
