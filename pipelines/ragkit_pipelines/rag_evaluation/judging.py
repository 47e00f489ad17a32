"""Judge answers without gold answers: a language model or a reranker decides between "yes" and "no"."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit.models import load_model
from ragkit.protocols import LanguageModel
from ragkit.registry import is_known
from ragkit.retrievers._rerank import Reranker, load_reranker
from ragkit_pipelines.rag.answers import CitedAnswer, read_citations, without_marks
from ragkit_pipelines.rag.extractive import sentence_spans
from ragkit_pipelines.rag_evaluation.calibration import Calibration, calibrate
from ragkit_pipelines.rag_evaluation.cases import JUDGED_MEASURES, JudgedCase, JudgedMeasure
from ragkit_pipelines.rag_evaluation.model_judgements import probabilities

# Citation numbers after a full stop belong to the sentence before it.
_MARKS_FIRST = re.compile(r"(?:\s*[\[［【][^\]］】\n]*[\]］】])+")
_FOR_A_MODEL = 0.5

Scores = NDArray[np.float64]


class AnswerJudge:
    """Measures the faithfulness and relevance of answers, and the precision of the passages, without gold answers.

    A language model decides each case by the probability of "yes" after a prompt with two demonstrations, or, if it
    returns no probabilities, by a generated "yes" or "no". A reranker, such as a cross-encoder, scores the pair of both
    texts. Calibrate a judge on labelled cases before you rely on it: small models are often no better than chance.

    Attributes:
        name: Name of the judge.
        calibrations: The calibration of each calibrated measure.

    Examples:
        >>> from ragkit import BM25Retriever, RetrieveThenAnswer, ScriptedModel
        >>> pipeline = RetrieveThenAnswer(ScriptedModel(["It is red [1]. It is old."]), BM25Retriever(["A red lamp."]))
        >>> judge = AnswerJudge(ScriptedModel(["yes"]))
        >>> judge.faithfulness([pipeline.invoke("What colour is the lamp?")])
        [0.5]
    """

    def __init__(self, judge: str | LanguageModel | Reranker) -> None:
        """Load the judge.

        Args:
            judge: A language model or its spec; or a reranker or its spec, such as ``"cross-encoder:<folder>"``, which
                can only be used after calibration.
        """
        self.calibrations: Mapping[JudgedMeasure, Calibration] = {}
        self._scores_of: Callable[[JudgedMeasure, Sequence[JudgedCase]], Scores]
        self._default: float | None = None
        reranks = is_known("reranker", judge) if isinstance(judge, str) else not isinstance(judge, LanguageModel)
        if reranks:
            reranker = load_reranker(judge)
            self.name = judge if isinstance(judge, str) else str(getattr(judge, "name", type(judge).__name__))
            self._scores_of = lambda _, cases: _reranked(reranker, cases)
        else:
            model = load_model(judge)
            self.name, self._default = model.name, _FOR_A_MODEL
            self._scores_of = lambda measure, cases: probabilities(model, measure, cases)

    def scores(self, cases: Sequence[JudgedCase]) -> Scores:
        """Score cases without applying a threshold.

        Args:
            cases: The cases.

        Returns:
            f64[n]: the probability of "yes" by a language model, or the score of a reranker; NaN if the answer of the
            model could not be read.
        """
        made = np.full(len(cases), np.nan)
        for measure in JUDGED_MEASURES:
            rows = [row for row, case in enumerate(cases) if case.measure == measure]
            if rows:
                made[rows] = self._scores_of(measure, [cases[row] for row in rows])
        return made

    def decide(self, cases: Sequence[JudgedCase]) -> list[bool | None]:
        """Decide cases: whether their score reaches the threshold; None if the answer of the model could not be read.

        Args:
            cases: The cases.

        Returns:
            The decisions in the order of the cases.

        Raises:
            InvalidInputError: If the judge is a reranker that is not calibrated for the measure of a case.
        """
        limits = {measure: self._threshold(measure) for measure in {case.measure for case in cases}}
        scores = self.scores(cases).tolist()
        return [
            None if score != score else score >= limits[case.measure]  # NaN differs from itself
            for case, score in zip(cases, scores, strict=True)
        ]

    def calibrated(self, cases: Sequence[JudgedCase], *, seed: int = 0) -> AnswerJudge:
        """Calibrate the judge on labelled cases; warn for each measure for which it is not better than chance.

        Args:
            cases: Cases with labels, of one or more measures.
            seed: Seed of the cross-validation.

        Returns:
            The same judge with `calibrations` for the measures of the cases.

        Raises:
            InvalidInputError: If a case has no label, or a measure has fewer than two cases of each label.
        """
        if not cases or any(case.label is None for case in cases):
            raise InvalidInputError("a calibration needs cases, each with a `label` of True or False")
        scores, found = self.scores(cases), dict(self.calibrations)
        for measure in JUDGED_MEASURES:
            rows = [row for row, case in enumerate(cases) if case.measure == measure]
            if rows:
                labels = [bool(cases[row].label) for row in rows]
                found[measure] = calibrate(scores[rows], labels, seed=seed, name=f"{self.name} as a judge of {measure}")
        made = copy(self)
        made.calibrations = found
        return made

    def faithfulness(self, answers: Sequence[CitedAnswer]) -> list[float | None]:
        """Measure the share of the sentences of each answer that the passages they cite support.

        A sentence without a valid citation is not supported, and the judge is not asked. Citations that ragkit
        determined count for all sentences.

        Args:
            answers: The answers.

        Returns:
            A share for each answer; None for a refusal, or if a judgement could not be read.
        """
        cases: list[list[JudgedCase]] = []
        for answer in answers:
            cited = [] if answer.refused else _claims(answer)
            cases.append(
                [
                    JudgedCase(measure="faithfulness", question=answer.question, answer=claim, passages=passages)
                    for claim, passages in cited
                ]
            )
        return [_mean(own) for own in self._decided(cases, lambda case: bool(case.passages))]

    def answer_relevance(self, answers: Sequence[CitedAnswer]) -> list[float | None]:
        """Measure whether each answer responds to its question: 1 or 0; None for a refusal or an unreadable judgement.

        Args:
            answers: The answers.

        Returns:
            A value for each answer.
        """
        cases = [
            [] if each.refused else [JudgedCase(measure="answer_relevance", question=each.question, answer=plain(each))]
            for each in answers
        ]
        return [_mean(own) for own in self._decided(cases)]

    def context_precision(self, answers: Sequence[CitedAnswer]) -> list[float | None]:
        """Measure whether the passages that help to answer the question rank before the others.

        It is the average precision of the passages in the prompt, relative to those among them that help.

        Args:
            answers: The answers, including refusals.

        Returns:
            A value from 0 to 1 for each answer, 0 if no passage helps; None if there are no passages, or if a judgement
            could not be read.
        """
        cases = [
            [JudgedCase(measure="context_precision", question=each.question, passages=(hit.text,)) for hit in each.hits]
            for each in answers
        ]
        return [_average_precision(own) for own in self._decided(cases)]

    def _decided(
        self, cases: Sequence[Sequence[JudgedCase]], asked: Callable[[JudgedCase], bool] = lambda _: True
    ) -> list[list[bool | None]]:
        """Decide all cases as one batch; those that the judge is not asked about are False."""
        decided = iter(self.decide([case for own in cases for case in own if asked(case)]))
        return [[next(decided) if asked(case) else False for case in own] for own in cases]

    def _threshold(self, measure: JudgedMeasure) -> float:
        if measure in self.calibrations:
            return self.calibrations[measure].threshold
        if self._default is None:
            raise InvalidInputError(
                f"{self.name} is a reranker, whose scores mean neither yes nor no without a threshold; call "
                f"`calibrated` with labelled cases of {measure!r} first, or pass --labelled"
            )
        return self._default


def plain(answer: CitedAnswer) -> str:
    """Return the text of an answer without citation numbers."""
    return without_marks(answer.text).strip()


def _claims(answer: CitedAnswer) -> list[tuple[str, tuple[str, ...]]]:
    """Return the sentences of an answer without citation numbers, each with the passages that it cites."""
    text, claims = answer.text, list[tuple[str, tuple[str, ...]]]()
    cites = bool(read_citations(text, answer.hits)[0]) and not answer.attributed
    for part in _sentences(text):
        claim = without_marks(part).strip()
        cited = read_citations(part, answer.hits)[0] if cites else answer.citations
        if any(map(str.isalnum, claim)):
            claims.append((claim, tuple(answer.hits[each.number - 1].text for each in cited)))
    return claims


def _sentences(text: str) -> Iterable[str]:
    """Split an answer into sentences; citation numbers after a full stop belong to the sentence before it."""
    spans = sentence_spans(text)
    starts = [start for start, _ in spans]
    for place, (start, end) in enumerate(spans):
        marks = _MARKS_FIRST.match(text, start) if place else None
        starts[place] = min(marks.end(), end) if marks else start
    return [text[start:end].strip() for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def _reranked(reranker: Reranker, cases: Sequence[JudgedCase]) -> Scores:
    """Score pairs of texts; of several passages, the best one counts."""
    pairs: list[tuple[str, str]] = []
    owners: list[int] = []
    for row, case in enumerate(cases):
        query = f"{case.question} {case.answer}" if case.measure == "faithfulness" else case.question
        for text in case.passages if case.measure != "answer_relevance" else (case.answer,):
            pairs.append((query, text))
            owners.append(row)
    scores = np.full(len(cases), -np.inf)
    if pairs:
        given = np.asarray(reranker([query for query, _ in pairs], [text for _, text in pairs]), dtype=np.float64)
        np.maximum.at(scores, owners, given)
    return scores


def _mean(decisions: Sequence[bool | None]) -> float | None:
    known = [each for each in decisions if each is not None]
    return sum(known) / len(known) if known and len(known) == len(decisions) else None


def _average_precision(decisions: Sequence[bool | None]) -> float | None:
    if not decisions or None in decisions:
        return None
    precisions = [sum(map(bool, decisions[:rank])) / rank for rank, yes in enumerate(decisions, 1) if yes]
    return sum(precisions) / len(precisions) if precisions else 0.0
