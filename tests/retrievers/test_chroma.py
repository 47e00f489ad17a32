"""A Chroma server in a process of its own, asked through LangChain: the contract of retrievers, and filters.

chromadb is in no extra of ragkit, as it brings more than fifty packages: ``pip install chromadb langchain-chroma``.
"""

import socket
import subprocess
import sys
import time
import warnings
from functools import partial

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragkit import Document
from ragkit.retrievers import LangChainRetriever, chroma_filter
from ragkit.testing import RetrieverContract
from ragkit.where import matches, parse_where

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    chromadb = pytest.importorskip("chromadb", reason="pip install chromadb langchain-chroma")
    langchain_chroma = pytest.importorskip("langchain_chroma", reason="pip install chromadb langchain-chroma")

pytestmark = pytest.mark.filterwarnings("ignore")  # of chromadb and what it brings
SERVER = "import sys; from chromadb.cli.cli import app; sys.exit(app())"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("chroma")
    line = [sys.executable, "-c", SERVER, "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "log"
    with log.open("w") as file, subprocess.Popen(line, stdout=file, stderr=subprocess.STDOUT) as server:
        try:
            until = time.monotonic() + 60
            while True:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < until, "the server did not start"
                try:
                    httpx.get(f"http://127.0.0.1:{port}/api/v2/heartbeat").raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.1)
            yield chromadb.HttpClient("127.0.0.1", port, settings=chromadb.Settings(anonymized_telemetry=False))
        finally:
            server.kill()


def store(client, name, documents):
    from langchain_core.documents import Document as LangChainDocument

    from ragkit.langchain import RagkitEmbeddings

    made = langchain_chroma.Chroma(
        client=client, collection_name=name, embedding_function=RagkitEmbeddings("hash:256"),
        collection_metadata={"hnsw:space": "cosine"},
    )  # fmt: skip
    if not made.get()["ids"]:
        made.add_documents(
            [LangChainDocument(each.text, id=each.id, metadata=dict(each.metadata or {})) for each in documents]
        )
    return made


NATIVE = {"ours": None, "chroma's": chroma_filter, "chroma's, lists named": partial(chroma_filter, lists=["tags"])}


class TestChroma(RetrieverContract):
    @pytest.fixture(params=NATIVE)
    def retriever(self, client, request):
        made = store(client, "contract", RetrieverContract.documents)
        return LangChainRetriever(made, native=NATIVE[request.param])


VALUES = [0, 1, 2, 1.0, 1.5, -3, True, False, "a", "b", "", 2**40]
ROWS = [
    Document(f"text {n}", id=str(n), metadata={"a": value} | ({"tags": tags} if tags else {}) | {"n": n})
    for n, (value, tags) in enumerate((value, tags) for value in VALUES for tags in ([], ["x"], ["x", "y"], [1, 2]))
] + [Document("bare", id="bare")]
values = st.sampled_from([*VALUES, None, "x", "y", 3.5])
asked = st.one_of(
    values,
    st.fixed_dictionaries({}, optional={"$eq": values, "$ne": values, "$in": st.lists(values, max_size=3),
                                        "$nin": st.lists(values, max_size=3), "$exists": st.booleans()}),
    st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), st.sampled_from([0, 1, 1.0, 1.5, -0.5, "a"]),
                    min_size=1, max_size=2),
).filter(lambda each: each != {})  # fmt: skip
filters = st.recursive(
    st.dictionaries(st.sampled_from(["a", "tags", "n"]), asked, max_size=2),
    lambda inner: st.builds(lambda name, parts: {name: parts}, st.sampled_from(["$and", "$or"]),
                            st.lists(inner, min_size=1, max_size=3)) | inner.map(lambda part: {"$not": part}),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(where=filters, native=st.sampled_from(list(NATIVE)))
def test_filters_find_what_matches(client, where, native):
    retriever = LangChainRetriever(store(client, "filters", ROWS), native=NATIVE[native])
    condition = parse_where(where)
    expected = {row.id for row in ROWS if matches(condition, row.metadata)}
    assert {hit.id for hit in retriever.retrieve("text", len(ROWS), where=where)} == expected


def test_what_chroma_says_alone_leaves_documents_out(client):
    made = store(client, "filters", ROWS)
    told = chroma_filter({"tags": "y", "a": {"$gte": 1}}, lists=["tags"])
    found = made.similarity_search("text", k=len(ROWS), filter=told)
    assert {row.metadata["a"] for row in found} == {1, 2, 1.5, 2**40}
    assert all("y" in row.metadata["tags"] for row in found)
