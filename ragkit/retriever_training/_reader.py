"""Scores of passages by the likelihood of the correct answer under an answer model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ragkit._progress import progress
from ragkit._text import marked, refuse_bare_string
from ragkit.errors import EmptyPoolError, InvalidInputError, UnsupportedError
from ragkit.finetuning._settings import check_whole
from ragkit.records import Example
from ragkit.retriever_training._mining import hits_of
from ragkit.retriever_training._rows import ScoredPassages

if TYPE_CHECKING:
    from ragkit.protocols import AnyPrompt, LanguageModel, Retriever
    from ragkit.records import Prompt


def score_passages(
    model: LanguageModel,
    retriever: Retriever,
    questions: Sequence[Example],
    *,
    passages: int = 8,
    prompt: Callable[[str, str], AnyPrompt] | None = None,
    per_token: bool = False,
) -> list[ScoredPassages]:
    """Score retrieved passages by the log-likelihood of the correct answer under an answer model.

    Args:
        model: The answer model, which must return probabilities.
        retriever: Retriever of the passages.
        questions: Questions with their correct answers; the input of each is one text.
        passages: Number of passages per question, at least 2.
        prompt: Function that combines a passage and a question into a prompt; `reader_prompt` if None. The answer is
            scored with a leading space.
        per_token: Whether to divide the log-likelihood by the number of tokens of the answer, which gives long and
            short answers the same weight.

    Returns:
        A row for each question, in order, for `distill_embedder`. The passages are in the order of the retriever.

    Raises:
        EmptyPoolError: If there are no questions.
        UnsupportedError: If the model does not return probabilities.
        InvalidInputError: If the retriever finds too few passages, or a question has no answer.
    """
    refuse_bare_string("questions", questions)
    if not questions:
        raise EmptyPoolError("score_passages")
    if not model.capabilities.score:
        raise UnsupportedError(f"{model.name} gives no probabilities, so it cannot score passages; use another model")
    check_whole(2, passages=passages)
    for place, question in enumerate(questions):
        if not question.output.strip():
            raise InvalidInputError(f"`questions[{place}]` has no answer, whose likelihood is to be found")
    asked = [question.text() for question in questions]
    found, rows = hits_of(retriever, asked, passages), []
    with progress("asking the reader", len(questions)) as advance:
        for question, query, hits in zip(questions, asked, found, strict=True):
            if len(hits) < passages:
                raise InvalidInputError(
                    f"the retriever found {len(hits)} passages for {query[:60]!r}, fewer than `passages` ({passages}); "
                    "lower it or add passages"
                )
            prompts = [(prompt or reader_prompt)(hit.text, query) for hit in hits]
            answer = f" {question.output}"
            scores = model.score(prompts, [answer])[:, 0]
            if per_token:
                scores = scores / max(model.count_tokens(answer), 1)
            rows.append(ScoredPassages(query, tuple(hit.text for hit in hits), tuple(map(float, scores))))
            advance(1)
    return rows


def reader_prompt(passage: str, question: str) -> str | Prompt:
    """Return the default prompt, in which the passage is enclosed in markers that do not occur in it."""
    return f"{marked('passage', passage)}\nQuestion: {question}\nAnswer:"
