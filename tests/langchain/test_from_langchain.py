"""LangChain example selectors in ragkit pipelines."""

import asyncio

import pytest
from langchain_core.example_selectors import LengthBasedExampleSelector, SemanticSimilarityExampleSelector
from langchain_core.prompts import PromptTemplate

from ragkit import Example, FewShot, ScriptedModel
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.langchain import RagkitEmbeddings, RagkitVectorStore, as_selector
from ragkit.protocols import Selector

ROWS = [
    {"question": "dim the lamp", "answer": "light", "lang": "en"},
    {"question": "play a song", "answer": "music", "lang": "en"},
    {"question": "open the door", "answer": "door", "lang": "en"},
]


@pytest.fixture
def semantic():
    made = SemanticSimilarityExampleSelector.from_examples(
        ROWS, RagkitEmbeddings("hash:64"), RagkitVectorStore, k=2, input_keys=["question"]
    )
    return as_selector(made, input_key="question", output_key="answer")


def test_it_is_a_selector(semantic):
    assert isinstance(semantic, Selector)
    chosen = semantic.select("the lamp")
    assert chosen[0].input == "dim the lamp"
    assert chosen[0].output == "light"
    assert chosen[0].metadata == {"lang": "en"}
    assert [hit.rank for hit in chosen.hits] == [1, 2]
    assert len(semantic.select("the lamp", k=1)) == 1
    assert asyncio.run(semantic.aselect("the lamp")) == chosen
    assert semantic.select_many(["the lamp", "the lamp"]) == [chosen, chosen]
    without = semantic.select("the lamp", exclude=[chosen.hits[0].id])
    assert [hit.id for hit in without.hits] == [chosen.hits[1].id]
    assert without.dropped == ((chosen.hits[0].id, "excluded"),)
    (name,) = semantic.add([Example("a very new thing", "new", metadata={"lang": "fr"})])
    assert semantic.select("a very new thing", k=1).hits[0].id == name


def test_added_examples_keep_their_fields():
    by_length = LengthBasedExampleSelector(examples=[], example_prompt=PromptTemplate.from_template("{question}"))
    selector = as_selector(by_length, input_key="question", output_key="answer")
    selector.add([Example({"question": "which one?", "context": "two lamps"}, "both", metadata={"question": "no"})])
    assert by_length.examples == [{"question": "which one?", "context": "two lamps", "answer": "both"}]
    assert selector.select("which?", 1)[0] == Example(
        "which one?", "both", id=selector.select("which?", 1).hits[0].id, metadata={"context": "two lamps"}
    )
    with pytest.raises(InvalidInputError, match="'question'"):
        selector.add([Example({"q": "which one?"}, "both")])
    assert len(selector) == 1


def test_in_a_pipeline(semantic):
    model = ScriptedModel(["light"])
    answer = FewShot(model, semantic, k=1).invoke("dim it, the lamp")
    assert answer.text == "light"
    assert "dim the lamp" in model.asked[0]


def test_unsupported_operations(semantic):
    with pytest.raises(UnsupportedError, match="filter"):
        semantic.select("x", where={"lang": "en"})
    with pytest.raises(UnsupportedError, match="remove"):
        semantic.remove(["x"])
    with pytest.raises(UnsupportedError, match="saved"):
        semantic.save("x")
    with pytest.raises(UnsupportedError, match="number of examples"):
        len(semantic)
    with pytest.raises(InvalidInputError, match="`selector`"):
        as_selector(3)
    with pytest.raises(InvalidInputError, match="`exclude`"):
        semantic.select("x", exclude="abc")
    with pytest.raises(InvalidInputError, match="`k` must be"):
        semantic.select("x", k=-1)
    by_length = LengthBasedExampleSelector(examples=ROWS, example_prompt=PromptTemplate.from_template("{question}"))
    assert len(as_selector(by_length, input_key="question", output_key="answer")) == 3
    with pytest.raises(InvalidInputError, match="'output'"):
        as_selector(by_length, input_key="question").select("x")
