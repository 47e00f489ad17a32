"""Which passages help a reader: how likely each makes the right answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ragkit.errors import EmptyPoolError, InvalidInputError, UnsupportedError
from ragkit.progress import progress
from ragkit.records import Example
from ragkit.retriever_training.mining import hits_of
from ragkit.retriever_training.rows import ScoredPassages
from ragkit.text import marked, refuse_bare_string

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
    """Ask a reader which of the passages that a retriever finds make the right answers likely.

    Args:
        model: The reader; it must give probabilities.
        retriever: What finds the passages.
        questions: Questions with their right answers; the input of each is one text.
        passages: How many passages each question gets, at least 2.
        prompt: Puts a passage and a question into words, up to where the answer begins; passage, question and answer as
            usual if None. The answer is scored with a space before it.
        per_token: Whether the log-likelihood is divided by the tokens of the answer, so that long answers count no more
            than short ones.

    Returns:
        A row for each question, in order, for `distill_embedder`. The passages stand in the order of the retriever.

    Raises:
        EmptyPoolError: If there are no questions.
        UnsupportedError: If the model gives no probabilities.
        InvalidInputError: If the retriever finds too few passages, or a question has no answer.
    """
    refuse_bare_string("questions", questions)
    if not questions:
        raise EmptyPoolError("score_passages")
    if not model.capabilities.score:
        raise UnsupportedError(f"{model.name} gives no probabilities, so it cannot score passages; use another model")
    if type(passages) is not int or passages < 2:
        raise InvalidInputError(f"`passages` must be a whole number of at least 2, got {passages!r}")
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
    """Passage and question as usual, the passage between marks that do not stand in it.

    Returns:
        The prompt, up to where the answer begins.
    """
    return f"{marked('passage', passage)}\nQuestion: {question}\nAnswer:"
