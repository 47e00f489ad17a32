"""An application on LangChain and LangGraph: all of its parts, also in a plain Python process."""

import sys
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder

from ragkit import ScriptedModel
from ragkit.errors import UnsupportedError
from ragkit.langchain import RagkitChatModel, RagkitVectorStore

pytest.importorskip("langgraph")
spec = spec_from_file_location("application", Path(__file__).with_name("application.py"))
application = module_from_spec(spec)
sys.modules[spec.name] = application  # LangGraph reads the annotations of its states there
spec.loader.exec_module(application)


@pytest.mark.parametrize("part", application.PARTS, ids=lambda part: part.__name__)
def test_part(part, tmp_path):
    assert part(tmp_path)


def test_an_agent_refuses_an_image_before_its_model_is_called(tmp_path):
    model = ScriptedModel(["x"])
    with application.IndexingJob(tmp_path / "desk.rag") as job:
        agent = application.search_agent(job.store, RagkitChatModel(model=model))
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
        with pytest.raises(UnsupportedError, match=r"messages\[1\] \(HumanMessage\)"):
            agent.invoke({"messages": [HumanMessage([image])]}, {"configurable": {"thread_id": "1"}})
    assert model.asked == []


def test_record_managers_with_other_namespaces_share_equal_documents():
    store = RagkitVectorStore("hash:64")

    def job(namespace):
        records = InMemoryRecordManager(namespace)
        records.create_schema()

        def run(*texts):
            documents = [Document(text, metadata={"source": text}) for text in texts]
            told = index(documents, records, store, cleanup="full", source_id_key="source", key_encoder="sha256")
            return told["num_added"], told["num_skipped"], told["num_deleted"]

        return run

    def held():
        return sorted(found.page_content for found in store.similarity_search("x", k=99))

    first, second = job("first"), job("second")
    assert first("one", "two") == (2, 0, 0)
    assert second("two", "three") == (2, 0, 0)
    assert held() == ["one", "three", "two"]
    assert first("one") == (0, 1, 1)
    assert held() == ["one", "three"]  # the documents of the other job stay, except equal ones
    assert second() == (0, 0, 2)
    assert held() == ["one"]


def test_the_deprecated_class_for_histories_still_works():
    """Applications that have not moved to checkpointers yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated since langchain-core 1.3
        from langchain_core.chat_history import InMemoryChatMessageHistory
        from langchain_core.runnables.history import RunnableWithMessageHistory

        model, histories = ScriptedModel(["Paris", "Rome"]), {}
        prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{question}")])
        chain = RunnableWithMessageHistory(
            prompt | RagkitChatModel(model=model),
            lambda session_id: histories.setdefault(session_id, InMemoryChatMessageHistory()),
            input_messages_key="question",
            history_messages_key="history",
        )
        config = {"configurable": {"session_id": "a"}}
        assert chain.invoke({"question": "Capital of France?"}, config).content == "Paris"
        assert chain.invoke({"question": "And of Italy?"}, config).content == "Rome"
    assert "Paris" in model.asked[1]
    assert len(histories["a"].messages) == 4
