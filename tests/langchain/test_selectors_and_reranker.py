"""Example selectors and rerankers with the interfaces of LangChain."""

import asyncio

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.example_selectors import BaseExampleSelector
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    PromptTemplate,
)

from ragkit import EmbeddingSelector, HybridSelector, JaccardSelector, Mmr, ScriptedModel
from ragkit.errors import InvalidInputError
from ragkit.langchain import (
    RagkitChatModel,
    RagkitEmbeddings,
    RagkitExampleSelector,
    RagkitHybridExampleSelector,
    RagkitMmrExampleSelector,
    RagkitReranker,
)

WORDS = ["dim", "lamp", "play", "song", "open", "door", "cold", "rain"]
ROWS = [{"question": f"{a} the {b}", "answer": f"{a}({b})", "n": n} for n, a in enumerate(WORDS) for b in WORDS]
QUERY = {"question": "dim the cold lamp"}
NAMES = {"input_key": "question", "output_key": "answer"}
POOL = {"key": "question", "output": "answer"}


@pytest.mark.parametrize(
    ("made", "same"),
    [
        (
            RagkitExampleSelector.from_examples(ROWS, RagkitEmbeddings("hash:64"), 3, **NAMES),
            EmbeddingSelector(ROWS, embedder="hash:64", **POOL),
        ),
        (
            RagkitMmrExampleSelector.from_examples(ROWS, "hash:64", 3, fetch_k=9, lambda_mult=0.4, **NAMES),
            EmbeddingSelector(ROWS, embedder="hash:64", **POOL) | Mmr(0.4, fetch_k=9),
        ),
        (
            RagkitHybridExampleSelector.from_examples(ROWS, "hash:64", 3, weights={"bm25": 2, "tfidf": 1}, **NAMES),
            HybridSelector(ROWS, {"bm25": 2, "tfidf": 1}, embedder="hash:64", **POOL),
        ),
        (RagkitExampleSelector(JaccardSelector(ROWS, **POOL), 3, "question"), JaccardSelector(ROWS, **POOL)),
    ],
)
def test_selections_equal_those_of_ragkit_selectors(made, same):
    assert isinstance(made, BaseExampleSelector)
    expected = [example.output for example in same.select(QUERY["question"], 3)][::-1]  # the most similar last
    found = made.select_examples(QUERY)
    assert [row["answer"] for row in found] == expected
    assert all(row in ROWS for row in found)
    assert asyncio.run(made.aselect_examples(QUERY)) == found


def test_in_langchains_prompts():
    selector = RagkitExampleSelector.from_examples(ROWS[:9], "hash:64", 2, **NAMES)
    chosen = selector.select_examples(QUERY)
    prompt = FewShotPromptTemplate(
        example_selector=selector,
        example_prompt=PromptTemplate.from_template("{question} -> {answer}"),
        suffix="{question} ->",
        input_variables=["question"],
    )
    said = "\n\n".join([f"{row['question']} -> {row['answer']}" for row in chosen] + [f"{QUERY['question']} ->"])
    assert prompt.format(**QUERY) == said
    chat_prompt = ChatPromptTemplate.from_messages(
        [
            FewShotChatMessagePromptTemplate(
                example_selector=selector,
                example_prompt=ChatPromptTemplate.from_messages([("human", "{question}"), ("ai", "{answer}")]),
                input_variables=["question"],
            ),
            ("human", "{question}"),
        ]
    )
    words = [message.content for message in chat_prompt.format_messages(**QUERY)]
    assert words == [row[name] for row in chosen for name in ("question", "answer")] + [QUERY["question"]]
    model = ScriptedModel(lambda asked: asked)
    answer = (chat_prompt | RagkitChatModel(model=model)).invoke(QUERY).content
    places = [answer.index(word) for word in words[:-1]] + [answer.rindex(words[-1])]
    assert places == sorted(places)


TEXTS = ["a song", "the lamp", "the lamp is dim", "rain"]
DOCUMENTS = [Document(text, metadata={"n": n}, id=str(n)) for n, text in enumerate(TEXTS)]


def overlap(queries, texts):
    return np.array([len(set(a.split()) & set(b.split())) for a, b in zip(queries, texts, strict=True)], dtype=float)


class Judge:
    """A reranker of ragkit."""

    def rerank(self, queries, hits, k):
        from dataclasses import replace

        scores = overlap([queries[0]] * len(hits[0]), [hit.text for hit in hits[0]])
        order = sorted(range(len(scores)), key=lambda n: -scores[n])[:k]
        return [[replace(hits[0][n], score=float(scores[n]), rank=rank) for rank, n in enumerate(order, 1)]]


@pytest.mark.parametrize("judge", [overlap, Judge()])
def test_reranking(judge):
    kept = RagkitReranker(reranker=judge, top_n=3).compress_documents(DOCUMENTS, "is the lamp dim")
    assert [document.id for document in kept] == ["2", "1", "0"]  # equal scores keep their order
    assert [document.metadata["relevance_score"] for document in kept] == [4, 2, 0]
    assert DOCUMENTS[2].metadata == {"n": 2}
    assert kept[0].metadata["n"] == 2
    assert asyncio.run(RagkitReranker(reranker=judge).acompress_documents(DOCUMENTS, "x"))[3].id == "3"
    assert RagkitReranker(reranker=judge).compress_documents([], "x") == []


def test_a_language_model_ranks_by_the_probability_of_the_query(tiny):
    prompts = [f"{text}\n\nA question that this text answers:" for text in TEXTS]
    scores = tiny.score(prompts, [" which lamp is dim?"])[:, 0]
    kept = RagkitReranker(reranker=tiny).compress_documents(DOCUMENTS, "which lamp is dim?")
    assert [int(document.id) for document in kept] == np.argsort(-scores, kind="stable").tolist()


def test_invalid_rerankers():
    with pytest.raises(ValueError, match="`reranker`"):
        RagkitReranker(reranker=ScriptedModel([]))  # a language model that gives no probabilities
    with pytest.raises(ValueError, match="Extra inputs"):
        RagkitReranker(reranker=overlap, top_k=3)
    with pytest.raises(InvalidInputError, match="4 numbers"):
        RagkitReranker(reranker=lambda *_: np.array([np.nan] * 4)).compress_documents(DOCUMENTS, "x")
