"""How an example becomes text: one template for prompting, for training and for use.

A template is cut into literals and fields once, when it is made. Values are then put between the literals and never
looked at again, so braces, template syntax or delimiters inside an example stay what they are: text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ragkit.errors import InvalidInputError
from ragkit.records import Example, Fields, Prompt

_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    r"""The text around inputs and outputs.

    ``{input}`` stands for the whole input; of an input with several fields each can be named, and ``{input}`` gives
    them as lines of ``name: value``. Everything else, other braces included, is literal.

    Attributes:
        query: An input, up to where the answer begins. Ends without a space: the answer brings its own.
        answer: The answer, with the space before it.
        separator: What ends an example; a model is stopped at it.
        instruction: What comes before everything else, followed by a separator.

    Examples:
        >>> template = Template(instruction="Name the colour.")
        >>> print(template.prompt([Example("sky", "blue")], "grass").text)
        Name the colour.
        <BLANKLINE>
        Input: sky
        Output: blue
        <BLANKLINE>
        Input: grass
        Output:
    """

    query: str = "Input: {input}\nOutput:"
    answer: str = " {output}"
    separator: str = "\n\n"
    instruction: str = ""

    def __post_init__(self) -> None:
        if not _FIELD.search(self.query):
            raise InvalidInputError(f"`query` must hold a field such as {{input}}, got {self.query!r}")
        if [name for _, name in _segments(self.answer) if name] != ["output"]:
            raise InvalidInputError(f"`answer` must hold {{output}} once and no other field, got {self.answer!r}")
        if not self.separator:
            raise InvalidInputError("`separator` must not be empty; a model is stopped at it")

    @property
    def head(self) -> str:
        """What opens every prompt."""
        return self.instruction + self.separator if self.instruction else ""

    @property
    def stop(self) -> tuple[str, ...]:
        """The sequences at which an answer ends."""
        return (self.separator,)

    def render_query(self, value: str | Fields) -> str:
        """The input alone, as the last piece of a prompt.

        Returns:
            The text.

        Raises:
            InvalidInputError: If the template names a field that the input lacks.
        """
        values = _values(value)
        missing = [name for _, name in _segments(self.query) if name and name not in values]
        if missing:
            raise InvalidInputError(f"the template names {missing[0]!r}, but the input has only {sorted(values)}")
        return "".join(literal + values.get(name, "") for literal, name in _segments(self.query))

    def render_answer(self, output: str) -> str:
        """The answer with its separator: what training teaches and what follows an input in an example.

        Returns:
            The text.
        """
        filled = "".join(literal + (output if name else "") for literal, name in _segments(self.answer))
        return filled + self.separator

    def render_example(self, example: Example) -> str:
        """One whole example, separator included.

        Returns:
            The text.
        """
        return self.render_query(example.input) + self.render_answer(example.output)

    def prompt(self, examples: Sequence[Example], query: str | Fields) -> Prompt:
        """The prompt for ``query`` after ``examples``, in the order given.

        Returns:
            A prompt whose prefix is all that comes before the query.
        """
        return Prompt(self.head + "".join(map(self.render_example, examples)), self.render_query(query))

    def read_answer(self, text: str) -> str:
        """What a model's continuation says: all before the first separator, without space around it.

        Returns:
            The answer.
        """
        return text.split(self.separator, 1)[0].strip()


def _values(value: str | Fields) -> Mapping[str, str]:
    if isinstance(value, str):
        return {"input": value}
    for name, text in value.items():
        if not isinstance(text, str):
            raise InvalidInputError(f"field {name!r} of an input must be text, got {type(text).__name__}")
    return {"input": "\n".join(f"{name}: {text}" for name, text in value.items()), **value}


@lru_cache(maxsize=256)
def _segments(template: str) -> tuple[tuple[str, str], ...]:
    """Cut a template into (literal, field) pairs; the last pair's field is empty.

    Returns:
        ``"a {b} c"`` gives ``(("a ", "b"), (" c", ""))``.
    """
    parts = _FIELD.split(template)
    return tuple(zip(parts[::2], [*parts[1::2], ""], strict=True))
