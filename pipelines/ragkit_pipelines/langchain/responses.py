"""Responses of a model to LangChain's messages: whole, in chunks, or for a batch of conversations."""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from ragkit.errors import AnswerFormError, BatchError, RagkitError, RefusalError
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Chat, Completion, Usage
from ragkit_pipelines.langchain.call_options import CallOptions
from ragkit_pipelines.langchain.messages import chat_of, message_fields, prompts_of
from ragkit_pipelines.langchain.tool_calling import ToolCaller, first_supported


@dataclass(frozen=True, slots=True)
class Responder:
    """Responds to conversations, with the options of one call.

    Attributes:
        model: The model.
        options: The arguments of the call.
    """

    model: LanguageModel
    options: CallOptions

    def complete(self, messages: Sequence[BaseMessage]) -> Completion:
        """Generate the response to a conversation."""
        call, chat, called = self._tool_call(chat_of(messages))
        return self._complete(chat, called) if call is None else call

    def complete_all(self, conversations: Sequence[Sequence[BaseMessage]]) -> list[Completion]:
        """Generate the responses to several conversations, in one call of the model if no tools are given."""
        if self.options.tools:
            return [self.complete(messages) for messages in conversations]
        prompts = [prompts_of(chat_of(messages)) for messages in conversations]
        forms = [[each[0] for each in prompts], [each[-1] for each in prompts]]  # the latter without a chat template
        try:
            return first_supported(
                forms[: max(map(len, prompts), default=1)],
                lambda form: self.model.generate(form, **self.options.settings),
            )
        except BatchError as error:
            if not self.options.keep_invalid:
                raise
            return [each if isinstance(each, Completion) else self._invalid(each) for each in error.results]
        except (AnswerFormError, RefusalError):  # all responses are invalid, and this is the first
            if not self.options.keep_invalid:
                raise
            return [self.complete(messages) for messages in conversations]

    def chunks(self, messages: Sequence[BaseMessage]) -> Generator[ChatGenerationChunk, None, None]:
        """Yield the response in chunks: text as it is generated, but tool calls and constrained text as a whole."""
        done, chat, called = self._tool_call(chat_of(messages))
        if done is None and (chat.tools or self.options.constrained):
            done = self._complete(chat, called)
        if done is None:
            stream, pieces = self._begin(prompts_of(chat))
            text = ""
            for piece in pieces:
                text += piece
                yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
            done = getattr(stream, "completion", None) or self._counted(chat, text)
            done = replace(done, text="", usage=called + done.usage)
        yield ChatGenerationChunk(message=_last_chunk(done, self.model.name))

    def _complete(self, chat: Chat, called: Usage) -> Completion:
        """Generate a response, and add the usage of the decision to make no tool call."""
        try:
            done: Completion = first_supported(
                prompts_of(chat), lambda prompt: self.model.generate(prompt, **self.options.settings)
            )
        except RagkitError as error:
            done = self._invalid(error)
        calls = done.tool_calls[:1] if self.options.one_call else done.tool_calls
        return replace(done, usage=called + done.usage, tool_calls=calls)

    def _invalid(self, error: RagkitError) -> Completion:
        """Return the response in an error if invalid responses are returned; otherwise raise the error."""
        if self.options.keep_invalid and isinstance(error, AnswerFormError | RefusalError):
            return error.completion
        raise error

    def _tool_call(self, chat: Chat) -> tuple[Completion | None, Chat, Usage]:
        """Return a tool call, or None; then the conversation that the model answers; and the usage of the decision."""
        if not self.options.tools:
            return None, chat, Usage()
        given = replace(chat, tools=self.options.tools, tool_choice=self.options.tool_choice)
        if self.model.capabilities.tools:
            return None, given, Usage()
        call, usage = ToolCaller(self.model, self.options.settings).call(given)
        return call, chat, usage

    def _begin(self, prompts: Sequence[AnyPrompt]) -> tuple[Iterator[str], Iterator[str]]:
        """Stream the first prompt that the model supports; reading the first piece raises the error if it does not."""

        def begin(prompt: AnyPrompt) -> tuple[Iterator[str], Iterator[str]]:
            stream = self.model.stream(prompt, **self.options.settings)
            return stream, itertools.chain([next(stream, "")], stream)

        return first_supported(prompts, begin)

    def _counted(self, chat: Chat, text: str) -> Completion:
        """Return the completion of a stream that reports none, with token counts of the model's tokenizer."""
        count = self.model.count_tokens
        read, written = count("\n".join(turn.content for turn in chat.messages)), count(text)
        truncated = written >= self.options.settings["max_tokens"]
        return Completion(
            text=text,
            usage=Usage(prompt_tokens=read, completion_tokens=written),
            finish_reason="length" if truncated else "stop",
        )


def _last_chunk(done: Completion, name: str) -> AIMessageChunk:
    """Convert a completion to the last chunk of a stream."""
    fields = message_fields(done, name)
    calls = [*fields.pop("tool_calls", ()), *fields.pop("invalid_tool_calls", ())]
    fields["tool_call_chunks"] = [
        tool_call_chunk(
            name=call["name"],
            args=call["args"] if isinstance(call["args"], str) else json.dumps(call["args"], ensure_ascii=False),
            id=call["id"],
            index=index,
        )
        for index, call in enumerate(calls)
    ]
    return AIMessageChunk(content=done.text, **fields, chunk_position="last")
