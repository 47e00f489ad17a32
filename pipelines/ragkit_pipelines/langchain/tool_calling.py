"""Tool calls by models whose chat template or API has no tools, through constrained decoding.

The model first chooses between the tools and an answer in words, and then generates the arguments of the chosen tool,
constrained to its JSON schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ragkit.errors import UnsupportedError
from ragkit.models._tools import arguments_of, plain_turns, selected_tools
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Chat, Completion, Message, Tool, ToolCall, Usage
from ragkit_pipelines.langchain.messages import prompts_of

T = TypeVar("T")

_ANSWER = "answer"
_CHOICE = (
    "You decide what to do next. Options:\n{options}\n"
    "{answer}: Reply to the user in words, without a tool.\nReply with one option."
)
_ARGUMENTS = (
    "Call the tool {name}. {description}\nReply only with its arguments: one JSON object that matches this JSON "
    "schema:\n{parameters}"
)


def first_supported(prompts: Sequence[AnyPrompt], work: Callable[[AnyPrompt], T]) -> T:
    """Apply a function to a conversation, or to its transcript if the model has no chat template."""
    try:
        return work(prompts[0])
    except UnsupportedError:
        if len(prompts) == 1:
            raise
    return work(prompts[-1])


@dataclass(frozen=True, slots=True)
class ToolCaller:
    """Calls tools with a model.

    Attributes:
        model: The model.
        settings: Arguments of `LanguageModel.generate`.
    """

    model: LanguageModel
    settings: Mapping[str, Any]

    def call(self, chat: Chat) -> tuple[Completion | None, Usage]:
        """Generate a tool call.

        Args:
            chat: A conversation with tools.

        Returns:
            The call, or None if the model chooses to answer in words, and the token usage.

        Raises:
            AnswerFormError: If the arguments were truncated.
        """
        tools = selected_tools(chat.tools, chat.tool_choice)
        if not tools:
            return None, Usage()
        tool, usage = self._chosen(chat, tools, optional=chat.tool_choice == "auto")
        if tool is None:
            return None, usage
        done = self._arguments(chat, tool)
        call = ToolCall(tool.name, done.text)
        usage += done.usage
        if chat.tool_choice == "auto" and _key(call) in _already_made(chat):
            return None, usage  # its result is in the conversation
        return replace(done, text="", usage=usage, parsed=None, tool_calls=(call,)), usage

    def _chosen(self, chat: Chat, tools: Sequence[Tool], *, optional: bool) -> tuple[Tool | None, Usage]:
        """Let the model choose a tool, or None to answer in words."""
        if len(tools) == 1 and not optional:
            return tools[0], Usage()
        answer = _ANSWER
        while any(tool.name == answer for tool in tools):
            answer = f"no_{answer}"
        names = [tool.name for tool in tools] + ([answer] if optional else [])
        prompts = prompts_of(_choice_chat(chat, tools, answer))
        if self.model.capabilities.score:
            scores = first_supported(prompts, lambda prompt: self.model.score([prompt], names, end_of_turn=True))
            place, usage = int(scores[0].argmax()), Usage()
        else:
            done = first_supported(prompts, lambda prompt: self.model.generate(prompt, choices=names))
            place, usage = names.index(done.text.strip()), done.usage
        return (tools[place] if place < len(tools) else None), usage

    def _arguments(self, chat: Chat, tool: Tool) -> Completion:
        schema = json.loads(tool.parameters)
        if not schema.get("properties"):
            return Completion(text="{}", cost=0.0)
        words = _ARGUMENTS.format(name=tool.name, description=tool.description, parameters=tool.parameters)
        prompts = prompts_of(_instructed(chat, words, ()))
        settings = {**self.settings, "stop": (), "schema": schema, "choices": None}
        return first_supported(prompts, lambda prompt: self.model.generate(prompt, **settings))


def _choice_chat(chat: Chat, tools: Sequence[Tool], answer: str) -> Chat:
    """Ask for a choice, after an example for each option: the description of a tool as a request for it."""
    options = "\n".join(f"{tool.name}: {tool.description}" for tool in tools)
    examples = [("Hello!", answer), *((tool.description or tool.name, tool.name) for tool in tools)]
    examples.append(("Thanks, that is all.", answer))
    shown = [turn for asked, name in examples for turn in (Message("user", asked), Message("assistant", name))]
    return _instructed(chat, _CHOICE.format(options=options, answer=answer), shown)


def _instructed(chat: Chat, words: str, shown: Sequence[Message]) -> Chat:
    """Add words to the system message, and example turns after it."""
    turns = plain_turns(chat.messages)
    system = [turns.pop(0).content] if turns[0].role == "system" else []
    return Chat((Message("system", "\n\n".join([*system, words])), *shown, *turns))


def _already_made(chat: Chat) -> set[tuple[str, str]]:
    """Return the calls since the last message of the user."""
    last = max((index for index, turn in enumerate(chat.messages) if turn.role == "user"), default=0)
    return {_key(call) for turn in chat.messages[last:] for call in turn.tool_calls}


def _key(call: ToolCall) -> tuple[str, str]:
    return call.name, json.dumps(arguments_of(call), sort_keys=True)
