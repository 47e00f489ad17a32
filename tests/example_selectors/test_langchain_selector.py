"""Selectors as LangChain's, with the defects of LangChain's own as tests."""

import asyncio

import pytest
from langchain_core.example_selectors import BaseExampleSelector
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    PromptTemplate,
)

from ragkit.errors import InvalidInputError
from ragkit.records import Example
from ragkit_selectors import BM25Selector, EmbeddingSelector, JaccardSelector, Mmr, Order

ROWS = [
    {"question": "dim the lamp", "answer": "light", "lang": "en", "year": 2020},
    {"question": "play the song", "answer": "music", "lang": "en", "year": 2021},
    {"question": "dim la lampe", "answer": "lumière", "lang": "fr", "year": 2022},
]


def test_gives_the_same_mappings():
    selector = BM25Selector(ROWS, key="question", output="answer").as_langchain(k=2)
    assert isinstance(selector, BaseExampleSelector)
    found = selector.select_examples({"question": "dim the lamp"})
    assert found == [ROWS[2], ROWS[0]]  # the most similar last
    found[1]["answer"] = "changed"
    found = selector.select_examples({"question": "dim the lamp"})
    assert found == [ROWS[2], ROWS[0]]  # changing a result does not change the pool
    assert asyncio.run(selector.aselect_examples({"question": "dim the lamp"})) == found
    assert selector.add_example({"question": "dim the lamp now", "answer": "soon"}) == "3"
    assert asyncio.run(selector.aadd_example({"question": "sing", "answer": "x"})) == "4"
    assert selector.select_examples({"question": "dim the lamp now"})[-1]["answer"] == "soon"
    first = (BM25Selector(ROWS, key="question", output="answer") | Order("similar_first")).as_langchain(k=2)
    assert first.select_examples({"question": "dim the lamp"}) == [ROWS[0], ROWS[2]]
    assert JaccardSelector([Example("a", "b")]).as_langchain(k=1).select_examples({"input": "a"}) == [
        {"input": "a", "output": "b"}
    ]


def test_the_answer_is_not_searched_and_other_values_do_no_harm():
    rows = [{"question": "x", "answer": "lamp", "n": [1, None]}, {"question": "lamp", "answer": "y", "n": {"a": 1}}]
    selector = EmbeddingSelector(rows, embedder="hash:64", key="question", output="answer").as_langchain(k=1)
    assert selector.select_examples({"question": "lamp", "count": 3}) == [rows[1]]
    assert selector.select_examples({"query": "lamp"}) == [rows[1]]  # the only variable of a prompt
    with pytest.raises(InvalidInputError, match=r"input variable 'question' must be text, got None; given: .'n', 'que"):
        selector.select_examples({"query": "lamp", "n": 3})
    with pytest.raises(InvalidInputError, match=r"examples\[0\] has no 'output'; its entries: .*say which"):
        BM25Selector(rows, key="question")


def test_copies_are_passed_over_and_a_query_in_the_pool_comes_first():
    rows = [{"input": f"the word {n}" * (n + 1), "output": "x"} for n in range(9)]
    selector = EmbeddingSelector(rows, embedder="hash:64").as_langchain(k=1)
    for row in rows:  # a raw dot product would prefer the longest
        assert selector.select_examples({"input": row["input"]}) == [row]
    copies = [{"input": "dim the lamp", "output": "x"}] * 5 + [{"input": "dim a lamp", "output": "y"}]
    found = (EmbeddingSelector(copies, embedder="hash:64") | Mmr(0.4)).as_langchain(k=2)
    assert {row["output"] for row in found.select_examples({"input": "dim the lamp"})} == {"x", "y"}


def test_in_prompts():
    selector = JaccardSelector(ROWS, key="question", output="answer").as_langchain(k=2)
    prompt = FewShotPromptTemplate(
        example_selector=selector,
        example_prompt=PromptTemplate.from_template("Q: {question}\nA: {answer}"),
        suffix="Q: {question}\nA:",
        input_variables=["question"],
    )
    assert prompt.format(question="dim the lamp") == (
        "Q: play the song\nA: music\n\nQ: dim the lamp\nA: light\n\nQ: dim the lamp\nA:"
    )
    chat = ChatPromptTemplate.from_messages(
        [
            FewShotChatMessagePromptTemplate(
                example_selector=selector,
                example_prompt=ChatPromptTemplate.from_messages([("human", "{question}"), ("ai", "{answer}")]),
                input_variables=["question"],
            ),
            ("human", "{question}"),
        ]
    )
    messages = chat.format_messages(question="play the song")
    assert [message.content for message in messages][-3:] == ["play the song", "music", "play the song"]
    selector.add_example({"question": "dim {question}", "answer": '{"lamp": {}}'})
    messages = chat.format_messages(question="dim {question}")
    assert [message.content for message in messages][-3:] == ["dim {question}", '{"lamp": {}}', "dim {question}"]
