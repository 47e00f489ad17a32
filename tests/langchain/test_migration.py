"""The migration table of docs/langchain.md: each call on LangChain's store and on ours."""

import asyncio
import pickle  # noqa: TID251 - stores are pickled by users
import re
from pathlib import Path

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore

from ragkit.langchain import RagkitEmbeddings, RagkitVectorStore

EMBEDDINGS = RagkitEmbeddings("hash:64")
TEXTS = [
    "dim the lamp",
    "light the lamp in the hall",
    "play a song",
    "play a long song",
    "open the front door",
    "éteins la lampe",
]
METADATA = [{"lang": "fr" if "é" in text else "en", "n": n} for n, text in enumerate(TEXTS)]
IDS = [f"t{n}" for n in range(len(TEXTS))]
PAIRS = list(zip(TEXTS, EMBEDDINGS.embed_documents(TEXTS), strict=True))
DOCUMENTS = [Document(text, metadata=held, id=own) for text, held, own in zip(TEXTS, METADATA, IDS, strict=True)]
VECTOR = EMBEDDINGS.embed_query("a lamp in the hall")
QUERY = "a lamp in the hall"


def filled(kind):
    return kind.from_texts(TEXTS, EMBEDDINGS, METADATA, ids=IDS)


def ids(documents):
    return [document.id for document in documents]


def scored_by_vector(store):
    return scored(store.similarity_search_with_score_by_vector(VECTOR, 3), store)


def scored(pairs, store):
    """Ids and cosines; FAISS returns squared distances of unit vectors, |a - b|^2 = 2 - 2 a.b."""
    distance = type(store).__name__ == "FAISS"
    return [(document.id, round(1 - score / 2 if distance else score, 4)) for document, score in pairs]


def held(store):
    return sorted((each.page_content, each.metadata.get("n", -1)) for each in store.similarity_search("lamp", 99))


def after(store, change):
    change(store)
    return held(store)


def saved(store, folder):
    store.save_local(str(folder))
    return held(type(store).load_local(str(folder), EMBEDDINGS, allow_dangerous_deserialization=True))


def merged(store):
    other = type(store).from_texts(["a new lamp"], EMBEDDINGS, [{"n": 9}], ids=["new"])
    store.merge_from(other)
    return held(store)


# The calls that are the same. Each gets a filled store of either kind, and returns what must be equal.
SAME = {
    "from_texts": lambda s, _: held(type(s).from_texts(TEXTS, EMBEDDINGS, METADATA, ids=IDS)),
    "from_documents": lambda s, _: held(type(s).from_documents(DOCUMENTS, EMBEDDINGS)),
    "add_texts": lambda s, _: after(s, lambda s: s.add_texts(["a new lamp"], [{"n": 9}], ids=["new"])),
    "add_documents": lambda s, _: after(s, lambda s: s.add_documents([Document("new")], ids=["new"])),
    "delete": lambda s, _: after(s, lambda s: s.delete(["t0", "t3"])),
    "get_by_ids": lambda s, _: [(each.id, each.page_content, each.metadata) for each in s.get_by_ids(["t3", "t1"])],
    "similarity_search": lambda s, _: ids(s.similarity_search(QUERY, 3)),
    "similarity_search_with_score": lambda s, _: scored(s.similarity_search_with_score(QUERY, 3), s),
    "similarity_search_by_vector": lambda s, _: ids(s.similarity_search_by_vector(VECTOR, 3)),
    "similarity_search_with_score_by_vector": lambda s, _: scored_by_vector(s),
    "max_marginal_relevance_search": lambda s, _: ids(s.max_marginal_relevance_search(QUERY, 3, 5, 0.4)),
    "max_marginal_relevance_search_by_vector": lambda s, _: ids(
        s.max_marginal_relevance_search_by_vector(VECTOR, 3, 5, 0.4)
    ),
    "search": lambda s, _: [ids(s.search(QUERY, "similarity", k=2)), ids(s.search(QUERY, "mmr", k=2))],
    "as_retriever": lambda s, _: [
        ids(s.as_retriever(search_kwargs={"k": 2}, tags=["t"]).invoke(QUERY)),
        ids(s.as_retriever(search_type="mmr", search_kwargs={"k": 2, "fetch_k": 4}).invoke(QUERY)),
    ],
    "asimilarity_search": lambda s, _: ids(asyncio.run(s.asimilarity_search(QUERY, k=3))),
    "aadd_documents": lambda s, _: after(s, lambda s: asyncio.run(s.aadd_documents([Document("new", id="x")]))),
    "adelete": lambda s, _: after(s, lambda s: asyncio.run(s.adelete(["t0"]))),
    "embeddings": lambda s, _: s.embeddings.embed_query("lamp"),
}  # fmt: skip
OF_FAISS = {
    "from_embeddings": lambda s, _: held(type(s).from_embeddings(PAIRS, EMBEDDINGS, METADATA, IDS)),
    "add_embeddings": lambda s, _: after(s, lambda s: s.add_embeddings(PAIRS[:1], [{"n": 8}], ids=["new"])),
    "similarity_search(filter=…)": lambda s, _: [
        ids(s.similarity_search(QUERY, 3, {"lang": "en"}, 50)),
        ids(s.similarity_search(QUERY, 3, filter={"n": {"$gte": 2}, "lang": ["en", "fr"]}, fetch_k=50)),
        ids(s.similarity_search(QUERY, 3, filter={"$or": [{"n": 1}, {"lang": {"$neq": "en"}}]}, fetch_k=50)),
        ids(s.similarity_search(QUERY, 3, lambda metadata: metadata["n"] > 2 and metadata.get("lang") == "en", 50)),
    ],
    "max_marginal_relevance_search_with_score_by_vector": lambda s, _: scored(
        s.max_marginal_relevance_search_with_score_by_vector(VECTOR, k=3, fetch_k=5, lambda_mult=0.4), s
    ),
    "merge_from": lambda s, _: merged(s),
    "save_local, load_local": saved,
}  # fmt: skip
OF_MEMORY = {
    "similarity_search(filter=…)": lambda s, _: ids(
        s.similarity_search(QUERY, 3, filter=lambda document: document.metadata["n"] > 2 and document.id != "t5")
    ),
    "aget_by_ids": lambda s, _: ids(asyncio.run(s.aget_by_ids(["t3"]))),
    "afrom_texts": lambda s, _: held(asyncio.run(type(s).afrom_texts(TEXTS, EMBEDDINGS, METADATA, ids=IDS))),
}


@pytest.mark.parametrize("name", [*SAME, *OF_MEMORY])
def test_calls_of_the_in_memory_store(name, tmp_path):
    call = (SAME | OF_MEMORY)[name]
    assert call(filled(RagkitVectorStore), tmp_path / "ours") == call(filled(InMemoryVectorStore), tmp_path / "theirs")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*SAME, *OF_FAISS])
def test_calls_of_faiss(name, tmp_path):
    vectorstores = pytest.importorskip(
        "langchain_community.vectorstores", reason="langchain-community is not installed"
    )
    call = (SAME | OF_FAISS)[name]
    assert call(filled(RagkitVectorStore), tmp_path / "ours") == call(filled(vectorstores.FAISS), tmp_path / "theirs")


def nearest(keep):
    """The three best ids by brute force in NumPy."""
    cosines = np.array([vector for _, vector in PAIRS]) @ np.array(VECTOR)
    return [IDS[n] for n in np.argsort(-cosines, kind="stable") if keep(METADATA[n])][:3]


def test_results_of_faiss_calls_without_faiss(tmp_path):
    """The values that LangChain's FAISS returns, for an environment without langchain-community."""
    ours = {name: call(filled(RagkitVectorStore), tmp_path / "ours") for name, call in OF_FAISS.items()}
    base = [(text, n) for n, text in enumerate(TEXTS)]
    assert ours["from_embeddings"] == ours["save_local, load_local"] == sorted(base)
    assert ours["add_embeddings"] == sorted([*base, ("dim the lamp", 8)])
    assert ours["merge_from"] == sorted([*base, ("a new lamp", 9)])
    assert ours["similarity_search(filter=…)"] == [
        nearest(lambda m: m["lang"] == "en"),
        nearest(lambda m: m["n"] >= 2),
        nearest(lambda m: m["n"] == 1 or m["lang"] != "en"),
        nearest(lambda m: m["n"] > 2 and m["lang"] == "en"),
    ]
    expected = SAME["max_marginal_relevance_search"](filled(InMemoryVectorStore), tmp_path)
    assert [own for own, _ in ours["max_marginal_relevance_search_with_score_by_vector"]] == expected


def test_equivalents(tmp_path):
    store = filled(RagkitVectorStore)
    assert held(pickle.loads(pickle.dumps(store))) == held(store)  # noqa: S301 - serialize_to_bytes
    relevant = store.similarity_search_with_relevance_scores(QUERY, 3, score_threshold=0.3)
    assert relevant == [pair for pair in store.similarity_search_with_score(QUERY, 3) if pair[1] >= 0.3]
    assert store.get_by_ids(["t1"])[0].page_content == TEXTS[1]  # docstore.search


def test_the_page_lists_these_methods():
    page = (Path(__file__).parents[2] / "docs" / "langchain.md").read_text(encoding="utf-8")
    table = page.split("## Migration from LangChain's stores")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)", row.split("|")[1])}
    tested = {name for key in (*SAME, *OF_FAISS, *OF_MEMORY) for name in re.findall(r"\w+", key) if name != "filter"}
    equivalents = {"similarity_search_with_relevance_scores", "serialize_to_bytes", "docstore", "dump", "load"}
    assert named == tested | equivalents
