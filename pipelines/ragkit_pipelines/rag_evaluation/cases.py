"""The cases that a judge decides, and labelled cases from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ragkit.errors import DataFileError
from ragkit_pipelines.rag_evaluation.questions import read_objects, texts_of

JudgedMeasure = Literal["faithfulness", "answer_relevance", "context_precision"]
JUDGED_MEASURES: tuple[JudgedMeasure, ...] = get_args(JudgedMeasure)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCase:
    """One decision of a judge, with its label if a person made the same decision.

    Attributes:
        measure: ``"faithfulness"``: do the passages support the answer? ``"answer_relevance"``: does the answer respond
            to the question? ``"context_precision"``: does the passage help to answer the question?
        question: The question.
        answer: The answer, or one sentence of it; not used for ``"context_precision"``.
        passages: The passages; not used for ``"answer_relevance"``.
        label: The correct decision; None if it is unknown.
    """

    measure: JudgedMeasure
    question: str
    answer: str = ""
    passages: tuple[str, ...] = ()
    label: bool | None = None


def read_judged_cases(path: str | Path) -> list[JudgedCase]:
    """Read labelled cases from a JSON Lines file with the fields of `JudgedCase`, to calibrate a judge.

    Args:
        path: The file. Each line is an object with ``measure``, ``question``, ``label`` (true or false), and ``answer``
            or ``passages`` (a list of texts) or both, depending on the measure.

    Returns:
        The cases.

    Raises:
        DataFileError: If a line has another form.
    """
    file, found = Path(path), []
    for number, row in read_objects(file):
        measure, question, answer, label = (row.get(name) for name in ("measure", "question", "answer", "label"))
        passages = texts_of(row.get("passages", []))
        if measure not in JUDGED_MEASURES or type(label) is not bool:
            known = ", ".join(JUDGED_MEASURES)
            raise DataFileError(file, number, f"`measure` must be one of {known}, and `label` must be true or false")
        if not isinstance(question, str) or passages is None or not isinstance(answer, str | None):
            raise DataFileError(file, number, "`question` and `answer` must be strings, and `passages` a list of them")
        if (not answer and measure != "context_precision") or (not passages and measure != "answer_relevance"):
            missing = "passages" if answer else "answer"
            raise DataFileError(file, number, f"a case of {measure} needs `{missing}`")
        case = JudgedCase(
            measure=measure,
            question=question,
            answer=answer or "",
            passages=passages,
            label=label,
        )
        found.append(case)
    return found
