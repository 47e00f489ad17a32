"""Report the model calls, retrievals and selections of a pipeline to LangChain, as child runs of a chain."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, TypeVar

from langchain_core.callbacks import CallbackManager
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, GenerationChunk, LLMResult
from langchain_core.runnables.config import patch_config, var_child_runnable_config

from ragkit._observation import Kind, ObservedCall, Observer, Unreported, observing
from ragkit.models import prompt_text
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Chat, Completion, Hit, Prompt, Selection
from ragkit_pipelines.langchain.messages import message_fields

T = TypeVar("T")
_ROLES = {"system": SystemMessage, "assistant": AIMessage}


def observer_of(parents: Sequence[CallbackManager]) -> Observer | None:
    """Return an observer that starts runs below the runs of some inputs; None if nothing listens to them.

    If a call has as many inputs as there are parents, the run of each input has its own parent. Otherwise, all runs are
    below the first one.
    """
    if not any(parent.handlers or parent.inheritable_handlers for parent in parents):
        return None

    def observe(kind: Kind, component: Any, inputs: Sequence[Any], settings: Mapping[str, Any]) -> ObservedCall:
        if kind in {"comparison", "strategy"}:
            return Unreported()
        own = list(parents) if len(parents) == len(inputs) else [parents[0]] * len(inputs)
        if kind == "model":
            return TracedModelCall(own, component, inputs, settings)
        return TracedRetrieval(own, component, inputs)

    return observe


@contextmanager
def unreported() -> Iterator[None]:
    """Do the work of a call that has a run of its own, without reporting the calls inside it as well."""
    token = var_child_runnable_config.set(None)
    try:
        with observing(None):
            yield
    finally:
        var_child_runnable_config.reset(token)


def unreported_pieces(pieces: Generator[T, None, None]) -> Generator[T, None, None]:
    """Yield the pieces of a generator, whose code runs in `unreported`, unlike that of the caller."""
    with closing(pieces):
        while True:
            with unreported():
                try:
                    piece = next(pieces)
                except StopIteration:
                    return
            yield piece


class TracedCall:
    """A call in progress, with a run for each input.

    Attributes:
        runs: The runs, in the order of the inputs.
    """

    runs: list[Any]

    def inside(self) -> AbstractContextManager[None]:
        """Do the work without reporting the calls inside it."""
        return unreported()

    def piece(self, text: str) -> None:
        """Report a piece of a streamed answer."""


class TracedModelCall(TracedCall):
    """A call of a model: chat model runs for chats, and LLM runs for texts, with the model's name and the usage."""

    def __init__(
        self,
        parents: Sequence[CallbackManager],
        model: LanguageModel,
        prompts: Sequence[AnyPrompt],
        settings: Mapping[str, Any],
    ) -> None:
        """Start the runs."""
        self.name, self.runs, self.chats = model.name, [], []
        for parent, prompt in zip(parents, prompts, strict=True):
            messages = _messages(prompt) if model.capabilities.chat else None
            manager = _with_metadata(
                parent,
                {
                    "ls_provider": "ragkit",
                    "ls_model_name": model.name,
                    "ls_model_type": "llm" if messages is None else "chat",
                    "ls_temperature": settings.get("temperature"),
                    "ls_max_tokens": settings.get("max_tokens"),
                },
            )
            facts: dict[str, Any] = {"invocation_params": {"model_name": model.name, **settings}, "name": model.name}
            self.chats.append(messages is not None)
            if messages is None:
                self.runs += manager.on_llm_start({}, [prompt_text(prompt)], **facts)
            else:
                self.runs += manager.on_chat_model_start({}, [messages], **facts)

    def piece(self, text: str) -> None:
        """Report a piece of a streamed answer."""
        chunk: Any = GenerationChunk(text=text)
        if self.chats[0]:
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=text))
        self.runs[0].on_llm_new_token(text, chunk=chunk)

    def ended(self, results: Sequence[Any]) -> None:
        """Report the completions, and the error of a prompt without one."""
        for run, result in zip(self.runs, results, strict=True):
            if isinstance(result, Completion):
                generation = ChatGeneration(message=self._message(result))
                run.on_llm_end(LLMResult(generations=[[generation]], llm_output={"model_name": self.name}))
            elif isinstance(result, BaseException):
                run.on_llm_error(result, response=LLMResult(generations=[]))
            else:
                run.on_llm_end(LLMResult(generations=[[]], llm_output={"model_name": self.name}))

    def failed(self, error: BaseException) -> None:
        """Report an error of all prompts."""
        for run in self.runs:
            run.on_llm_error(error, response=LLMResult(generations=[]))

    def _message(self, completion: Completion) -> AIMessage:
        fields = message_fields(completion, self.name)
        if completion.cached:  # its usage and cost are savings
            fields = {"response_metadata": {**fields["response_metadata"], "cached": True}}
        return AIMessage(content=completion.text, **fields)


class TracedRetrieval(TracedCall):
    """A retrieval of documents, or a selection of examples; calls inside it are its child runs."""

    def __init__(self, parents: Sequence[CallbackManager], component: object, queries: Sequence[Any]) -> None:
        """Start the runs."""
        name = type(component).__name__
        self.runs = [
            _with_metadata(parent, {"ls_retriever_name": name}).on_retriever_start(None, _text(query), name=name)
            for parent, query in zip(parents, queries, strict=True)
        ]

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Do the work, and report calls inside it as child runs."""
        children = [run.get_child() for run in self.runs]
        config = patch_config(var_child_runnable_config.get(), callbacks=children[0])
        token = var_child_runnable_config.set(config)
        try:
            with observing(observer_of(children)):
                yield
        finally:
            var_child_runnable_config.reset(token)

    def ended(self, results: Sequence[Any]) -> None:
        """Report the documents or examples of each query."""
        for run, found in zip(self.runs, results, strict=True):
            hits: Sequence[Hit] = found.hits if isinstance(found, Selection) else found
            run.on_retriever_end([_document(hit) for hit in hits])

    def failed(self, error: BaseException) -> None:
        """Report an error of all queries."""
        for run in self.runs:
            run.on_retriever_error(error)


def _with_metadata(parent: CallbackManager, metadata: Mapping[str, Any]) -> CallbackManager:
    manager = parent.copy()
    manager.add_metadata({name: value for name, value in metadata.items() if value is not None}, inherit=False)
    return manager


def _messages(prompt: AnyPrompt) -> list[BaseMessage] | None:
    """Return the messages that a chat model receives; None for a prompt that it continues as text."""
    if isinstance(prompt, Prompt) and prompt.form == "text":
        return None
    chat = prompt.chat if isinstance(prompt, Prompt) else prompt
    if not isinstance(chat, Chat):
        return [HumanMessage(content=prompt_text(prompt))]
    return [_ROLES.get(turn.role, HumanMessage)(content=turn.content) for turn in chat.messages]


def _text(query: object) -> str:
    return "\n".join(map(str, query.values())) if isinstance(query, Mapping) else str(query)


def _document(hit: Hit) -> Document:
    return Document(page_content=hit.text, id=hit.id, metadata={**(hit.metadata or {}), "score": hit.score})
