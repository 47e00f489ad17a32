"""Templates, which render examples and queries as a prompt, in text or chat form, for inference and training.

A template is split into literals and fields once. Values are then inserted between the literals and never parsed again,
so braces, template syntax or delimiters inside an example remain plain text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.records import Chat, Example, Fields, Form, Message, Prompt

if TYPE_CHECKING:
    from ragkit.protocols import LanguageModel

__all__ = ["Template"]

_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")
_QUERY = "Input: {input}\nOutput:"
_LABEL_SHARE = 4  # the list of labels may take one fourth of the context window


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    r"""The format of examples, a query and its answer.

    ``{input}`` is replaced by the whole input. The fields of an input with several fields can be named, and ``{input}``
    then lists them as lines of ``name: value``. Everything else, including other braces, is literal.

    A template renders to two forms. The text form is one string for base models: instruction, examples and query,
    joined by the separator. The chat form is for chat models: the instruction is the system message, each example is
    a user turn and an assistant turn, and the query is the last user turn.

    Attributes:
        query: Format of the input, up to the beginning of the answer. It ends without a space, which is part of
            `answer`. In the chat form, the default query is the input alone.
        answer: Format of the answer, with the space before it. The chat form removes surrounding whitespace.
        separator: Separator at the end of each example of the text form; generation stops at it.
        instruction: Instruction at the beginning of the prompt.
        form: ``"chat"``, ``"text"``, or ``"auto"`` for the chat form if the model has a chat template.
        labels: Possible answers, which are listed after the instruction.

    Examples:
        >>> template = Template(instruction="Name the colour.")
        >>> prompt = template.prompt([Example("sky", "blue")], "grass")
        >>> print(prompt.text)
        Name the colour.
        <BLANKLINE>
        Input: sky
        Output: blue
        <BLANKLINE>
        Input: grass
        Output:
        >>> [(message.role, message.content) for message in prompt.chat.messages]
        [('system', 'Name the colour.'), ('user', 'sky'), ('assistant', 'blue'), ('user', 'grass')]
    """

    query: str = _QUERY
    answer: str = " {output}"
    separator: str = "\n\n"
    instruction: str = ""
    form: Form = "auto"
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _FIELD.search(self.query):
            raise InvalidInputError(f"`query` must contain a field such as {{input}}, got {self.query!r}")
        if [name for _, name in _segments(self.answer) if name] != ["output"]:
            raise InvalidInputError(f"`answer` must contain {{output}} once and no other field, got {self.answer!r}")
        if self.form not in {"auto", "chat", "text"}:
            raise InvalidInputError(f"`form` must be 'auto', 'chat' or 'text', got {self.form!r}")
        if not self.separator:
            raise InvalidInputError("`separator` must not be empty, because generation stops at it")

    def for_model(self, model: LanguageModel) -> Template:
        """Set the form for a model, and drop the list of labels if it would take too much of the context window.

        Args:
            model: The model that receives the prompts.

        Returns:
            A template whose `form` is ``"chat"`` or ``"text"``.

        Raises:
            UnsupportedError: If `form` is ``"chat"`` and the model does not accept conversations.
            InvalidInputError: If the form is text and no text separates the answer from the query.
        """
        able = model.capabilities
        if self.form == "chat" and not able.chat:
            raise UnsupportedError(f"{model.name} has no chat template; use a Template with form='text' or form='auto'")
        form: Form = ("chat" if able.chat else "text") if self.form == "auto" else self.form
        if form == "text" and not _segments(self.query)[-1][0] and self.answer.startswith("{output}"):
            raise InvalidInputError(
                f"nothing divides the answer from the query: `query` {self.query!r} ends with a field and `answer` "
                f"{self.answer!r} begins with one; put text between them, such as answer=' {{output}}', or use "
                "form='chat' with a chat model"
            )
        fits = not (self.labels and able.window) or (
            model.count_tokens(_listed(self.labels)) * _LABEL_SHARE <= able.window
        )
        return replace(self, form=form, labels=self.labels if fits else ())

    @property
    def task(self) -> str:
        """The instruction with the list of labels."""
        return " ".join(part for part in (self.instruction, _listed(self.labels)) if part)

    @property
    def head(self) -> str:
        """The beginning of every prompt in the text form."""
        return self.task + self.separator if self.task else ""

    @property
    def stop(self) -> tuple[str, ...]:
        """The stop sequences: the separator in the text form; none in the chat form, in which the turn ends."""
        return () if self.form == "chat" else (self.separator,)

    def render_query(self, value: str | Fields) -> str:
        """Render an input as the last part of the text form; an input without a named field is an error."""
        return _filled(self.query, _values(value))

    def render_answer(self, output: str) -> str:
        """Render an answer as the model should generate it; the text form includes the separator."""
        filled = _filled(self.answer, {"output": output})
        return filled.strip() if self.form == "chat" else filled + self.separator

    def render_example(self, example: Example) -> str:
        """Render one example in the text form, including the separator."""
        return self.render_query(example.input) + _filled(self.answer, {"output": example.output}) + self.separator

    def turns(self, example: Example) -> tuple[Message, Message]:
        """Render an example as a user turn and an assistant turn."""
        answer = _filled(self.answer, {"output": example.output})
        return self._user_turn(example.input), Message("assistant", answer.strip())

    def prompt(self, examples: Sequence[Example], query: str | Fields) -> Prompt:
        """Render the prompt for a query after examples, in their order.

        Returns:
            The prompt in both forms; the prefix of the text is everything before the query.
        """
        system = [Message("system", self.task)] if self.task else []
        shown = [turn for example in examples for turn in self.turns(example)]
        return Prompt(
            self.head + "".join(map(self.render_example, examples)),
            self.render_query(query),
            chat=Chat((*system, *shown, self._user_turn(query))),
            form=self.form,
        )

    def read_answer(self, text: str) -> str:
        """Return a completion without surrounding whitespace; in the text form, only the part before the separator."""
        return (text if self.form == "chat" else text.split(self.separator, 1)[0]).strip()

    def _user_turn(self, value: str | Fields) -> Message:
        return Message("user", _filled("{input}" if self.query == _QUERY else self.query, _values(value)))


def _listed(labels: Sequence[str]) -> str:
    """Return the sentence that lists the labels; one label per line if a label contains a comma."""
    if not labels:
        return ""
    if any("," in label for label in labels):
        return "\n".join(("Answer with one of the following:", *(f"- {label}" for label in labels)))
    return f"Answer with one of: {', '.join(labels)}."


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Insert values between the literals of a template; nothing in a value is ever parsed."""
    segments = _segments(template)
    missing = [name for _, name in segments if name and name not in values]
    if missing:
        raise InvalidInputError(f"the template names {missing[0]!r}, but the input has only {sorted(values)}")
    return "".join([literal + (values[name] if name else "") for literal, name in segments])


def _values(value: str | Fields) -> Mapping[str, str]:
    if isinstance(value, str):
        return {"input": value}
    for name, text in value.items():
        if not isinstance(text, str):
            raise InvalidInputError(f"field {name!r} of an input must be text, got {type(text).__name__}")
    return {"input": "\n".join(f"{name}: {text}" for name, text in value.items()), **value}


@lru_cache(maxsize=256)
def _segments(template: str) -> tuple[tuple[str, str], ...]:
    """Split a template into (literal, field) pairs: ``"a {b} c"`` into ``(("a ", "b"), (" c", ""))``."""
    parts = _FIELD.split(template)
    return tuple(zip(parts[::2], [*parts[1::2], ""], strict=True))
