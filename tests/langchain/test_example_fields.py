"""Example selectors with any fields: several inputs, answers of any type, copies; compared with LangChain's own."""

import asyncio

import pytest
from langchain_core.example_selectors import MaxMarginalRelevanceExampleSelector, SemanticSimilarityExampleSelector
from langchain_core.prompts import FewShotPromptTemplate, PromptTemplate
from langchain_core.vectorstores import InMemoryVectorStore

from ragkit import JaccardSelector
from ragkit.errors import InvalidInputError
from ragkit.langchain import (
    RagkitEmbeddings,
    RagkitExampleSelector,
    RagkitHybridExampleSelector,
    RagkitMmrExampleSelector,
)

CITIES = ["Rome", "Oslo", "Paris"]
ROWS = [
    {"id": n, "question": f"{verb} the {what}", "city": CITIES[n % 3], "answer": {"n": [n]}}
    for n, (verb, what) in enumerate((a, b) for a in ("dim", "sell", "open") for b in ("lamp", "door", "book"))
]
QUERY = {"question": "dim the door", "city": "Paris", "more": 1}
KINDS = [RagkitExampleSelector, RagkitMmrExampleSelector, RagkitHybridExampleSelector]


@pytest.mark.parametrize("keys", [["question"], ["question", "city"], ["city", "question"]])
def test_several_inputs_equal_langchains_selectors(keys):
    embeddings = RagkitEmbeddings("hash:512")
    made = RagkitExampleSelector.from_examples(iter(ROWS), embeddings, 3, input_keys=keys)
    same = SemanticSimilarityExampleSelector.from_examples(ROWS, embeddings, InMemoryVectorStore, 3, keys)
    assert made.select_examples(QUERY) == same.select_examples(QUERY)[::-1]  # the most similar comes last
    diverse = RagkitMmrExampleSelector.from_examples(ROWS, embeddings, 3, input_keys=keys)
    expected = MaxMarginalRelevanceExampleSelector.from_examples(ROWS, embeddings, InMemoryVectorStore, 3, keys)
    chosen = [{row["id"] for row in selector.select_examples(QUERY)} for selector in (diverse, expected)]
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_of_any_type_or_none_and_ids_that_are_numbers(kind):
    rows = [*ROWS, {"question": "play the song"}, {"question": "read", "answer": None, "id": "own"}]
    selector = asyncio.run(kind.afrom_examples(rows, "hash:256", k=1, input_key="question"))
    assert selector.select_examples({"question": "play the song"}) == [{"question": "play the song"}]
    assert selector.select_examples({"question": "dim the lamp"}) == [ROWS[0]]
    assert selector.add_example({"id": 77, "question": "a new thing", "answer": 3}) == "77"
    assert asyncio.run(selector.aadd_example({"question": "another new thing"})) == "12"
    assert asyncio.run(selector.aselect_examples({"question": "a new thing"}))[0]["answer"] == 3
    only = kind.from_examples(ROWS, "hash:256", k=1, input_key="question", example_keys=["answer"])
    assert only.select_examples({"question": "dim the lamp"}) == [{"answer": {"n": [0]}}]


@pytest.mark.parametrize("kind", KINDS)
def test_copies(kind):
    rows = [{"question": "dim the lamp", "answer": {"n": [0]}}]
    selector = kind.from_examples(rows, "hash:256", k=1, input_key="question")
    rows[0]["answer"]["n"].append(1)
    found = selector.select_examples({"question": "dim"})
    assert found == [{"question": "dim the lamp", "answer": {"n": [0]}}]
    found[0]["answer"]["n"].append(2)
    found[0]["question"] = "changed"
    assert selector.select_examples({"question": "dim"}) == [{"question": "dim the lamp", "answer": {"n": [0]}}]


def test_the_only_variable_may_have_another_name():
    selector = RagkitExampleSelector.from_examples(ROWS, "hash:256", 1, input_key="question")
    example = PromptTemplate.from_template("{question}")
    prompt = FewShotPromptTemplate(
        example_selector=selector, example_prompt=example, suffix="{topic}", input_variables=["topic"]
    )
    assert prompt.format(topic="dim lamp") == "dim the lamp\n\ndim lamp"
    with pytest.raises(InvalidInputError, match=r"input variable 'question' must be text, got None; given: .'a', 'b'"):
        selector.select_examples({"a": "dim", "b": "lamp"})


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: of([*ROWS, {"city": "Rome"}]), r"examples\[9\] must have the field 'question', .*; got \['city'\]"),
        (lambda: of(ROWS, input_key="input"), r"examples\[0\] must have the field 'input'.*`input_key`, or several"),
        (
            lambda: of(ROWS, input_key="answer"),
            r"examples\[0\]: the field 'answer' that is searched must be text, got d",
        ),
        (lambda: of([*ROWS, "dim"]), r"examples\[9\] must be a mapping of fields, got str"),
        (lambda: of({"question": "x"}), "`examples` must be a sequence of mappings, got dict"),
        (lambda: of(ROWS, input_keys="question"), "`input_keys` must be a sequence of texts"),
        (lambda: of(ROWS, input_keys=[]), "`input_keys` must be a list of names"),
        (lambda: of(ROWS, example_keys=["x"]), r"examples\[0\] has no field 'x' of `example_keys`"),
        (lambda: of(ROWS).add_example({"x": 1}), r"example\[0\] must have the field 'question'"),
        (
            lambda: of(ROWS, input_keys=["question", "city"]).select_examples({"city": "x"}),
            "the input variables must have",
        ),
        (lambda: of([]), "empty pool"),
    ],
)
def test_invalid_input(call, says):
    with pytest.raises(InvalidInputError, match=says):
        call()


def of(rows, **fields):
    return RagkitExampleSelector.from_examples(rows, "hash:32", **{"input_key": "question", **fields})


def test_a_selector_of_ragkit_keeps_its_own_fields():
    pool = [{"input": "dim the lamp", "output": "light", "tags": ["a"]}]
    selector = RagkitExampleSelector(JaccardSelector(pool), 1, "input")
    selector.select_examples({"input": "lamp"})[0]["tags"].append("b")
    assert selector.select_examples({"input": "lamp"}) == [{"input": "dim the lamp", "output": "light", "tags": ["a"]}]
