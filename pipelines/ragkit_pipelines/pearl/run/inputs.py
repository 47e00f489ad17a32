"""Questions and documents as they are given."""

from __future__ import annotations

from collections.abc import Sequence

from ragkit.errors import InvalidInputError
from ragkit.records import Document
from ragkit.text import refuse_bare_string

Text = str | Document


def checked_question(question: str) -> str:
    """A question, if it is one.

    Returns:
        The question.

    Raises:
        InvalidInputError: If it is no text, or empty.
    """
    text: object = question
    if not isinstance(text, str) or not text.strip():
        raise InvalidInputError(f"`question` must be a text with words in it, got {question!r}")
    return question


def text_of(document: Text | None) -> str:
    """The text of a document, empty for None.

    Returns:
        The text.

    Raises:
        InvalidInputError: If it is no text, or cannot be written as UTF-8.
    """
    text: object = document.text if isinstance(document, Document) else document
    if text is None:
        return ""
    if not isinstance(text, str):
        raise InvalidInputError(f"`document` must be a text or a Document, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"the document holds half a character at {error.start}; read the file with errors='replace'"
        raise InvalidInputError(message) from error
    return text


def paired(questions: Sequence[str], document: Text | Sequence[Text] | None) -> list[Text | None]:
    """A document for each question.

    Args:
        questions: The questions.
        document: The document of all, or one for each.

    Returns:
        As many as there are questions.

    Raises:
        InvalidInputError: If there are more or fewer, or the questions are one string.
    """
    refuse_bare_string("questions", questions)
    if document is None or isinstance(document, str | Document):
        return [document] * len(questions)
    if len(document) != len(questions):
        wanted = f"{len(questions)} questions need as many documents, or one for all"
        raise InvalidInputError(f"{wanted}; got {len(document)}")
    return list(document)
