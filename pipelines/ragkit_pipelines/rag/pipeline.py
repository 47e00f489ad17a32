"""Retrieve passages, and answer questions and conversations from them with verified citations."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import overload

from ragkit.answers import without_reasoning
from ragkit.errors import InvalidInputError, PromptTooLongError
from ragkit.models import load_model
from ragkit.models._base import CompletionStream
from ragkit.protocols import LanguageModel, Retriever
from ragkit.records import Chat, Completion, Hit, Prompt
from ragkit_pipelines.rag.answers import AnswerStream, CitedAnswer, read_citations
from ragkit_pipelines.rag.extractive import Extract, ExtractiveReader
from ragkit_pipelines.rag.prompt import INSTRUCTION, REFUSAL, answer_prompt, is_refusal, pack, rewrite_prompt
from ragkit_pipelines.rag.questions import Question, Work, read_question, set_rewritten

Where = Mapping[str, object]
_DEFAULT_LIMIT = 3000  # tokens of passages if the context window of the model is unknown
_OVERHEAD = 16  # tokens that a chat template adds to a prompt
_REWRITE_TOKENS = 128


class RetrieveThenAnswer:
    """Retrieve passages, prompt a model with them, and verify the citations in its answer.

    If no passage is found, or the best one scores below `min_score`, the question is refused without calling the model.
    A conversation is a `Chat` whose last message is the question; the model first rewrites the question so that it can
    be understood without the conversation. An `ExtractiveReader` answers with sentences of the passages, without a
    language model; it always cites them.

    A model may answer without citing a passage. Such an answer is returned without a warning, because some uses need no
    citations: check `CitedAnswer.supported`, or `CitedAnswer.uncited` for answers without a single valid citation.

    Attributes:
        model: The model or the extractive reader.
        retriever: The retriever of passages.
        k: Number of passages to retrieve.
        max_tokens: Maximum number of tokens of an answer.
        token_limit: Maximum number of tokens of all passages.
        min_score: Minimum score of the best passage.
        instruction: The instruction for the model.
        refusal: The answer of the model if the passages do not answer the question.

    Examples:
        >>> from ragkit import BM25Retriever, ScriptedModel
        >>> retriever = BM25Retriever(["The lamp is red.", "The song is long."])
        >>> model = ScriptedModel(["It is red [1]."])
        >>> answer = RetrieveThenAnswer(model, retriever).invoke("What colour has the lamp?")
        >>> answer.text, answer.citations[0].text, answer.refused
        ('It is red [1].', 'The lamp is red.', False)
    """

    def __init__(
        self,
        model: str | LanguageModel | ExtractiveReader,
        retriever: Retriever,
        k: int = 5,
        *,
        max_tokens: int = 256,
        token_limit: int | None = None,
        min_score: float | None = None,
        instruction: str = INSTRUCTION,
        refusal: str = REFUSAL,
    ) -> None:
        """Create the pipeline.

        Args:
            model: A model or its spec; ``"extractive"`` or an `ExtractiveReader` to answer without a language model.
            retriever: The retriever of passages.
            k: Number of passages to retrieve, at least 1.
            max_tokens: Maximum number of tokens of an answer.
            token_limit: Maximum number of tokens of all passages. If None, the passages may fill the context window,
                or take 3,000 tokens if it is unknown.
            min_score: Minimum score of the best passage, on the scale of the retriever; None for no minimum.
            instruction: The instruction for the model. It should ask for citations and state the refusal.
            refusal: The answer of the model if the passages do not answer the question.

        Raises:
            InvalidInputError: If an argument is out of its range.
        """
        numbers = (k, max_tokens, 1 if token_limit is None else token_limit)
        if any(type(each) is not int or each < 1 for each in numbers):
            raise InvalidInputError(
                "`k`, `max_tokens` and `token_limit` must be integers of at least 1, "
                f"got {k!r}, {max_tokens!r} and {token_limit!r}"
            )
        if not instruction.strip() or not refusal.strip():
            raise InvalidInputError("`instruction` and `refusal` must not be empty")
        self.model: LanguageModel | ExtractiveReader
        if isinstance(model, ExtractiveReader):
            self.model = model
        else:
            self.model = ExtractiveReader() if model == "extractive" else load_model(model)
        self.retriever, self.k = retriever, k
        self.max_tokens, self.token_limit, self.min_score = max_tokens, token_limit, min_score
        self.instruction, self.refusal = instruction, refusal

    @overload
    def invoke(  # type: ignore[overload-overlap]
        self, question: Question, *, where: Where | None = None
    ) -> CitedAnswer: ...
    @overload
    def invoke(self, question: Sequence[Question], *, where: Where | None = None) -> list[CitedAnswer]: ...
    def invoke(
        self, question: Question | Sequence[Question], *, where: Where | None = None
    ) -> CitedAnswer | list[CitedAnswer]:
        """Answer one question, or each of several.

        Args:
            question: A question, or a conversation that ends with one; or a sequence of these.
            where: A metadata filter.

        Returns:
            One answer for one question, a list in the same order for a sequence.
        """
        if isinstance(question, str | Chat):
            return self.batch([question], where=where)[0]
        return self.batch(question, where=where)

    def batch(self, questions: Sequence[Question], *, where: Where | None = None) -> list[CitedAnswer]:
        """Answer each question; the retriever and the model process them as one batch.

        Args:
            questions: Questions or conversations.
            where: A metadata filter.

        Returns:
            Answers in the order of the questions.
        """
        works = [read_question(each) for each in questions]
        self._rewrite(works)
        began = perf_counter()
        found = self.retriever.retrieve([work.question for work in works], self.k, where=where) if works else []
        answerable = self._prepare(works, found, perf_counter() - began)
        began = perf_counter()
        results: Sequence[Completion | Extract] = []
        if isinstance(self.model, ExtractiveReader):
            results = self._extracts(self.model, answerable)
        elif answerable:
            results = self.model.generate(_prompts(answerable), max_tokens=self.max_tokens)
        return self._answers(works, answerable, results, perf_counter() - began)

    @overload
    async def ainvoke(  # type: ignore[overload-overlap]
        self, question: Question, *, where: Where | None = None
    ) -> CitedAnswer: ...
    @overload
    async def ainvoke(self, question: Sequence[Question], *, where: Where | None = None) -> list[CitedAnswer]: ...
    async def ainvoke(
        self, question: Question | Sequence[Question], *, where: Where | None = None
    ) -> CitedAnswer | list[CitedAnswer]:
        """Do what `invoke` does, without blocking the event loop."""
        if isinstance(question, str | Chat):
            return (await self.abatch([question], where=where))[0]
        return await self.abatch(question, where=where)

    async def abatch(self, questions: Sequence[Question], *, where: Where | None = None) -> list[CitedAnswer]:
        """Do what `batch` does, without blocking the event loop."""
        works = [read_question(each) for each in questions]
        follow_ups = [work for work in works if work.history]
        if follow_ups and not isinstance(self.model, ExtractiveReader):
            began = perf_counter()
            completions = await self.model.agenerate(_rewrite_prompts(follow_ups), max_tokens=_REWRITE_TOKENS)
            set_rewritten(follow_ups, completions, perf_counter() - began)
        began = perf_counter()
        found = await self.retriever.aretrieve([work.question for work in works], self.k, where=where) if works else []
        answerable = self._prepare(works, found, perf_counter() - began)
        began = perf_counter()
        results: Sequence[Completion | Extract] = []
        if isinstance(self.model, ExtractiveReader):
            results = await to_thread(self._extracts, self.model, answerable)
        elif answerable:
            results = await self.model.agenerate(_prompts(answerable), max_tokens=self.max_tokens)
        return self._answers(works, answerable, results, perf_counter() - began)

    def stream(self, question: Question, *, where: Where | None = None) -> AnswerStream:
        """Answer one question, and return the answer piece by piece.

        Args:
            question: A question or a conversation.
            where: A metadata filter.

        Returns:
            The pieces; its `answer` is the complete answer with citations and trace.
        """
        work = read_question(question)
        if isinstance(self.model, ExtractiveReader):
            answer = self.batch([question], where=where)[0]
            return AnswerStream(iter([answer.text]), lambda _: answer)
        self._rewrite([work])
        began = perf_counter()
        found = self.retriever.retrieve([work.question], self.k, where=where)
        if not self._prepare([work], found, perf_counter() - began) or work.prompt is None:
            refused = self._refused(work)
            return AnswerStream(iter([refused.text]), lambda _: refused)
        began = perf_counter()
        pieces = self.model.stream(work.prompt, max_tokens=self.max_tokens)

        def finish(text: str) -> CitedAnswer:
            work.seconds["answer"] = perf_counter() - began
            return self._answer(work, text, pieces.completion if isinstance(pieces, CompletionStream) else None)

        return AnswerStream(pieces, finish)

    def _rewrite(self, works: Sequence[Work]) -> None:
        """Rewrite the follow-up questions, unless there is no language model."""
        follow_ups = [work for work in works if work.history]
        if follow_ups and not isinstance(self.model, ExtractiveReader):
            began = perf_counter()
            completions = self.model.generate(_rewrite_prompts(follow_ups), max_tokens=_REWRITE_TOKENS)
            set_rewritten(follow_ups, completions, perf_counter() - began)

    def _prepare(self, works: Sequence[Work], found: Sequence[Sequence[Hit]], seconds: float) -> list[Work]:
        """Set the passages and the prompt of each question, and return the questions that can be answered."""
        answerable = []
        for work, hits in zip(works, found, strict=True):
            work.seconds["retrieve"] = seconds / len(works)
            if not hits or (self.min_score is not None and hits[0].score < self.min_score):
                work.dropped = tuple((hit.id, f"the best hit scores below {self.min_score}") for hit in hits)
                continue
            answerable.append(work)
            if isinstance(self.model, ExtractiveReader):
                work.hits = tuple(hits)
                continue
            work.hits, work.dropped = self._pack(self.model, work.question, hits)
            work.prompt = answer_prompt(self.instruction, work.question, work.hits)
        return answerable

    def _pack(
        self, model: LanguageModel, question: str, hits: Sequence[Hit]
    ) -> tuple[tuple[Hit, ...], tuple[tuple[str, str], ...]]:
        """Select the passages that fit into the context window."""
        empty = model.count_tokens(answer_prompt(self.instruction, question, []).text)
        window = model.capabilities.window
        limit = self.token_limit or _DEFAULT_LIMIT
        if window is not None:
            free = window - self.max_tokens - empty - _OVERHEAD
            limit = free if self.token_limit is None else min(free, self.token_limit)
        packed = pack(hits, limit, model.count_tokens)
        if not packed.hits:
            advice = "raise `token_limit`" if self.token_limit else "shorten the question or lower `max_tokens`"
            maximum = window or self.token_limit or 0
            raise PromptTooLongError(empty + self.max_tokens, maximum, advice=f"no passage fits in addition; {advice}")
        return packed

    def _extracts(self, reader: ExtractiveReader, works: Sequence[Work]) -> list[Extract]:
        return reader.read([work.question for work in works], [work.hits for work in works])

    def _answers(
        self, works: Sequence[Work], answerable: Sequence[Work], results: Sequence[Completion | Extract], seconds: float
    ) -> list[CitedAnswer]:
        """Return the answer to each question; those without passages are refused."""
        by_work = {id(work): result for work, result in zip(answerable, results, strict=True)}
        for work in answerable:
            work.seconds["answer"] = seconds / len(answerable)
        answers = []
        for work in works:
            result = by_work.get(id(work))
            if isinstance(result, Completion):
                answers.append(self._answer(work, result.text, result))
            elif result is not None and result.text:
                answer = self._refused(work)
                answers.append(replace(answer, text=result.text, citations=result.citations, refused=False))
            else:
                answers.append(self._refused(work))
        return answers

    def _answer(self, work: Work, text: str, completion: Completion | None) -> CitedAnswer:
        outside = without_reasoning(text)
        text = "" if outside.truncated else outside.text
        answer = replace(self._refused(work), prompt=work.prompt, completion=completion)
        if is_refusal(text, self.refusal) or not text.strip():
            return answer
        citations, flagged = read_citations(text, work.hits)
        return replace(answer, text=text.strip(), citations=citations, flagged=flagged, refused=False)

    def _refused(self, work: Work) -> CitedAnswer:
        return CitedAnswer(
            text=self.refusal,
            refused=True,
            question=work.question,
            hits=work.hits,
            dropped=work.dropped,
            rewriting=work.rewriting,
            seconds=work.seconds,
        )


def _prompts(works: Sequence[Work]) -> list[Prompt]:
    return [work.prompt for work in works if work.prompt is not None]


def _rewrite_prompts(works: Sequence[Work]) -> list[Prompt]:
    return [rewrite_prompt(work.history, work.original) for work in works]
