"""Chains that are cancelled or not read to their end: calls stop, and stores stay usable."""

import asyncio
import threading

import pytest
from langchain_core.embeddings import Embeddings

from ragkit import load_embedder
from ragkit.errors import CallCancelledError
from ragkit.langchain import RagkitVectorStore, as_runnable
from ragkit.models._concurrency import Cancellation, applied_cancellations

LONG = 300  # seconds until a test gives up; none waits for them


class Streaming:
    """A pipeline with a sync stream, which waits after its first piece until its call is cancelled."""

    def __init__(self) -> None:
        self.begun, self.cancelled, self.closed = (threading.Event() for _ in range(3))

    def invoke(self, text):
        return text

    def stream(self, text):
        try:
            yield text
            self.begun.set()
            if Cancellation().wait(LONG, *applied_cancellations()):
                self.cancelled.set()
            raise CallCancelledError("cancelled", maybe_paid=False)
        finally:
            self.closed.set()


class AsyncStreaming(Streaming):
    """The same with an async stream."""

    async def astream(self, text):
        try:
            yield text
            yield text
        finally:
            self.closed.set()


async def cancelled_when(begun, work):
    task = asyncio.create_task(work)
    assert await asyncio.to_thread(begun.wait, LONG)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_cancelled_stream_cancels_its_calls():
    pipeline = Streaming()

    async def read():
        return [piece async for piece in as_runnable(pipeline).astream("x")]

    async def run():
        await cancelled_when(pipeline.begun, read())
        assert await asyncio.to_thread(pipeline.cancelled.wait, LONG)

    asyncio.run(run())


def test_a_stream_that_is_not_read_to_its_end_is_closed():
    async def first(pipeline):
        pieces = as_runnable(pipeline).astream("x")
        assert await anext(pieces) == "x"
        await pieces.aclose()

    for pipeline in (Streaming(), AsyncStreaming()):
        asyncio.run(first(pipeline))
        assert pipeline.closed.is_set()
    pipeline = Streaming()
    pieces = as_runnable(pipeline).stream("x")
    assert next(pieces) == "x"
    pieces.close()
    assert pipeline.closed.is_set()


class Waiting(Embeddings):
    """Embeds documents when it may."""

    def __init__(self) -> None:
        self.embedder = load_embedder("hash:64")
        self.begun, self.may = threading.Event(), threading.Event()

    def embed_documents(self, texts):
        self.begun.set()
        assert self.may.wait(LONG)
        return self.embedder.embed_documents(texts).tolist()

    def embed_query(self, text):
        return self.embedder.embed_queries([text])[0].tolist()


def test_a_store_is_usable_after_a_call_was_cancelled_while_texts_were_embedded(tmp_path):
    embeddings = Waiting()
    texts = [f"text {n}" for n in range(1500)]  # two batches

    async def run(store):
        await cancelled_when(embeddings.begun, store.aadd_texts(texts, ids=texts))
        assert await store.asimilarity_search("text 1") == []
        embeddings.may.set()
        return await store.aadd_texts(["last"], ids=["last"])  # waits for the batch in progress

    with RagkitVectorStore(embeddings, path=tmp_path / "s") as store:
        assert asyncio.run(run(store)) == ["last"]
        assert len(store.index) == 1025  # the batch in progress, and the last text
        assert store.similarity_search("last", k=1)[0].id == "last"
        assert not store.index.verify()
        store.add_texts(texts, ids=texts)
        assert len(store.index) == 1501
    with RagkitVectorStore(embeddings, path=tmp_path / "s", read_only=True) as store:
        assert len(store.index) == 1501
