"""Tool calls by models whose chat template or API has no tools, through constrained decoding.

The model first chooses between the tools and an answer in words, and then generates the arguments of the chosen tool,
constrained to its JSON schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ragkit.errors import AnswerFormError, UnsupportedError
from ragkit.models._tools import arguments_of, plain_turns, selected_tools
from ragkit.protocols import LanguageModel
from ragkit.records import Chat, Completion, Message, Tool, ToolCall, Usage
from ragkit_pipelines.langchain.messages import prompts_of

P = TypeVar("P")
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
_REQUESTS = ("Use {values}.", "What about {values}?", "{values}, please.")
_VALUES: Mapping[str, Sequence[Any]] = {
    "string": ("the red lamp", "Lima", "old trees"), "integer": (3, 40, 12), "number": (3, 40, 12),
}  # fmt: skip


def first_supported(forms: Sequence[P], work: Callable[[P], T]) -> T:
    """Apply a function to conversations, or to their transcripts if the model has no chat template."""
    try:
        return work(forms[0])
    except UnsupportedError:
        if len(forms) == 1:
            raise
    return work(forms[-1])


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
        call_only = replace(done, text="", usage=usage, parsed=None, tool_calls=(call,), finish_reason="tool_calls")
        return call_only, usage

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
        """Return the arguments of a call.

        A small model may invent a value, or not find the end of it. If the arguments contain a text that does not occur
        in the conversation, they are generated once more after examples of values that are copied from a message.
        """
        schema = json.loads(tool.parameters)
        if not schema.get("properties"):
            return Completion(text="{}", cost=0.0)
        said = "\n".join(turn.content for turn in chat.messages).casefold()
        first = self._attempt(chat, tool, schema, ())
        if isinstance(first, Completion) and _occurs(first, said):
            return first
        if examples := _examples(schema):
            second = self._attempt(chat, tool, schema, examples)
            if isinstance(second, Completion) and (not isinstance(first, Completion) or _occurs(second, said)):
                return replace(second, usage=second.usage + _usage(first))
        if isinstance(first, AnswerFormError):
            raise first
        return first

    def _attempt(
        self, chat: Chat, tool: Tool, schema: Mapping[str, Any], examples: Sequence[Message]
    ) -> Completion | AnswerFormError:
        words = _ARGUMENTS.format(name=tool.name, description=tool.description, parameters=tool.parameters)
        prompts = prompts_of(_instructed(chat, words, examples))
        kept = {name: value for name, value in self.settings.items() if name not in {"choices", "grammar"}}
        settings = {**kept, "stop": (), "schema": schema}
        try:
            return first_supported(prompts, lambda prompt: self.model.generate(prompt, **settings))
        except AnswerFormError as error:
            return error


def _usage(attempt: Completion | AnswerFormError) -> Usage:
    return attempt.usage if isinstance(attempt, Completion) else attempt.completion.usage


def _occurs(arguments: Completion, said: str) -> bool:
    """Whether every text in the arguments occurs in the conversation."""
    values = [json.loads(arguments.text)]
    for value in values:  # grows
        if isinstance(value, Mapping | list):
            values += value.values() if isinstance(value, Mapping) else value
        elif isinstance(value, str) and value.casefold() not in said:
            return False
    return True


def _examples(schema: Mapping[str, Any]) -> list[Message]:
    """Return messages with the arguments that they contain; none if the schema is not a flat list of plain values."""
    kinds = {name: value.get("type") for name, value in schema["properties"].items() if isinstance(value, Mapping)}
    constrained = any(set(value) & {"enum", "const", "pattern", "format"} for value in schema["properties"].values())
    if constrained or not set(kinds.values()) <= set(_VALUES):
        return []
    turns = []
    for row, request in enumerate(_REQUESTS):
        values = {name: _VALUES[str(kind)][row] for name, kind in kinds.items()}
        asked = request.format(values=" and ".join(map(str, values.values())))
        turns += [Message("user", asked), Message("assistant", json.dumps(values))]
    return turns


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
