"""Retrieve passages, and answer questions and conversations from them with verified citations."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Literal, TypedDict, overload

from ragkit.errors import InvalidInputError
from ragkit.models import load_model
from ragkit.models._base import CompletionStream
from ragkit.protocols import LanguageModel, Retriever
from ragkit.records import Chat, Completion, Example, Hit, Prompt
from ragkit_pipelines.rag.answers import AnswerStream, CitedAnswer
from ragkit_pipelines.rag.demonstrations import Demonstrations, Given
from ragkit_pipelines.rag.extractive import Extract, ExtractiveReader
from ragkit_pipelines.rag.prompt import rewrite_prompt
from ragkit_pipelines.rag.prompting import Prompting
from ragkit_pipelines.rag.questions import Question, Work, keep_history, read_question, set_rewritten
from ragkit_pipelines.rag.styles import REFUSAL, StyleName, demonstrations, style_named

Where = Mapping[str, object]
_REWRITE_TOKENS = 128


class _Settings(TypedDict):
    max_tokens: int
    stop: tuple[str, ...]


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
        style: The style of answers: ``"short"``, ``"cited"`` or ``"full"``.
        history: Whether follow-up questions are rewritten, or preceded by earlier turns.
        max_tokens: Maximum number of tokens of an answer; None for that of the style.
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

    def __init__(  # noqa: PLR0913
        self,
        model: str | LanguageModel | ExtractiveReader,
        retriever: Retriever,
        k: int = 5,
        *,
        style: StyleName = "cited",
        examples: Given = None,
        shots: int = 2,
        history: Literal["rewrite", "turns"] = "rewrite",
        max_tokens: int | None = None,
        token_limit: int | None = None,
        min_score: float | None = None,
        instruction: str | None = None,
        refusal: str = REFUSAL,
    ) -> None:
        """Create the pipeline.

        Args:
            model: A model or its spec; ``"extractive"`` or an `ExtractiveReader` to answer without a language model.
            retriever: The retriever of passages.
            k: Number of passages to retrieve, at least 1.
            style: ``"short"`` for a few words, such as a name or a number; ``"cited"`` for one or two sentences with
                citations; ``"full"`` for a detailed answer with citations. A short answer has no citation numbers:
                `CitedAnswer.citations` contains the sentence that contains its words, if there is one.
            examples: Demonstrations, whose metadata ``passages`` is a list of texts:
                ``Example(question, answer, metadata={"passages": [...]})``. A sequence is the same for every question,
                and a selector finds them by the question. If None, built-in demonstrations accompany the built-in
                instruction; ``()`` for none. Demonstrations may take one fourth of the context window.
            shots: Number of demonstrations that a selector finds.
            history: ``"rewrite"`` lets the model rewrite a follow-up question, which takes another call. ``"turns"``
                puts the latest turns before the passages instead, which suits small models; the query of a follow-up
                question of up to 8 words then also contains the question before it.
            max_tokens: Maximum number of tokens of an answer. If None, it is 48, 256 or 512, depending on the style,
                but at most one fourth of the context window.
            token_limit: Maximum number of tokens of all passages. If None, the passages may fill the context window,
                or take 3,000 tokens if it is unknown.
            min_score: Minimum score of the best passage, on the scale of the retriever; None for no minimum.
            instruction: The instruction for the model, instead of the one of the style, without built-in
                demonstrations. It should describe the answer, ask for citations, and state the refusal.
            refusal: The answer of the model if the passages do not answer the question.

        Raises:
            InvalidInputError: If an argument is out of its range.
        """
        numbers = {"k": k, "shots": shots, "max_tokens": max_tokens, "token_limit": token_limit}
        for name, number in numbers.items():
            if number is not None and (type(number) is not int or number < 1):
                raise InvalidInputError(f"`{name}` must be an integer of at least 1, got {number!r}")
        if (instruction is not None and not instruction.strip()) or not refusal.strip():
            raise InvalidInputError("`instruction` and `refusal` must not be empty")
        if history not in {"rewrite", "turns"}:
            raise InvalidInputError(f"`history` must be 'rewrite' or 'turns', got {history!r}")
        chosen = style_named(style)
        self.model: LanguageModel | ExtractiveReader
        if isinstance(model, ExtractiveReader):
            self.model = model
        else:
            self.model = ExtractiveReader() if model == "extractive" else load_model(model)
        self.retriever, self.k = retriever, k
        self.max_tokens, self.token_limit, self.min_score = max_tokens, token_limit, min_score
        self.style, self.history, self.refusal = style, history, refusal
        self.instruction = chosen.instruction(refusal) if instruction is None else instruction
        own = chosen.request not in self.instruction  # an instruction of the user, which they would contradict
        built_in = () if own else demonstrations(chosen, refusal)
        self._prompting = Prompting(
            style=chosen, instruction=self.instruction, reminder="" if own else chosen.reminder, refusal=refusal,
            max_tokens=max_tokens, token_limit=token_limit, demonstrations=Demonstrations(examples, shots, built_in),
        )  # fmt: skip

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
            results = self.model.generate(_prompts(answerable), **self._sampling(self.model))
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
        follow_ups = self._follow_ups(works)
        if follow_ups and not isinstance(self.model, ExtractiveReader):
            began = perf_counter()
            completions = await self.model.agenerate(_rewrite_prompts(follow_ups), max_tokens=_REWRITE_TOKENS)
            set_rewritten(follow_ups, completions, perf_counter() - began)
        began = perf_counter()
        found = await self.retriever.aretrieve([work.question for work in works], self.k, where=where) if works else []
        answerable = await to_thread(self._prepare, works, found, perf_counter() - began)
        began = perf_counter()
        results: Sequence[Completion | Extract] = []
        if isinstance(self.model, ExtractiveReader):
            results = await to_thread(self._extracts, self.model, answerable)
        elif answerable:
            results = await self.model.agenerate(_prompts(answerable), **self._sampling(self.model))
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
            refused = self._prompting.refused(work)
            return AnswerStream(iter([refused.text]), lambda _: refused)
        began = perf_counter()
        pieces = self.model.stream(work.prompt, **self._sampling(self.model))

        def finish(text: str) -> CitedAnswer:
            work.seconds["answer"] = perf_counter() - began
            return self._prompting.read(work, text, pieces.completion if isinstance(pieces, CompletionStream) else None)

        return AnswerStream(pieces, finish)

    def _follow_ups(self, works: Sequence[Work]) -> list[Work]:
        """Return the questions that are to be rewritten."""
        if self.history == "turns":
            keep_history(works)
            return []
        return [work for work in works if work.history]

    def _sampling(self, model: LanguageModel) -> _Settings:
        return {"max_tokens": self._prompting.answer_tokens(model), "stop": self._prompting.stop(model)}

    def _rewrite(self, works: Sequence[Work]) -> None:
        """Rewrite the follow-up questions, unless there is no language model."""
        follow_ups = self._follow_ups(works)
        if follow_ups and not isinstance(self.model, ExtractiveReader):
            began = perf_counter()
            completions = self.model.generate(_rewrite_prompts(follow_ups), max_tokens=_REWRITE_TOKENS)
            set_rewritten(follow_ups, completions, perf_counter() - began)

    def _prepare(self, works: Sequence[Work], found: Sequence[Sequence[Hit]], seconds: float) -> list[Work]:
        """Set the passages and the prompt of each question, and return the questions that can be answered."""
        answerable, model = [], self.model
        chosen: Sequence[tuple[Example, ...]] = [()] * len(works)
        if not isinstance(model, ExtractiveReader):
            chosen = self._prompting.demonstrations.select([work.question for work in works])
        for work, hits, examples in zip(works, found, chosen, strict=True):
            work.seconds["retrieve"] = seconds / len(works)
            if not hits or (self.min_score is not None and hits[0].score < self.min_score):
                work.dropped = tuple((hit.id, f"the best hit scores below {self.min_score}") for hit in hits)
                continue
            answerable.append(work)
            if isinstance(model, ExtractiveReader):
                work.hits = tuple(hits)
            else:
                self._prompting.prepare(model, work, tuple(hits), examples, turns=self.history == "turns")
        return answerable

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
                answers.append(self._prompting.read(work, result.text, result))
            elif result is not None and result.text:
                answer = self._prompting.refused(work)
                answers.append(replace(answer, text=result.text, citations=result.citations, refused=False))
            else:
                answers.append(self._prompting.refused(work))
        return answers


def _prompts(works: Sequence[Work]) -> list[Prompt]:
    return [work.prompt for work in works if work.prompt is not None]


def _rewrite_prompts(works: Sequence[Work]) -> list[Prompt]:
    return [rewrite_prompt(work.history, work.original) for work in works]
