"""A support desk on LangChain and LangGraph: articles, conversations, an agent, a graph and servers, on ragkit's parts.

test_application.py runs the parts in pytest. `python application.py` runs them without it, in any environment in which
ragkit, LangChain and LangGraph are installed; tests/wheels/try_wheels.py does so with the oldest and newest of them.
"""

from __future__ import annotations

import json
import operator
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.messages import AnyMessage, trim_messages
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt

from ragkit import DenseRetriever, RetrieveThenAnswer, ScriptedModel
from ragkit.langchain import RagkitChatModel, RagkitVectorStore, as_runnable, checkpoint_types

ARTICLES = {
    "parcels": "A parcel that has not moved for five days is lost. We send it again free of charge.",
    "refunds": "Refunds reach the card within three working days after the return arrived.",
    "passwords": "A new password is requested on the sign-in page. The link is valid for one hour.",
}
QUESTIONS = ["my parcel has not moved", "when do refunds reach my card", "how do I get a new password"]
EMBEDDER = "hash:512"


class IndexingJob:
    """Brings the store in line with the articles, with LangChain's own record of what was indexed."""

    def __init__(self, path: Path) -> None:
        self.store = RagkitVectorStore(EMBEDDER, path=path)
        self.records = InMemoryRecordManager("desk")
        self.records.create_schema()

    def __enter__(self) -> IndexingJob:
        self.run(ARTICLES)
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def run(self, articles: dict[str, str]) -> tuple[int, int, int]:
        """Return how many documents were added, skipped because they have not changed, and deleted."""
        documents = [Document(text, metadata={"source": name}) for name, text in articles.items()]
        found = index(documents, self.records, self.store, cleanup="full", source_id_key="source", key_encoder="sha256")
        return found["num_added"], found["num_skipped"], found["num_deleted"]


# Conversations: a chain that answers from an article, and a graph that remembers the messages of each thread.


class Conversation(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def conversations(store: RagkitVectorStore, chat: RagkitChatModel, max_tokens: int) -> Any:
    """A graph with a node: the last messages, as many as fit into some tokens of the model, and the article."""
    recent = trim_messages(
        strategy="last", token_counter=chat, max_tokens=max_tokens, start_on="human", include_system=True
    )
    article = store.as_retriever(k=1) | (lambda found: found[0].page_content)
    prompt = ChatPromptTemplate.from_messages(
        [
            ("system", "Answer in one sentence, from the article."),
            MessagesPlaceholder("history"),
            ("human", "{question}\nArticle: {article}"),
        ]
    )
    chain = RunnablePassthrough.assign(article=operator.itemgetter("question") | article) | prompt | chat

    def answer(state: Conversation) -> dict[str, Any]:
        *history, last = state["messages"]
        return {"messages": [chain.invoke({"history": recent.invoke(history), "question": last.content})]}

    building = StateGraph(Conversation)
    building.add_node("answer", answer)
    building.add_edge(START, "answer")
    return building.compile(checkpointer=InMemorySaver())


def quoting(prompt: str) -> str:
    """Answer with the first sentence of the article or passage in a prompt."""
    text = re.split(r"Article: |\n\[1\] ", prompt)[-1]
    return text.split(".")[0] + "."


def search_agent(store: RagkitVectorStore, chat: RagkitChatModel) -> Any:
    """An agent that looks up articles with a tool, and remembers its threads."""
    articles = create_retriever_tool(store.as_retriever(k=1), "articles", "Search the articles of the support desk.")
    return create_agent(chat, [articles], system_prompt="Use the articles.", checkpointer=InMemorySaver())


# A graph that answers several questions in parallel; questions that no article answers wait for a person.


class Desk(TypedDict, total=False):
    questions: list[str]
    answers: Annotated[list[Any], operator.add]  # of ragkit's class CitedAnswer
    by_hand: Annotated[list[str], operator.add]
    reply: str


def strict() -> JsonPlusSerializer:
    """A serializer that restores only LangGraph's own classes and ragkit's; older versions cannot be limited."""
    if "allowed_msgpack_modules" not in signature(JsonPlusSerializer).parameters:
        return JsonPlusSerializer()
    return JsonPlusSerializer(allowed_msgpack_modules=checkpoint_types())


def desk(answering: Any) -> Any:
    """A graph whose node `answer` runs once per question, in parallel."""
    pipeline = as_runnable(answering, input_key="question")

    def answer(state: dict[str, str]) -> dict[str, list[Any]]:
        found = pipeline.invoke(state)
        return {"by_hand": [interrupt(state["question"])]} if found.refused else {"answers": [found]}

    def reply(state: Desk) -> dict[str, str]:
        return {"reply": "\n".join([*(each.text for each in state["answers"]), *state["by_hand"]])}

    building = StateGraph(Desk)
    building.add_node("answer", answer)
    building.add_node("reply", reply)
    building.add_conditional_edges(
        START, lambda state: [Send("answer", {"question": each}) for each in state["questions"]], ["answer"]
    )
    building.add_edge("answer", "reply")
    building.add_edge("reply", END)
    return building.compile(checkpointer=InMemorySaver(serde=strict()))


# A server of several processes: each opens the store read-only while the indexing job writes.


def serve(path: str) -> None:
    """Answer searches over HTTP, and print the port."""
    store = RagkitVectorStore(path=path, read_only=True)

    class Search(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)["q"][0]
            body = json.dumps([found.metadata["source"] for found in store.similarity_search(query, k=1)]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Search)
    print(server.server_port, flush=True)
    server.serve_forever()


@contextmanager
def servers(path: Path, count: int) -> Iterator[list[int]]:
    """Start processes, and yield their ports."""
    command = [sys.executable, __file__, "serve", str(path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        yield [int(each.stdout.readline()) for each in started if each.stdout]
    finally:
        for each in started:
            each.kill()
            each.communicate()


def searched(port: int, query: str) -> list[str]:
    """Return the source of the article that a server found."""
    url = f"http://127.0.0.1:{port}/?{urllib.parse.urlencode({'q': query})}"
    with urllib.request.urlopen(url, timeout=300) as reply:
        return list(json.load(reply))


# What each part must do.


def indexing(folder: Path) -> str:
    job = IndexingJob(folder / "desk.rag")
    with job.store as store:
        assert job.run(ARTICLES) == (3, 0, 0)
        assert job.run(ARTICLES) == (0, 3, 0)
        changed = {**ARTICLES, "refunds": "Refunds reach the card on the next day."}
        assert job.run(changed) == (1, 2, 1)
        del changed["passwords"]
        assert job.run(changed) == (0, 2, 1)
        assert job.run(changed) == (0, 2, 0)
    with RagkitVectorStore(path=folder / "desk.rag", read_only=True) as store:
        found = store.similarity_search("refunds", k=9)
    assert [each.page_content for each in found] == [changed["refunds"], changed["parcels"]]
    return "unchanged articles are skipped, changed and deleted ones leave the store"


def conversing(folder: Path) -> str:
    model = ScriptedModel(quoting)
    with IndexingJob(folder / "desk.rag") as job:
        graph = conversations(job.store, RagkitChatModel(model=model), max_tokens=45)
        for question, text in zip(QUESTIONS, ARTICLES.values(), strict=True):
            state = graph.invoke({"messages": [("user", question)]}, {"configurable": {"thread_id": "ann"}})
            assert state["messages"][-1].content == quoting(text)
        assert QUESTIONS[0] in model.asked[1]
        assert QUESTIONS[0] not in model.asked[2]  # it does not fit
        assert QUESTIONS[1] in model.asked[2]
        assert len(state["messages"]) == 6
        graph.invoke({"messages": [("user", QUESTIONS[0])]}, {"configurable": {"thread_id": "bob"}})
        assert QUESTIONS[1] not in model.asked[3]
    return "each thread has its own history, of which the last messages are in the prompt"


def calling(folder: Path) -> str:
    model = ScriptedModel(["articles", '{"query": "parcel"}', "answer", "We send it again.", "answer", "Welcome."])
    with IndexingJob(folder / "desk.rag") as job:
        agent = search_agent(job.store, RagkitChatModel(model=model))
        thread = {"configurable": {"thread_id": "ann"}}
        messages = agent.invoke({"messages": [("user", QUESTIONS[0])]}, thread)["messages"]
        assert [each.type for each in messages] == ["human", "ai", "tool", "ai"]
        assert messages[2].content == ARTICLES["parcels"]
        assert messages[3].content == "We send it again."
        assert len(agent.invoke({"messages": [("user", "Thanks")]}, thread)["messages"]) == 6
    assert ARTICLES["parcels"] in model.asked[-1]
    return "the agent calls its retriever tool, answers, and remembers the thread"


def resuming(folder: Path) -> str:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt.split("Question: ")[-1].splitlines()[0])
        return f"{quoting(prompt)} [1]" if asked[-1] in QUESTIONS else "Not in the documents."

    unknown = "do you sell gift cards"
    with IndexingJob(folder / "desk.rag") as job:
        graph = desk(RetrieveThenAnswer(ScriptedModel(answer), DenseRetriever(job.store.index), k=1))
        thread = {"configurable": {"thread_id": "1"}}
        state = graph.invoke({"questions": [unknown, *QUESTIONS]}, thread)
        assert sorted(asked) == sorted([unknown, *QUESTIONS])
        assert [each.value for each in state["__interrupt__"]] == [unknown]
        state = graph.invoke(Command(resume="We do not sell any."), thread)
    assert asked[4:] == [unknown]  # the finished nodes do not run again
    assert state["reply"].splitlines() == [*(f"{quoting(text)} [1]" for text in ARTICLES.values()), *state["by_hand"]]
    restored = graph.get_state(thread).values["answers"]
    assert {type(each).__name__ for each in restored} == {"CitedAnswer"}
    assert [each.citations[0].source for each in restored] == [*ARTICLES]
    return "finished nodes do not run again, and checkpoints restore ragkit's results"


def serving(folder: Path) -> str:
    with IndexingJob(folder / "desk.rag") as job, servers(folder / "desk.rag", 2) as ports:
        for port in ports:
            assert searched(port, QUESTIONS[0]) == ["parcels"]
        job.run({**ARTICLES, "opening hours": "On which days is the desk open? From Monday to Friday."})
        for port in ports:
            assert searched(port, "on which days is the desk open") == ["opening hours"]
        job.run({"parcels": ARTICLES["parcels"]})
        for port in ports:
            assert searched(port, "on which days is the desk open") == ["parcels"]
    return "both processes find what the indexing job has committed"


def local_model(folder: Path) -> str:
    chat = RagkitChatModel(model="smollm2", max_tokens=24)
    with IndexingJob(folder / "desk.rag") as job:
        graph = conversations(job.store, chat, max_tokens=200)
        thread = {"configurable": {"thread_id": "ann"}}
        for question in ("How long is the link for a new password valid?", "And when is a parcel lost?"):
            state = graph.invoke({"messages": [("user", question)]}, thread)
            assert StrOutputParser().invoke(state["messages"][-1]).strip()
            assert state["messages"][-1].usage_metadata["input_tokens"] > 20
    return " / ".join(" ".join(each.content.split()) for each in state["messages"] if each.type == "ai")


PARTS = (indexing, conversing, calling, resuming, serving, local_model)


def main() -> None:
    for part in PARTS:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{part.__name__}: {part(Path(folder))}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    else:
        main()
