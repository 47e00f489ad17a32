"""Prompts for reasoning before the answer: an instruction, examples with their reasoning, and the reader of the answer.

Also known as chain-of-thought prompting (Wei et al., "Chain-of-Thought Prompting Elicits Reasoning", NeurIPS 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ragkit.answers import (
    After,
    AnswerReader,
    ChoiceReader,
    FinalAnswer,
    JsonField,
    NumberReader,
    Regex,
    load_reader,
)
from ragkit.records import Example
from ragkit.templates import Template

RATIONALE_FIELDS = ("rationale", "reasoning", "explanation")
_MARKER = "Answer:"
_RULE = "\n\n---\n\n"  # a blank line would end the answer after the first paragraph of its reasoning
_ANYWHERE = NumberReader | ChoiceReader | JsonField | Regex  # find the answer in a text that contains more


@dataclass(frozen=True)
class Reasoning:
    """How a model is prompted to reason, and how its answer is read.

    Attributes:
        template: The template of the prompts.
        reader: The reader of the answer.
        marker: The text between the reasoning and the answer.
    """

    template: Template
    reader: FinalAnswer
    marker: str

    @classmethod
    def of(cls, template: Template, reader: str | AnswerReader = "auto") -> Reasoning:
        """Adapt the template and the answer reader of a task.

        The marker is that of a reader ``after:<marker>``, otherwise ``Answer:``. Examples are separated by a line
        instead of a blank line, so that the reasoning may have several paragraphs.

        Args:
            template: The template of the task.
            reader: The answer reader of the task, or its spec; ``"auto"`` as in `ragkit.Task`.

        Returns:
            The template and the reader for prompts with reasoning.
        """
        spec = ("label" if template.labels else "whole") if reader == "auto" else reader
        own = load_reader(spec, labels=template.labels or None)
        marked = own if isinstance(own, After) else After(_MARKER, load_reader("first-line") if _is_text(own) else own)
        asked = (
            f'Think step by step. Then write "{marked.marker}" and the answer, without further text, on the last line.'
        )
        return cls(
            template=replace(
                template,
                instruction=" ".join(filter(None, (template.instruction, asked))),
                separator=_RULE if template.separator.isspace() else template.separator,
            ),
            reader=FinalAnswer(marked, own if isinstance(own, _ANYWHERE) else None, asked),
            marker=marked.marker,
        )

    def example(self, example: Example) -> Example | None:
        """Return an example whose output is its reasoning and its answer; None if it has no reasoning.

        The reasoning is in the metadata (``rationale``, ``reasoning`` or ``explanation``), or in the output before the
        marker.
        """
        before, found, _ = example.output.partition(self.marker)
        if found and before.strip():
            return example
        metadata = example.metadata or {}
        texts = (metadata.get(name) for name in RATIONALE_FIELDS)
        rationale = next((text for text in texts if isinstance(text, str) and text.strip()), None)
        if rationale is None:
            return None
        steps = rationale.partition(self.marker)[0].strip()
        return replace(example, output=f"{steps}\n{self.marker} {example.output.strip()}")


def _is_text(reader: AnswerReader) -> bool:
    """Whether a reader returns the whole text, so that text after the line of the answer would count as the answer."""
    return reader.spec == "whole"
