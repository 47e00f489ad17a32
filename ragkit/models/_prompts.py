"""Forms of prompts, and truncation of answers at stop sequences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.models._tools import plain_turns
from ragkit.protocols import AnyPrompt
from ragkit.records import Chat, Message, Prompt


def checked_prompts(prompts: Iterable[AnyPrompt]) -> list[AnyPrompt]:
    """Check that prompts are a sequence of valid prompts, and not a single string.

    Returns:
        The prompts as a list.

    Raises:
        InvalidInputError: If an item is not a prompt, or if the argument is a string.
    """
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        raise InvalidInputError(f"`prompts` must be a sequence of prompts, got {type(prompts).__name__}")
    batch = list(prompts)
    for place, prompt in enumerate(batch):
        if not isinstance(prompt, str | Prompt | Chat):
            raise InvalidInputError(
                f"`prompts[{place}]` must be a string, a Prompt or a Chat, got {type(prompt).__name__}"
            )
    return batch


def in_form(prompt: AnyPrompt, *, chat: bool, name: str) -> Chat | Prompt:
    """Return a prompt in the form that the model needs: a conversation for a chat model, unless it requires text.

    Raises:
        UnsupportedError: If the prompt is a conversation and the model, called ``name``, does not accept any.
    """
    whole = Prompt(prompt) if isinstance(prompt, str) else prompt
    if not chat:
        if isinstance(whole, Chat) or whole.form == "chat":
            raise UnsupportedError(
                f"{name} has no chat template, so it cannot be given a conversation; pass a string, a Prompt, or a "
                "Template with form='text'"
            )
        return whole
    if isinstance(whole, Chat) or whole.form == "text":
        return whole
    return whole.chat or Chat((Message("user", whole.text),))


def without_system_role(turns: Sequence[Message]) -> tuple[Message, ...]:
    """Prepend the system message of a conversation to its first user turn."""
    if not turns or turns[0].role != "system":
        return tuple(turns)
    rest = list(turns[1:])
    first = rest.pop(0).content if rest and rest[0].role == "user" else ""
    return (Message("user", "\n\n".join(filter(None, (turns[0].content, first)))), *rest)


def prompt_text(prompt: AnyPrompt) -> str:
    """Return a prompt as plain text; each turn of a conversation is preceded by its role."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Prompt):
        return prompt.text
    return "\n\n".join(f"{message.role}: {message.content}" for message in plain_turns(prompt.messages))


def until_stop(pieces: Iterable[str], stop: Sequence[str]) -> Iterator[str]:
    """Yield pieces of a text up to the first stop sequence, delaying text that may be the beginning of one."""
    held, reach = "", max(map(len, stop), default=1) - 1
    for piece in pieces:
        held, stopped = cut_at_stop(held + piece, stop)
        ready = len(held) if stopped else len(held) - reach
        if ready > 0:
            yield held[:ready]
            held = held[ready:]
        if stopped:
            return
    if held:
        yield held


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Truncate a text at the first stop sequence, and return whether there was one."""
    places = [place for place in map(text.find, stop) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)
