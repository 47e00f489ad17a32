"""Generate test questions from documents: a model proposes them, and only those are kept that it can answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from random import Random
from typing import overload

from typing_extensions import override

from ragkit._progress import progress
from ragkit._text import words
from ragkit.errors import InvalidInputError
from ragkit.ingest import Chunker, load_chunker, near_duplicates
from ragkit.metrics._wording import token_f1
from ragkit.models import load_model
from ragkit.protocols import LanguageModel
from ragkit.records import Document, Hit, span_of
from ragkit.retrievers import Hits, RetrieverBase, Where
from ragkit_pipelines.rag.pipeline import RetrieveThenAnswer
from ragkit_pipelines.rag_evaluation.proposals import Proposal, propose
from ragkit_pipelines.rag_evaluation.questions import EvaluationQuestion

_AT_ONCE = 8  # passages
_MIN_WORDS = 8  # of a passage; a heading alone answers nothing
_SAME_ANSWER = 0.5  # F1 of the proposed answer and the answer of the model to its own question
_SAME_QUESTION = 0.8  # Jaccard similarity of their words


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedQuestions(Sequence[EvaluationQuestion]):
    """Generated questions, and how many were rejected.

    Attributes:
        questions: The questions that passed all filters.
        passages: Number of passages for which the model was called.
        rejected: Number of rejected questions by reason.
    """

    questions: tuple[EvaluationQuestion, ...]
    passages: int
    rejected: Mapping[str, int]

    @overload
    def __getitem__(self, place: int) -> EvaluationQuestion: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[EvaluationQuestion, ...]: ...
    def __getitem__(self, place: int | slice) -> EvaluationQuestion | tuple[EvaluationQuestion, ...]:
        return self.questions[place]

    def __len__(self) -> int:
        return len(self.questions)

    def __str__(self) -> str:
        lines = [f"questions: {len(self)}, from {self.passages} passages"]
        return "\n".join([*lines, *(f"rejected because {reason}: {count}" for reason, count in self.rejected.items())])


def generate_questions(
    documents: Sequence[Document],
    model: str | LanguageModel,
    n: int = 50,
    *,
    chunker: str | Chunker = "markdown:1200",
    seed: int = 0,
) -> GeneratedQuestions:
    """Generate test questions from documents, each with its answer and the place of the answer.

    The model writes one question with its answer for a passage, in the language of the passage. If its answer does not
    occur in the passage, it is prompted again for a question about a name or number of the passage. A question is kept
    only if all of these hold: the answer occurs in the passage, the question does not contain it, the question is in
    the language of the passage as far as script and English function words show, the model finds the same answer when
    it reads the passage and the question, and no earlier question is nearly the same. Passages are drawn from all
    documents in turn, until there are enough questions.

    Args:
        documents: The documents, such as those of `load_documents`.
        model: A model or its spec. With a response cache (``load_model(..., cache=...)``), an interrupted run resumes.
        n: Number of questions, at least 1; there are fewer if there are not enough passages.
        chunker: The chunker that splits the documents into passages, or its spec.
        seed: Seed of the order of the passages.

    Returns:
        The questions, and the number of rejected ones.

    Raises:
        InvalidInputError: If there are no documents with text, or ``n`` is below 1.
    """
    if type(n) is not int or n < 1:
        raise InvalidInputError(f"`n` must be an integer of at least 1, got {n!r}")
    passages = _passages(documents, load_chunker(chunker), seed)
    if not passages:
        raise InvalidInputError(
            f"{len(documents)} documents contain no passage of at least {_MIN_WORDS} words; pass documents with prose"
        )
    loaded = load_model(model)
    kept: list[Proposal] = []
    rejected: Counter[str] = Counter()
    done = 0
    with progress("writing questions", n, "questions") as advance:
        while len(kept) < n and done < len(passages):
            batch = passages[done : done + min(_AT_ONCE, max(1, n - len(kept)))]
            done += len(batch)
            proposals = []
            for proposal in propose(loaded, batch):
                if isinstance(proposal, str):
                    rejected[proposal] += 1
                else:
                    proposals.append(proposal)
            confirmed = _answerable(loaded, proposals)
            rejected["the model does not find the answer in the passage"] += len(proposals) - len(confirmed)
            new = _without_repetitions(kept, confirmed)
            rejected["it repeats another question"] += len(confirmed) - len(new)
            kept += new
            advance(len(new))
    return GeneratedQuestions(
        questions=tuple(_question(number, each) for number, each in enumerate(kept, 1)),
        passages=done,
        rejected={reason: count for reason, count in rejected.items() if count},
    )


def _passages(documents: Sequence[Document], chunker: Chunker, seed: int) -> list[Document]:
    """Return the passages of all documents in turn, in random order; each has the id of its document."""
    random = Random(seed)
    own = []
    for document in documents:
        pieces = [each for each in chunker.chunk(document) if len(words(each.text)) >= _MIN_WORDS]
        random.shuffle(pieces)
        own.append([Document(each.text, id=document.id, metadata=each.metadata) for each in pieces])
    random.shuffle(own)
    return [each for each in chain.from_iterable(zip_longest(*own)) if each is not None]


def _answerable(model: LanguageModel, proposals: Sequence[Proposal]) -> list[Proposal]:
    """Return the proposals whose answer the model finds when it reads the passage and the question."""
    if not proposals:
        return []
    pipeline = RetrieveThenAnswer(model, _Given([each.passage for each in proposals]), k=1, style="short")
    answers = pipeline.batch([each.question for each in proposals])
    return [
        proposal
        for proposal, answer in zip(proposals, answers, strict=True)
        if not answer.refused and token_f1(answer.text, proposal.answer) >= _SAME_ANSWER
    ]


class _Given(RetrieverBase):
    """Returns one given passage for each query, by position."""

    name = "given"

    def __init__(self, passages: Sequence[Document]) -> None:
        self._passages = passages

    @override
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        return [[Hit(id="passage", score=1.0, rank=1, text=each.text)] for each in self._passages]


def _without_repetitions(kept: Sequence[Proposal], new: Sequence[Proposal]) -> list[Proposal]:
    """Return the new proposals whose question is not nearly the same as an earlier one."""
    texts = [each.question for each in (*kept, *new)]
    repeated = {later for _, later, _ in near_duplicates(texts, threshold=_SAME_QUESTION, words_each=1)}
    return [each for place, each in enumerate(new, len(kept)) if place not in repeated]


def _question(number: int, proposal: Proposal) -> EvaluationQuestion:
    metadata = proposal.passage.metadata or {}
    start, _ = span_of(metadata) or (0, 0)
    source, row = metadata.get("source"), metadata.get("row")
    return EvaluationQuestion(
        id=f"q{number}",
        text=proposal.question,
        answers=(proposal.answer,),
        source=source if isinstance(source, str) else proposal.passage.id,
        span=(start + proposal.span[0], start + proposal.span[1]),
        row=row if type(row) is int else None,
    )
