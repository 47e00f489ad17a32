"""Evaluate a whole RAG pipeline: test questions from documents, measures with and without gold answers, and judges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import lazy_names

if TYPE_CHECKING:
    from ragkit_pipelines.rag_evaluation.calibration import Calibration as Calibration
    from ragkit_pipelines.rag_evaluation.calibration import calibrate as calibrate
    from ragkit_pipelines.rag_evaluation.cases import JudgedCase as JudgedCase
    from ragkit_pipelines.rag_evaluation.cases import read_judged_cases as read_judged_cases
    from ragkit_pipelines.rag_evaluation.generation import GeneratedQuestions as GeneratedQuestions
    from ragkit_pipelines.rag_evaluation.generation import generate_questions as generate_questions
    from ragkit_pipelines.rag_evaluation.judging import AnswerJudge as AnswerJudge
    from ragkit_pipelines.rag_evaluation.measuring import RagReport as RagReport
    from ragkit_pipelines.rag_evaluation.measuring import evaluate_rag as evaluate_rag
    from ragkit_pipelines.rag_evaluation.questions import EvaluationQuestion as EvaluationQuestion
    from ragkit_pipelines.rag_evaluation.questions import qrels_of as qrels_of
    from ragkit_pipelines.rag_evaluation.questions import read_questions as read_questions
    from ragkit_pipelines.rag_evaluation.questions import write_questions as write_questions

_HOME_OF = {
    "AnswerJudge": "judging", "Calibration": "calibration", "EvaluationQuestion": "questions",
    "GeneratedQuestions": "generation", "JudgedCase": "cases", "RagReport": "measuring", "calibrate": "calibration",
    "evaluate_rag": "measuring", "generate_questions": "generation", "qrels_of": "questions",
    "read_judged_cases": "cases", "read_questions": "questions", "write_questions": "questions",
}  # fmt: skip
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
