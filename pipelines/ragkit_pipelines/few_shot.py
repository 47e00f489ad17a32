"""Few-shot prompting: examples chosen for each query, rendered by the task's template, answered by a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, overload
from warnings import warn

from ragkit.errors import PromptTooLongError, TruncationWarning
from ragkit.models import load_model
from ragkit.protocols import LanguageModel, Selector
from ragkit.records import Completion, Example, Fields, Prompt, Selection
from ragkit.templates import Template

if TYPE_CHECKING:
    from ragkit.tasks import Task

Query = str | Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer with its trace.

    Attributes:
        text: What the model says, cut at the template's separator.
        prompt: What it was asked.
        selection: The examples shown, and those that were left out.
        completion: The model's raw answer with tokens, cost and seconds.
    """

    text: str
    prompt: Prompt
    selection: Selection
    completion: Completion


class FewShot:
    """Show a model the examples that a selector chooses, then ask.

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
        max_tokens: int = 64,
        order: Literal["similar_last", "similar_first"] = "similar_last",
    ) -> None:
        """Put the parts together.

        Args:
            model: A model or its spec.
            selector: Where examples come from; None asks without examples.
            k: Number of examples; fewer where they do not fit the model's window.
            template: How examples become text.
            max_tokens: Tokens of an answer at the most.
            order: Where the most similar example stands: next to the query or first; a selector's own `Order` wins.
        """
        self.model = load_model(model)
        self.selector, self.k, self.template = selector, k, template or Template()
        self.max_tokens, self.order = max_tokens, order

    @classmethod
    def from_task(
        cls, task: Task, model: str | LanguageModel, selector: Selector | None, *, k: int = 8, max_tokens: int = 64
    ) -> FewShot:
        """Take the template, instruction included, from a task.

        Returns:
            The pipeline.
        """
        return cls(model, selector, k=k, template=task.template, max_tokens=max_tokens)

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
        if not queries:
            return []
        asked = self.prompts(queries)
        completions = self.model.generate(
            [prompt for prompt, _ in asked], max_tokens=self.max_tokens, stop=self.template.stop
        )
        return [
            Answer(text=self.template.read_answer(done.text), prompt=prompt, selection=shown, completion=done)
            for (prompt, shown), done in zip(asked, completions, strict=True)
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
        bare = self.template.prompt([], query)
        used = self.model.count_tokens(bare.text) + self.max_tokens + 8  # what a model adds around a prompt
        if window and used > window:
            raise PromptTooLongError(used, window, advice="shorten the query or lower `max_tokens`")
        kept: list[int] = []
        dropped = list(selection.dropped)
        tokens = 0
        places = range(len(selection))
        for place in sorted(places, key=lambda at: selection.hits[at].rank) if selection.ordered else places:
            example = self.template.render_example(selection[place])
            if example not in sizes:
                sizes[example] = self.model.count_tokens(example)
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
