"""Checking the questions and documents that users pass."""

from __future__ import annotations

from collections.abc import Sequence

from ragkit._text import refuse_bare_string
from ragkit.errors import InvalidInputError
from ragkit.records import Document

Text = str | Document


def checked_question(question: str) -> str:
    """Return a question, which must not be blank."""
    if not _checked("question", question).strip():
        raise InvalidInputError(f"`question` must be a non-empty string, got {question!r}")
    return question


def text_of(document: Text | None) -> str:
    """Return the text of a document; empty for None."""
    return "" if document is None else _checked("document", getattr(document, "text", document))


def _checked(name: str, text: object) -> str:
    if not isinstance(text, str):
        expected = "a string or a Document" if name == "document" else "a string"
        raise InvalidInputError(f"`{name}` must be {expected}, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"`{name}` has a lone surrogate at index {error.start}; read the file with errors='replace'"
        raise InvalidInputError(message) from error
    return text


def paired(questions: Sequence[str], document: Text | Sequence[Text] | None) -> list[Text | None]:
    """Return a document for each question: one for all, or one for each."""
    refuse_bare_string("questions", questions)
    if document is None or isinstance(document, str | Document):
        return [document] * len(questions)
    if len(document) != len(questions):
        raise InvalidInputError(
            f"`document` must be one document or one for each of the {len(questions)} questions, got {len(document)}"
        )
    return list(document)
