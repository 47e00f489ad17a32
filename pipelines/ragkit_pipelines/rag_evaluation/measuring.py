"""Measure a whole RAG pipeline on test questions: retrieval, answers, citations, and judgements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ragkit._progress import progress
from ragkit._text import folded
from ragkit.errors import InvalidInputError
from ragkit.evaluation import MeasureReport
from ragkit.metrics._wording import token_f1
from ragkit.protocols import LanguageModel
from ragkit.retrievers import Where
from ragkit.retrievers._rerank import Reranker
from ragkit_pipelines.rag.answers import CitedAnswer
from ragkit_pipelines.rag.pipeline import RetrieveThenAnswer
from ragkit_pipelines.rag_evaluation.calibration import Calibration
from ragkit_pipelines.rag_evaluation.cases import JudgedMeasure
from ragkit_pipelines.rag_evaluation.judging import AnswerJudge, plain
from ragkit_pipelines.rag_evaluation.questions import EvaluationQuestion


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RagReport(MeasureReport):
    """The measures of a pipeline: means over questions by name of the measure; ``print`` shows them with intervals.

    A measure that is undefined for a question leaves it out: refusals have no faithfulness, for example.

    - ``hit_rate`` and ``mrr``: whether a passage in the prompt overlaps the place that answers the question, and the
      reciprocal rank of the first one; for questions with a source.
    - ``refused``: whether the pipeline refused to answer.
    - ``f1`` and ``exact_match``: agreement with the best of the correct answers, without case and punctuation; 0 for a
      refusal; for questions with answers.
    - ``cited``: whether the answer has a valid citation; ``citation_validity``: the share of the citations that the
      model wrote that refer to a passage of the prompt.
    - ``faithfulness``, ``answer_relevance`` and ``context_precision``: those of `AnswerJudge`.

    Attributes:
        name: Name of the pipeline.
        per_query: Values by measure and id of the question.
        answers: The answers by id of the question.
        judge: Name of the judge; None without a judge.
        calibrations: The calibrations of the judge, by measure.
        unreadable: Number of answers by measure for which a judgement could not be read.
    """

    answers: Mapping[str, CitedAnswer]
    judge: str | None = None
    calibrations: Mapping[JudgedMeasure, Calibration] = field(default_factory=dict)
    unreadable: Mapping[JudgedMeasure, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join([MeasureReport.__str__(self), *self.remarks])

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences on how far the judgements can be trusted."""
        judged = [measure for measure in _JUDGED if measure in self or measure in self.unreadable]
        said = [f"judge of {name}: {self.calibrations[name]}" for name in judged if name in self.calibrations]
        missing = [name for name in judged if name not in self.calibrations]
        if missing:
            said.append(f"the judge {self.judge} is not calibrated for {', '.join(missing)}, and may be wrong")
        said += [f"{name}: no readable judgement for {count} answers" for name, count in self.unreadable.items()]
        return tuple(said)


_JUDGED: tuple[JudgedMeasure, ...] = ("faithfulness", "answer_relevance", "context_precision")


def evaluate_rag(
    pipeline: RetrieveThenAnswer,
    questions: Sequence[EvaluationQuestion | str],
    *,
    judge: AnswerJudge | str | LanguageModel | Reranker | None = None,
    where: Where | None = None,
    batch_size: int = 16,
    name: str | None = None,
) -> RagReport:
    """Measure a pipeline on questions, with and without correct answers.

    Args:
        pipeline: The pipeline.
        questions: Questions, such as those of `generate_questions` or `read_questions`; or texts, if neither the
            answers nor their places are known.
        judge: A judge, or the model or reranker to judge with; None for no judged measures.
        where: A metadata filter.
        batch_size: Number of questions that the pipeline answers as one batch, at least 1.
        name: Name of the pipeline in the report; by default, that of its retriever.

    Returns:
        The measures, with the answers.

    Raises:
        InvalidInputError: If there are no questions, or two with the same id.
    """
    asked = [
        EvaluationQuestion(id=str(place), text=each) if isinstance(each, str) else each
        for place, each in enumerate(questions, 1)
    ]
    if not asked or len({each.id for each in asked}) < len(asked) or type(batch_size) is not int or batch_size < 1:
        raise InvalidInputError(
            f"a pipeline is measured on at least one question, with different ids, in batches of at least 1; got "
            f"{len(asked)} questions with {len({each.id for each in asked})} different ids, and batches of {batch_size}"
        )
    answers: list[CitedAnswer] = []
    with progress("answering", len(asked)) as advance:
        for start in range(0, len(asked), batch_size):
            part = [each.text for each in asked[start : start + batch_size]]
            answers += pipeline.batch(part, where=where)
            advance(len(part))
    measured = [_measured(question, answer) for question, answer in zip(asked, answers, strict=True)]
    unreadable: dict[JudgedMeasure, int] = {}
    judging = judge if isinstance(judge, AnswerJudge) or judge is None else AnswerJudge(judge)
    if judging is not None:
        for measure in _JUDGED:
            values = getattr(judging, measure)(answers)
            for own, answer, value in zip(measured, answers, values, strict=True):
                own[measure] = value
                applies = bool(answer.hits) if measure == "context_precision" else not answer.refused
                unreadable[measure] = unreadable.get(measure, 0) + (value is None and applies)
    own_name = getattr(pipeline.retriever, "name", None)
    return RagReport(
        name=name or (own_name if isinstance(own_name, str) else type(pipeline.retriever).__name__),
        per_query=_by_measure({question.id: own for question, own in zip(asked, measured, strict=True)}),
        answers={question.id: answer for question, answer in zip(asked, answers, strict=True)},
        judge=judging.name if judging else None,
        calibrations=judging.calibrations if judging else {},
        unreadable={measure: count for measure, count in unreadable.items() if count},
    )


def _measured(question: EvaluationQuestion, answer: CitedAnswer) -> dict[str, float | None]:
    """Return the value of each measure that needs no judge; None if it is undefined."""
    made: dict[str, float | None] = {}
    if question.source is not None:
        ranks = [rank for rank, hit in enumerate(answer.hits, 1) if question.answered_in(hit)]
        made |= {"hit_rate": float(bool(ranks)), "mrr": 1 / ranks[0] if ranks else 0.0}
    made["refused"] = float(answer.refused)
    if question.answers:
        text = "" if answer.refused else plain(answer)
        made["f1"] = max(token_f1(text, each) for each in question.answers)
        made["exact_match"] = float(any(folded(text) == folded(each) for each in question.answers))
    written = not answer.attributed and plain(answer) != answer.text.strip()  # by the model, not found by ragkit
    numbers = len(answer.citations) + len(answer.flagged) if written else 0
    made["cited"] = None if answer.refused else float(bool(answer.citations))
    made["citation_validity"] = len(answer.citations) / numbers if numbers else None
    return made


def _by_measure(measured: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float]]:
    names = dict.fromkeys(name for own in measured.values() for name in own)
    found = {
        name: {question: value for question, own in measured.items() if (value := own.get(name)) is not None}
        for name in names
    }
    return {name: values for name, values in found.items() if values}
