"""Prompts that fit a model's context window, and the reading of its answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ragkit.answers import without_reasoning
from ragkit.errors import PromptTooLongError
from ragkit.protocols import LanguageModel
from ragkit.records import Completion, Example, Hit, Prompt
from ragkit_pipelines.rag.answers import CitedAnswer, citation_of, read_citations
from ragkit_pipelines.rag.demonstrations import Demonstrations
from ragkit_pipelines.rag.passages import pack
from ragkit_pipelines.rag.prompt import answer_prompt, is_refusal
from ragkit_pipelines.rag.questions import Work, latest_turns
from ragkit_pipelines.rag.short import citation_in, first_line, supporting
from ragkit_pipelines.rag.styles import CHAT_STOP, Style

_DEFAULT_LIMIT = 3000  # tokens of passages if the context window of the model is unknown
_OVERHEAD = 16  # tokens that a chat template adds to a prompt
_TURN = 8  # tokens that it adds to a turn
_SHARE = 4  # earlier turns, and answers without a given limit, may each take one fourth of the context window


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompting:
    """The settings of prompts.

    Attributes:
        style: The style of answers.
        instruction: The instruction for the model.
        refusal: The answer if the passages do not answer the question.
        reminder: The last line for a chat model.
        demonstrations: The demonstrations.
        max_tokens: Maximum number of tokens of an answer; None for that of the style.
        token_limit: Maximum number of tokens of all passages.
    """

    style: Style
    instruction: str
    refusal: str
    reminder: str
    demonstrations: Demonstrations
    max_tokens: int | None
    token_limit: int | None

    def answer_tokens(self, model: LanguageModel) -> int:
        """Return the maximum number of tokens of an answer."""
        if self.max_tokens is not None:
            return self.max_tokens
        window = model.capabilities.window
        return self.style.max_tokens if window is None else max(1, min(self.style.max_tokens, window // _SHARE))

    def stop(self, model: LanguageModel) -> tuple[str, ...]:
        """Return the stop sequences, at which a model would begin another question."""
        return CHAT_STOP if model.capabilities.chat else self.style.text_stop

    def prepare(
        self, model: LanguageModel, work: Work, hits: tuple[Hit, ...], chosen: tuple[Example, ...], *, turns: bool
    ) -> None:
        """Write the prompt of a question, with as many passages as fit, and record what is in it.

        Args:
            model: The model.
            work: The question.
            hits: The retrieved passages.
            chosen: The demonstrations for it.
            turns: Whether earlier turns of the conversation precede the question.

        Raises:
            PromptTooLongError: If no passage fits.
        """
        window, count = model.capabilities.window, model.count_tokens
        if turns:
            work.turns = latest_turns(work.history, (window or _DEFAULT_LIMIT) // _SHARE, count)
        question = work.original if work.turns else work.question
        work.examples = self.demonstrations.fitting(chosen, window, count)

        def written(passages: tuple[Hit, ...]) -> Prompt:
            texts = [hit.text for hit in passages]
            return answer_prompt(
                self.instruction,
                question,
                texts,
                reminder=self.reminder,
                demonstrations=work.examples,
                history=work.turns,
            )

        limit, longest = self.token_limit or _DEFAULT_LIMIT, self.answer_tokens(model)
        empty = written(())
        used = count(empty.text) + count(self.reminder) + _OVERHEAD
        if model.capabilities.chat and empty.chat is not None:
            used += (_TURN + count(self.reminder)) * (len(empty.chat.messages) - 2)
        if window is not None:
            free = window - longest - used
            limit = free if self.token_limit is None else min(free, self.token_limit)
        packed = pack(hits, limit, count)
        if not packed.hits:
            advice = "raise `token_limit`" if self.token_limit else "shorten the question or lower `max_tokens`"
            maximum = window or self.token_limit or 0
            raise PromptTooLongError(used + longest, maximum, advice=f"no passage fits in addition; {advice}")
        work.hits, work.dropped, work.truncated = packed
        work.prompt = written(work.hits)

    def read(self, work: Work, text: str, completion: Completion | None) -> CitedAnswer:
        """Read the answer in a completion, and verify its citations."""
        outside = without_reasoning(text)
        said = "" if outside.truncated else outside.text.strip()
        answer = replace(self.refused(work), prompt=work.prompt, completion=completion)
        if is_refusal(said, self.refusal) or not said:
            return answer
        if self.style.cites:
            citations, flagged = read_citations(said, work.hits)
            number = None if citations or flagged else supporting(said, work.question, work.hits)
            if number is not None:
                cited = (citation_of(number, work.hits[number - 1]),)
                return replace(answer, text=f"{said} [{number}]", citations=cited, refused=False, attributed=True)
            return replace(answer, text=said, citations=citations, flagged=flagged, refused=False)
        said = first_line(said)
        return replace(answer, text=said, citations=citation_in(said, work.hits), refused=False) if said else answer

    def refused(self, work: Work) -> CitedAnswer:
        """Return the refusal of a question."""
        return CitedAnswer(
            text=self.refusal,
            refused=True,
            question=work.question,
            hits=work.hits,
            dropped=work.dropped,
            truncated=work.truncated,
            examples=work.examples,
            rewriting=work.rewriting,
            seconds=work.seconds,
        )
