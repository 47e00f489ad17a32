"""Few-shot prompts, retrieval-augmented answers with their evaluation, and extraction.

Import names from here: ``from ragkit.pipelines import ExtractiveReader``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import names_of

if TYPE_CHECKING:
    from ragkit_pipelines.extraction import Extract as Extract
    from ragkit_pipelines.extraction import Extracted as Extracted
    from ragkit_pipelines.extraction import Extraction as Extraction
    from ragkit_pipelines.extraction import ExtractionReport as ExtractionReport
    from ragkit_pipelines.extraction import Failure as Failure
    from ragkit_pipelines.extraction import Quote as Quote
    from ragkit_pipelines.extraction import Rejected as Rejected
    from ragkit_pipelines.few_shot import Answer as Answer
    from ragkit_pipelines.few_shot import FewShot as FewShot
    from ragkit_pipelines.rag import Citation as Citation
    from ragkit_pipelines.rag import CitedAnswer as CitedAnswer
    from ragkit_pipelines.rag import ExtractiveReader as ExtractiveReader
    from ragkit_pipelines.rag import RetrieveThenAnswer as RetrieveThenAnswer
    from ragkit_pipelines.rag_evaluation import AnswerJudge as AnswerJudge
    from ragkit_pipelines.rag_evaluation import Calibration as Calibration
    from ragkit_pipelines.rag_evaluation import EvaluationQuestion as EvaluationQuestion
    from ragkit_pipelines.rag_evaluation import GeneratedQuestions as GeneratedQuestions
    from ragkit_pipelines.rag_evaluation import JudgedCase as JudgedCase
    from ragkit_pipelines.rag_evaluation import RagReport as RagReport
    from ragkit_pipelines.rag_evaluation import calibrate as calibrate
    from ragkit_pipelines.rag_evaluation import evaluate_rag as evaluate_rag
    from ragkit_pipelines.rag_evaluation import generate_questions as generate_questions
    from ragkit_pipelines.rag_evaluation import qrels_of as qrels_of
    from ragkit_pipelines.rag_evaluation import read_judged_cases as read_judged_cases
    from ragkit_pipelines.rag_evaluation import read_questions as read_questions
    from ragkit_pipelines.rag_evaluation import write_questions as write_questions

__getattr__, __dir__ = names_of(
    "ragkit_pipelines.few_shot",
    "ragkit_pipelines.rag",
    "ragkit_pipelines.rag_evaluation",
    "ragkit_pipelines.extraction",
)
