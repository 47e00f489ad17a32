"""Retrieve, then answer: questions and conversations over documents, with citations that are checked."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import overload

from ragkit.answers import without_reasoning
from ragkit.errors import InvalidInputError, PromptTooLongError
from ragkit.models import load_model
from ragkit.models.base import CompletionStream
from ragkit.protocols import LanguageModel, Retriever
from ragkit.records import Chat, Completion, Hit, Prompt
from ragkit_pipelines.rag.answers import CitedAnswer, read_citations
from ragkit_pipelines.rag.extractive import ExtractiveReader
from ragkit_pipelines.rag.passages import pack
from ragkit_pipelines.rag.prompts import INSTRUCTION, REFUSAL, answer_prompt, is_refusal, rewrite_prompt
from ragkit_pipelines.rag.questions import Question, Work, read_question, take_questions
from ragkit_pipelines.rag.streaming import AnswerStream

Where = Mapping[str, object]
_WITHOUT_WINDOW = 3000  # tokens of passages where a model does not say how much it reads
_AROUND = 16  # tokens that a model adds around a prompt


class RetrieveThenAnswer:
    """Find passages, show them to a model, and check what it cites.

    A question without passages, or with none that is good enough, is refused before a model is asked. A conversation is
    a `Chat` whose last message is the question; the model first puts it into words of its own. Without a language model
    an `ExtractiveReader` answers with sentences of the passages.

    Attributes:
        model: The model or the reader.
        retriever: Where passages come from.
        k: How many are fetched.
        max_tokens: Tokens of an answer at the most.
        token_limit: Tokens of the passages at the most.
        min_score: What the best hit must score.
        instruction: What the model is told.
        refusal: What it is told to write where the passages do not answer.

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
        """Put the parts together.

        Args:
            model: A model or its spec; ``"extractive"`` or an `ExtractiveReader` for answers without one.
            retriever: Where passages come from.
            k: How many are fetched, at least 1.
            max_tokens: Tokens of an answer at the most.
            token_limit: Tokens of the passages at the most; what the model's window leaves, or 3,000, if None.
            min_score: What the best hit must score, in the retriever's own measure; anything will do if None.
            instruction: What the model is told; it should ask for citations and name the refusal.
            refusal: The words by which the model says that the passages do not answer.

        Raises:
            InvalidInputError: If an argument is out of its range.
        """
        if any(
            type(each) is not int or each < 1 for each in (k, max_tokens, 1 if token_limit is None else token_limit)
        ):
            raise InvalidInputError(
                "`k`, `max_tokens` and `token_limit` must be whole numbers of at least 1, "
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

    # -- asking --------------------------------------------------------------------------------------------------------

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
            where: A filter on metadata.

        Returns:
            One answer for one question, a list in the same order for a sequence.
        """
        if isinstance(question, str | Chat):
            return self.batch([question], where=where)[0]
        return self.batch(question, where=where)

    def batch(self, questions: Sequence[Question], *, where: Where | None = None) -> list[CitedAnswer]:
        """Answer each question; retriever and model get them as one batch.

        Args:
            questions: Questions or conversations.
            where: A filter on metadata.

        Returns:
            Answers in the order of the questions.
        """
        works = [read_question(each) for each in questions]
        later = [work for work in works if work.history]
        if later and not isinstance(self.model, ExtractiveReader):
            began = perf_counter()
            written = self.model.generate([rewrite_prompt(each.history, each.asked) for each in later], max_tokens=128)
            take_questions(later, written, perf_counter() - began)
        began = perf_counter()
        found = self.retriever.retrieve([work.question for work in works], self.k, where=where) if works else []
        asked = self._prepare(works, found, perf_counter() - began)
        began = perf_counter()
        if isinstance(self.model, ExtractiveReader):
            return self._extracted(works, asked)
        done = self.model.generate(_prompts(asked), max_tokens=self.max_tokens) if asked else []
        return self._answers(works, asked, done, perf_counter() - began)

    @overload
    async def ainvoke(  # type: ignore[overload-overlap]
        self, question: Question, *, where: Where | None = None
    ) -> CitedAnswer: ...
    @overload
    async def ainvoke(self, question: Sequence[Question], *, where: Where | None = None) -> list[CitedAnswer]: ...
    async def ainvoke(
        self, question: Question | Sequence[Question], *, where: Where | None = None
    ) -> CitedAnswer | list[CitedAnswer]:
        """`invoke` without blocking the event loop.

        Returns:
            As `invoke`.
        """
        if isinstance(question, str | Chat):
            return (await self.abatch([question], where=where))[0]
        return await self.abatch(question, where=where)

    async def abatch(self, questions: Sequence[Question], *, where: Where | None = None) -> list[CitedAnswer]:
        """`batch` without blocking the event loop.

        Returns:
            As `batch`.
        """
        works = [read_question(each) for each in questions]
        later = [work for work in works if work.history]
        if later and not isinstance(self.model, ExtractiveReader):
            began = perf_counter()
            prompts = [rewrite_prompt(each.history, each.asked) for each in later]
            take_questions(later, await self.model.agenerate(prompts, max_tokens=128), perf_counter() - began)
        began = perf_counter()
        found = await self.retriever.aretrieve([work.question for work in works], self.k, where=where) if works else []
        asked = self._prepare(works, found, perf_counter() - began)
        began = perf_counter()
        if isinstance(self.model, ExtractiveReader):
            return await to_thread(self._extracted, works, asked)
        done = await self.model.agenerate(_prompts(asked), max_tokens=self.max_tokens) if asked else []
        return self._answers(works, asked, done, perf_counter() - began)

    def stream(self, question: Question, *, where: Where | None = None) -> AnswerStream:
        """Answer one question piece by piece.

        Args:
            question: A question or a conversation.
            where: A filter on metadata.

        Returns:
            The pieces; afterwards its `answer` holds citations and trace.
        """
        work = read_question(question)
        if isinstance(self.model, ExtractiveReader):
            answer = self.batch([question], where=where)[0]
            return AnswerStream(iter([answer.text]), lambda _: answer)
        if work.history:
            began = perf_counter()
            written = self.model.generate([rewrite_prompt(work.history, work.asked)], max_tokens=128)
            take_questions([work], written, perf_counter() - began)
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

    # -- inside --------------------------------------------------------------------------------------------------------

    def _prepare(self, works: Sequence[Work], found: Sequence[Sequence[Hit]], seconds: float) -> list[Work]:
        """Give each question its passages and its prompt; those that can be answered are returned."""
        asked = []
        for work, hits in zip(works, found, strict=True):
            work.seconds["retrieve"] = seconds / len(works)
            if not hits or (self.min_score is not None and hits[0].score < self.min_score):
                work.dropped = tuple((hit.id, f"the best hit scores below {self.min_score}") for hit in hits)
                continue
            asked.append(work)
            if isinstance(self.model, ExtractiveReader):
                work.hits = tuple(hits)
                continue
            packed = pack(hits, self._limit(self.model, work.question), self.model.count_tokens)
            if not packed.hits:
                bare = self.model.count_tokens(answer_prompt(self.instruction, work.question, []).text)
                room = "raise `token_limit`" if self.token_limit else "shorten the question or lower `max_tokens`"
                window = self.model.capabilities.window or self.token_limit or 0
                raise PromptTooLongError(bare + self.max_tokens, window, advice=f"no passage fits beside that; {room}")
            work.hits, work.dropped = packed
            work.prompt = answer_prompt(self.instruction, work.question, work.hits)
        return asked

    def _limit(self, model: LanguageModel, question: str) -> int:
        """Tokens that passages may take."""
        window = model.capabilities.window
        if window is None:
            return self.token_limit or _WITHOUT_WINDOW
        bare = answer_prompt(self.instruction, question, []).text
        left = window - self.max_tokens - model.count_tokens(bare) - _AROUND
        return left if self.token_limit is None else min(left, self.token_limit)

    def _answers(
        self, works: Sequence[Work], asked: Sequence[Work], done: Sequence[Completion], seconds: float
    ) -> list[CitedAnswer]:
        completions = {id(work): completion for work, completion in zip(asked, done, strict=True)}
        answers = []
        for work in works:
            completion = completions.get(id(work))
            if completion is None:
                answers.append(self._refused(work))
            else:
                work.seconds["answer"] = seconds / len(asked)
                answers.append(self._answer(work, completion.text, completion))
        return answers

    def _answer(self, work: Work, text: str, completion: Completion | None) -> CitedAnswer:
        outside = without_reasoning(text)
        text = "" if outside.truncated else outside.text
        citations, flagged = read_citations(text, work.hits)
        made = CitedAnswer(
            text=text.strip(),
            citations=citations,
            flagged=flagged,
            question=work.question,
            hits=work.hits,
            dropped=work.dropped,
            prompt=work.prompt,
            completion=completion,
            rewriting=work.rewriting,
            seconds=work.seconds,
        )
        if is_refusal(text, self.refusal) or not text.strip():
            return replace(made, text=self.refusal, citations=(), flagged=(), refused=True)
        return made

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

    def _extracted(self, works: Sequence[Work], asked: Sequence[Work]) -> list[CitedAnswer]:
        assert isinstance(self.model, ExtractiveReader)  # noqa: S101 - the caller has looked
        began = perf_counter()
        read = self.model.read([work.question for work in asked], [work.hits for work in asked])
        seconds = perf_counter() - began
        found = {id(work): extract for work, extract in zip(asked, read, strict=True)}
        answers = []
        for work in works:
            extract = found.get(id(work))
            answer = self._refused(work)
            if extract is not None:
                work.seconds["answer"] = seconds / len(asked)
                if extract.text:
                    answer = replace(answer, text=extract.text, citations=extract.citations, refused=False)
            answers.append(answer)
        return answers


def _prompts(works: Sequence[Work]) -> list[Prompt]:
    return [work.prompt for work in works if work.prompt is not None]
