"""Few-shot prompting: examples selected for each query, written by the template, answered by a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, overload
from warnings import warn

from ragkit.answering import Answering
from ragkit.answers import AnswerReader
from ragkit.errors import PromptTooLongError, TruncationWarning
from ragkit.models import load_model
from ragkit.protocols import LanguageModel, Selector
from ragkit.records import Completion, Example, Fields, Prompt, Selection
from ragkit.templates import Template

if TYPE_CHECKING:
    from ragkit.tasks import Task

__all__ = ["Answer", "FewShot"]

Query = str | Fields
_AROUND = 8  # tokens that a model adds around a prompt or a turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer with its trace.

    Attributes:
        text: The answer, as the reader extracted it from the completion.
        prompt: The prompt.
        selection: The examples in the prompt, and those that were left out.
        completion: The model's raw completion with tokens, cost and seconds.
        readable: Whether the completion contained an answer of the expected form.
    """

    text: str
    prompt: Prompt
    selection: Selection
    completion: Completion
    readable: bool = True


class FewShot:
    """Show a model the examples that a selector finds for the query, and read its answer.

    If the template has labels, the prompt lists them, and generation is constrained to them if the model supports it.

    Examples:
        >>> from ragkit import Example, JaccardSelector, ScriptedModel
        >>> pool = [Example("dim the lamp", "light.dim"), Example("open the door", "door.open")]
        >>> pipeline = FewShot(ScriptedModel([" light.dim"]), JaccardSelector(pool), k=1)
        >>> pipeline.invoke("please dim it").text
        'light.dim'
    """

    def __init__(
        self,
        model: str | LanguageModel,
        selector: Selector | None,
        *,
        k: int = 8,
        template: Template | None = None,
        reader: str | AnswerReader = "auto",
        max_tokens: int = 64,
        order: Literal["similar_last", "similar_first"] = "similar_last",
    ) -> None:
        """Assemble the pipeline.

        Args:
            model: A model or its spec.
            selector: Finds the examples; None for zero-shot prompts.
            k: Number of examples; fewer if they do not fit the model's context window.
            template: How examples and queries are written.
            reader: How the answer is extracted from the completion: a reader or its spec (see `ragkit.answers`).
                ``"auto"`` is ``"label"`` if the template has labels, else ``"whole"``.
            max_tokens: Maximum number of tokens of an answer.
            order: Whether the most similar example comes last, next to the query, or first. A selector's own `Order`
                stage takes precedence.
        """
        self.model = load_model(model)
        self.answering = Answering(self.model, template or Template(), reader=reader, max_tokens=max_tokens)
        self.template, self.max_tokens = self.answering.template, max_tokens
        self.selector, self.k, self.order = selector, k, order

    @classmethod
    def from_task(
        cls,
        task: Task,
        model: str | LanguageModel,
        selector: Selector | None,
        *,
        k: int = 8,
        max_tokens: int = 64,
        order: Literal["similar_last", "similar_first"] = "similar_last",
    ) -> FewShot:
        """Take the template, with instruction and labels, and the answer reader from a task.

        Returns:
            The pipeline.
        """
        return cls(model, selector, k=k, template=task.template, reader=task.reader, max_tokens=max_tokens, order=order)

    @overload
    def invoke(self, query: Query) -> Answer: ...  # type: ignore[overload-overlap]
    @overload
    def invoke(self, query: Sequence[Query]) -> list[Answer]: ...
    def invoke(self, query: Query | Sequence[Query]) -> Answer | list[Answer]:
        """Answer one query, or each of several.

        Returns:
            One answer for one query, a list in the same order for a sequence.
        """
        if isinstance(query, Sequence) and not isinstance(query, str):
            return self.batch(query)
        return self.batch([query])[0]

    def batch(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer each query; the model gets them as one batch.

        Returns:
            Answers in the order of the queries.
        """
        return self.answer(self.prompts(queries))

    def answer(self, prompts: Sequence[tuple[Prompt, Selection]]) -> list[Answer]:
        """Generate and read the answers to prompts.

        Args:
            prompts: Prompts with the examples in them, as `prompts` returns them.

        Returns:
            Answers in the same order.
        """
        if not prompts:
            return []
        found = self.answering.answers([prompt for prompt, _ in prompts])
        return [
            Answer(text=read.text, readable=read.readable, prompt=prompt, selection=shown, completion=done)
            for (prompt, shown), (read, done) in zip(prompts, found, strict=True)
        ]

    def prompts(self, queries: Sequence[Query]) -> list[tuple[Prompt, Selection]]:
        """What the model is asked for each query, with the examples shown in it.

        Returns:
            A prompt and a selection for each query, as `build` makes them.
        """
        selections = (
            self.selector.select_many(queries, self.k) if self.selector and self.k else [Selection()] * len(queries)
        )
        sizes: dict[str, int] = {}
        return [self._build(query, selection, sizes) for query, selection in zip(queries, selections, strict=True)]

    def _size(self, prompt: Prompt) -> int:
        if prompt.chat is None or self.template.form != "chat":
            return self.model.count_tokens(prompt.text) + _AROUND
        return sum(self.model.count_tokens(turn.content) + _AROUND for turn in prompt.chat.messages)

    def build(self, query: Query, selection: Selection) -> tuple[Prompt, Selection]:
        """The prompt for a query, with as many of the selected examples as fit the model's window.

        An example that does not fit is left out and the next one tried, the best first.

        Returns:
            The prompt, and the selection as shown.

        Raises:
            PromptTooLongError: If the query does not fit even without examples.
        """
        return self._build(query, selection, {})

    def _build(self, query: Query, selection: Selection, sizes: dict[str, int]) -> tuple[Prompt, Selection]:
        """`build`; an example that several prompts show is measured once, and its size kept in ``sizes``."""
        window = self.model.capabilities.window
        used = self._size(self.template.prompt([], query)) + self.answering.longest
        if window and used > window:
            advice = "shorten the query, the instruction or the longest label, or lower `max_tokens`"
            raise PromptTooLongError(used, window, advice=advice)
        kept: list[int] = []
        dropped = list(selection.dropped)
        tokens = 0
        places = range(len(selection))
        for place in sorted(places, key=lambda at: selection.hits[at].rank) if selection.ordered else places:
            example = self.template.render_example(selection[place])
            if example not in sizes:
                around = 2 * _AROUND if self.template.form == "chat" else 0
                sizes[example] = self.model.count_tokens(example) + around
            size = sizes[example]
            if window and used + tokens + size > window:
                dropped.append((selection.hits[place].id, f"{size} tokens do not fit the window of {window}"))
                continue
            tokens += size
            kept.append(place)
        kept.sort()
        if len(kept) < len(selection):
            left_out = len(selection) - len(kept)
            warn(
                TruncationWarning(f"{left_out} of {len(selection)} examples do not fit the window of {window}"),
                stacklevel=4,
            )
        shown = replace(
            selection,
            examples=tuple(selection[place] for place in kept),
            hits=tuple(selection.hits[place] for place in kept),
            dropped=tuple(dropped),
            tokens=tokens,
        )
        examples: Sequence[Example] = shown.examples
        as_they_stand = shown.ordered or self.order == "similar_first"
        return self.template.prompt(examples if as_they_stand else examples[::-1], query), shown
