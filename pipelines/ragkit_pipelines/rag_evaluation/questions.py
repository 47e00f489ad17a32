"""Test questions for a RAG pipeline, with their answers and the place in the documents that answers them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragkit._files import write_atomic
from ragkit._text import read_json
from ragkit.errors import DataFileError, InvalidInputError
from ragkit.index import Index
from ragkit.records import Hit


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationQuestion:
    """A question, with everything that is known about its answer.

    Attributes:
        id: Its id.
        text: The question.
        answers: The correct answers, any of which counts; empty if they are unknown.
        source: The ``source`` in the metadata of the document that answers it, or the id of a document without one.
        span: Start and end of the answer in the text of the source, in characters.
        row: The row of the source, if the source is a table.
    """

    id: str
    text: str
    answers: tuple[str, ...] = ()
    source: str | None = None
    span: tuple[int, int] | None = None
    row: int | None = None

    def answered_in(self, hit: Hit) -> bool:
        """Whether a passage overlaps the place that answers the question; False if the place is unknown."""
        metadata = hit.metadata or {}
        if self.source is None or metadata.get("source", hit.id) != self.source or metadata.get("row") != self.row:
            return False
        return self.span is None or hit.span is None or (hit.span[0] < self.span[1] and self.span[0] < hit.span[1])


def read_questions(path: str | Path) -> list[EvaluationQuestion]:
    """Read questions from a JSON Lines file.

    Each line is an object with the question as ``text`` or ``question``. Optional fields are ``id``, ``answer`` or
    ``answers``, and ``source``, ``start``, ``end`` and ``row``, which locate the answer in a document.

    Args:
        path: The file.

    Returns:
        The questions in their order; a question without an id gets the number of its line.

    Raises:
        DataFileError: If a line has another form, or if an id occurs twice; or if there is no question.
    """
    file, found = Path(path), dict[str, EvaluationQuestion]()
    for number, row in read_objects(file):
        question = _question(row, str(number))
        if isinstance(question, str):
            raise DataFileError(file, number, question)
        if question.id in found:
            raise DataFileError(file, number, f"the id {question.id!r} occurs twice; ids must differ")
        found[question.id] = question
    if not found:
        raise DataFileError(file, 0, "the file contains no question; expected one JSON object per line")
    return [*found.values()]


def write_questions(path: str | Path, questions: Iterable[EvaluationQuestion]) -> None:
    """Write questions to a JSON Lines file, from which `read_questions` reads them; the file appears when complete.

    Args:
        path: The file to create or replace.
        questions: The questions.
    """
    write_atomic(Path(path), "".join(json.dumps(_row(each), ensure_ascii=False) + "\n" for each in questions))


def qrels_of(questions: Iterable[EvaluationQuestion], index: Index) -> dict[str, dict[str, int]]:
    """Return relevance judgements: the passages of an index that overlap the place that answers a question.

    Args:
        questions: Questions; those without a source are left out.
        index: The index of the documents.

    Returns:
        Grades by question and passage, for `evaluate_retrieval`. If the index does not contain the place, the judgement
        names a passage that cannot be retrieved, so that the question counts as a failure.

    Raises:
        InvalidInputError: If no question has a source, or if the index contains none of the sources.
    """
    made: dict[str, dict[str, int]] = {}
    known = 0
    for each in questions:
        if each.source is None:
            continue
        held = [document.id for document in index.get([each.source])]
        if each.span is not None:
            place: dict[str, object] = {
                "source": each.source,
                "start": {"$lt": each.span[1]},
                "end": {"$gt": each.span[0]},
            }
            place |= {} if each.row is None else {"row": each.row}
            held += [document.id for document in index.get_by_keys(index.keys(place)) if document is not None]
        known += bool(held)
        made[each.id] = dict.fromkeys((own or "" for own in held), 1) or {f"{each.source} is not in the index": 1}
    if not known:
        raise InvalidInputError(
            "the index contains none of the documents from which the questions were made, because no `source` matches; "
            "sync the index with the same folder, such as `ragkit index sync docs.rag docs/`"
            if made
            else "no question has a `source`, so its passages are unknown; pass relevance judgements with --qrels"
        )
    return made


def read_objects(file: Path) -> Iterable[tuple[int, Mapping[str, object]]]:
    """Yield the objects of a JSON Lines file with their line numbers.

    Raises:
        DataFileError: If the file cannot be read, or a line is not a JSON object.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(file, 0, f"cannot be read ({error}); expected a JSON Lines file in UTF-8") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except InvalidInputError as error:
            raise DataFileError(file, number, f"{error}; expected one JSON object per line") from error
        if not isinstance(row, dict):
            raise DataFileError(file, number, "expected a JSON object")
        yield number, row


def texts_of(value: object) -> tuple[str, ...] | None:
    """Return one text or a list of texts from JSON as a tuple; None if the value is something else."""
    listed: Sequence[object] = [value] if isinstance(value, str) else value if isinstance(value, list) else [None]
    return tuple(map(str, listed)) if all(isinstance(each, str) for each in listed) else None


def _question(row: Mapping[str, object], number: str) -> EvaluationQuestion | str:
    """Return the question in a row, or what is wrong with it."""
    text, own = row.get("text", row.get("question")), row.get("id", row.get("_id", number))
    answers = texts_of(row.get("answers", row.get("answer", [])))
    source, start, end, place = row.get("source"), row.get("start"), row.get("end"), row.get("row")
    if not isinstance(text, str) or not text.strip():
        return "expected the question as a string `text` (or `question`)"
    if not isinstance(own, str | int) or answers is None:
        return "`id` must be a string or a number, and `answer` a string (or `answers` a list of strings)"
    if not (source is None or isinstance(source, str)) or not (place is None or type(place) is int):
        return "`source` must be a string, and `row` a number"
    if start is None and end is None:
        return EvaluationQuestion(id=str(own), text=text, answers=answers, source=source, row=place)
    if type(start) is not int or type(end) is not int or not 0 <= start < end or source is None:
        return "`start` and `end` must be positions in the text of `source`, such as 0 and 12"
    return EvaluationQuestion(id=str(own), text=text, answers=answers, source=source, span=(start, end), row=place)


def _row(question: EvaluationQuestion) -> dict[str, object]:
    start, end = question.span or (None, None)
    answer = {"answer": question.answers[0]} if len(question.answers) == 1 else {"answers": list(question.answers)}
    place = {"source": question.source, "start": start, "end": end, "row": question.row}
    row = {"id": question.id, "text": question.text, **(answer if question.answers else {})}
    return row | {name: value for name, value in place.items() if value is not None}
