"""Few-shot prompting with in-context examples that are selected for each query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, overload
from warnings import warn

from ragkit._answering import Answering
from ragkit._tuples import restore_tuples
from ragkit.answers import AnswerReader, ReadAnswer
from ragkit.errors import PromptTooLongError, TruncationWarning
from ragkit.models import load_model
from ragkit.protocols import LanguageModel, Selector
from ragkit.records import Completion, Example, Fields, Prompt, Selection
from ragkit.templates import Template
from ragkit_pipelines.reasoning import Reasoning
from ragkit_pipelines.voting import Voting, most_frequent, probability_of

if TYPE_CHECKING:
    from ragkit.tasks import Task

__all__ = ["Answer", "FewShot"]

Query = str | Fields
_OVERHEAD = 8  # tokens that a chat template adds to a prompt or a turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer with its trace.

    Attributes:
        text: The answer, as the reader extracted it from the completion.
        prompt: The prompt.
        selection: The examples in the prompt, and those that were left out.
        completion: The model's raw completion with tokens, cost and seconds; the first one with this answer if several
            were sampled.
        readable: Whether the completion contained an answer of the expected form.
        why: The reason why the answer is not readable; empty for a readable answer.
        completions: All completions that were sampled for the prompt.
        agreement: Share of the completions that contained this answer.
        probability: Probability of the answer under the model, given the text before it in the completion; None if
            the completion has no log-probabilities.
    """

    text: str
    prompt: Prompt
    selection: Selection
    completion: Completion
    readable: bool = True
    completions: tuple[Completion, ...] = ()
    agreement: float = 1.0
    why: str = ""
    probability: float | None = None

    def __post_init__(self) -> None:
        restore_tuples(self)


class FewShot:
    """Prompt a model with the examples that a selector finds for the query, and read its answer.

    If the template has labels, the prompt lists them, and generation is constrained to them if the model supports it.

    Examples:
        >>> from ragkit import Example, JaccardSelector, ScriptedModel
        >>> pool = [Example("dim the lamp", "light.dim"), Example("open the door", "door.open")]
        >>> pipeline = FewShot(ScriptedModel([" light.dim"]), JaccardSelector(pool), k=1)
        >>> pipeline.invoke("please dim it").text
        'light.dim'
    """

    def __init__(  # noqa: PLR0913 - those of prompting, and those of sampling
        self,
        model: str | LanguageModel,
        selector: Selector | None,
        *,
        k: int = 8,
        template: Template | None = None,
        reader: str | AnswerReader = "auto",
        max_tokens: int = 64,
        order: Literal["similar_last", "similar_first"] = "similar_last",
        samples: int = 1,
        temperature: float = 0.7,
        seed: int = 0,
        reasoning: bool = False,
    ) -> None:
        """Create the pipeline.

        Args:
            model: A model or its spec.
            selector: The selector of the examples; None for zero-shot prompts.
            k: Number of examples; fewer if they do not fit the model's context window.
            template: How examples and queries are rendered.
            reader: How the answer is extracted from the completion: a reader or its spec (see `ragkit.answers`).
                ``"auto"`` is ``"label"`` if the template has labels, else ``"whole"``.
            max_tokens: Maximum number of tokens of an answer.
            order: Whether the most similar example comes last, next to the query, or first. A selector's own `Order`
                stage takes precedence.
            samples: Number of answers that are sampled for each query; the most frequent one is the answer, or the
                first of several equally frequent ones. 1 for a single answer by greedy decoding.
            temperature: Sampling temperature, if ``samples`` is more than 1.
            seed: Seed of the samples.
            reasoning: Whether the model is prompted to reason before it answers. Examples are rendered with their
                reasoning (metadata ``rationale``, ``reasoning`` or ``explanation``); ``max_tokens`` limits reasoning
                and answer together, and a completion that is truncated before its answer is unreadable.
        """
        self.model = load_model(model)
        self._reasoning = Reasoning.of(template or Template(), reader) if reasoning else None
        if self._reasoning is not None:
            template, reader = self._reasoning.template, self._reasoning.reader
        self.answering = Answering(
            self.model, template or Template(), reader=reader, max_tokens=max_tokens, reasons=reasoning
        )
        self.template, self.max_tokens = self.answering.template, max_tokens
        self.selector, self.k, self.order = selector, k, order
        self.voting = Voting(samples=samples, temperature=temperature, seed=seed)

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
        samples: int = 1,
        temperature: float = 0.7,
        seed: int = 0,
        reasoning: bool = False,
    ) -> FewShot:
        """Create a pipeline with the template (including instruction and labels) and the answer reader of a task."""
        return cls(
            model, selector, k=k, template=task.template, reader=task.reader, max_tokens=max_tokens, order=order,
            samples=samples, temperature=temperature, seed=seed, reasoning=reasoning,
        )  # fmt: skip

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
        """Answer queries in their order; the model processes them as one batch."""
        return self.answer(self.prompts(queries))

    def answer(self, prompts: Sequence[tuple[Prompt, Selection]], *, logprobs: bool = False) -> list[Answer]:
        """Generate and read the answers to prompts, as `prompts` returns them with the examples in them.

        Args:
            prompts: The prompts with their examples.
            logprobs: Whether to request log-probabilities, from which `Answer.probability` is computed, if the model is
                an API that returns them.

        Returns:
            The answers, in the same order.
        """
        if not prompts:
            return []
        rendered = [prompt for prompt, _ in prompts]
        draws = self.voting.draws(seeded=self.model.capabilities.seed)
        rounds = self.answering.sampled(rendered, draws, logprobs=logprobs)
        return [
            _voted(prompt, shown, sampled, reasons=self.answering.reasons)
            for (prompt, shown), sampled in zip(prompts, zip(*rounds, strict=True), strict=True)
        ]

    def prompts(self, queries: Sequence[Query]) -> list[tuple[Prompt, Selection]]:
        """Render the prompt for each query; also return its in-context examples, as `build` does."""
        selections = (
            self.selector.select_many(queries, self.k) if self.selector and self.k else [Selection()] * len(queries)
        )
        sizes: dict[str, int] = {}
        return [self._build(query, selection, sizes) for query, selection in zip(queries, selections, strict=True)]

    def _size(self, prompt: Prompt) -> int:
        if prompt.chat is None or self.template.form != "chat":
            return self.model.count_tokens(prompt.text) + _OVERHEAD
        return sum(self.model.count_tokens(turn.content) + _OVERHEAD for turn in prompt.chat.messages)

    def build(self, query: Query, selection: Selection) -> tuple[Prompt, Selection]:
        """Render the prompt for a query, with as many of the selected examples as fit the context window.

        Examples are added in the order of their rank; an example that does not fit is skipped.

        Returns:
            The prompt, and the selection with the examples in it.

        Raises:
            PromptTooLongError: If the query does not fit even without examples.
        """
        return self._build(query, selection, {})

    def _build(self, query: Query, selection: Selection, sizes: dict[str, int]) -> tuple[Prompt, Selection]:
        """Do what `build` does; ``sizes`` caches the number of tokens of each example across prompts."""
        window = self.model.capabilities.window
        used = self._size(self.template.prompt([], query)) + self.answering.longest
        if window and used > window:
            advice = "shorten the query, the instruction or the longest label, or lower `max_tokens`"
            raise PromptTooLongError(used, window, advice=advice)
        kept, tokens, dropped = [], 0, list(selection.dropped)
        indices = range(len(selection))
        for index in sorted(indices, key=lambda at: selection.hits[at].rank) if selection.ordered else indices:
            size = self._example_size(self.template.render_example(self._shown(selection[index])), sizes)
            if window and used + tokens + size > window:
                reason = f"{size} tokens do not fit the context window of {window} tokens"
                dropped.append((selection.hits[index].id, reason))
            else:
                tokens += size
                kept.append(index)
        if len(kept) < len(selection):
            left_out = f"{len(selection) - len(kept)} of {len(selection)} examples"
            warn(TruncationWarning(f"{left_out} do not fit the context window of {window} tokens"), stacklevel=4)
        kept.sort()
        shown = replace(
            selection,
            examples=tuple(selection[index] for index in kept),
            hits=tuple(selection.hits[index] for index in kept),
            dropped=tuple(dropped),
            tokens=tokens,
        )
        in_order = shown.ordered or self.order == "similar_first"
        examples = [self._shown(example) for example in shown.examples]
        return self.template.prompt(examples if in_order else examples[::-1], query), shown

    def _shown(self, example: Example) -> Example:
        """Return an example as it is rendered, with its reasoning if the model is prompted to reason and it has one."""
        return (self._reasoning.example(example) if self._reasoning else None) or example

    def _example_size(self, example: str, sizes: dict[str, int]) -> int:
        if example not in sizes:
            overhead = 2 * _OVERHEAD if self.template.form == "chat" else 0
            sizes[example] = self.model.count_tokens(example) + overhead
        return sizes[example]


def _voted(
    prompt: Prompt, shown: Selection, sampled: Sequence[tuple[ReadAnswer, Completion]], *, reasons: bool
) -> Answer:
    """Return the most frequent of the answers that were sampled for a prompt."""
    chosen, agreement = most_frequent([read for read, _ in sampled])
    read, completion = sampled[chosen]
    return Answer(
        text=read.text, readable=read.readable, why=read.why, prompt=prompt, selection=shown, completion=completion,
        completions=tuple(each for _, each in sampled), agreement=agreement,
        probability=probability_of(read.text, completion, last=reasons),
    )  # fmt: skip
