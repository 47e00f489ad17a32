"""Routing: choosing between a plan and a direct answer.

A plan improves the answers to some questions and harms others (counting, deep plans). Which ones depends on the
documents and the model, so a logistic regression over features of the question and the plan learns it from examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Never

from pydantic import BaseModel, ConfigDict

from ragkit._files import checked, with_checksum, write_atomic
from ragkit.errors import DataFileError, InvalidInputError
from ragkit_pipelines.pearl.plan.builtins import is_local
from ragkit_pipelines.pearl.plan.nodes import Text
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.plan.questions import question_features

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Strategy = Literal["plan", "direct"]


def plan_features(plan: Plan) -> dict[str, float]:
    """Compute the features of a plan."""
    called = [step for step in plan.steps if not is_local(step.action)]
    texts = [argument for step in plan.steps for argument in step.arguments if isinstance(argument, Text)]
    return {
        "calls": len(called) / 4,
        "depth": plan.critical_path / 3,
        "is flat": float(plan.critical_path <= 1),
        "kinds of actions": len({step.action.name for step in called}) / 4,
        "texts": len(texts) / 6,
        "counts in the plan": float(any(step.action.name.startswith("COUNT") for step in plan.steps)),
        "own actions": float(bool(plan.new_actions)),
        "ends by joining": float(plan.steps[-1].action.name == "CONCAT"),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A question that was answered with both strategies.

    Attributes:
        question: The question.
        planned: Score of the answer with a plan, from 0 to 1.
        direct: Score of the direct answer, from 0 to 1.
        plan: The plan. If all rows have one, the router uses features of the plan.
    """

    question: str
    planned: float
    direct: float
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The decision of a router.

    Attributes:
        strategy: ``"plan"`` or ``"direct"``.
        probability: Probability that a plan gives the better answer.
    """

    strategy: Strategy
    probability: float

    @property
    def way(self) -> Never:
        """Raise an error that names the new attribute."""
        raise AttributeError("Route.way was renamed; use Route.strategy")

    @property
    def reason(self) -> str:
        """The reason for the decision."""
        return (
            f"the router estimates a probability of {self.probability:.2f} that a plan is better than a direct answer"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterReport:
    """Cross-validated evaluation of a router. All scores are means from 0 to 1.

    Attributes:
        questions: Number of questions.
        decisive: Number of questions for which the scores of the two strategies differ.
        planned: Score of always using a plan.
        direct: Score of always answering directly.
        routed: Score of routers that were trained without the question.
        oracle: Score of always using the better strategy, an upper limit.
        p_value: P-value of a sign test of the routed answers against the better constant strategy.
    """

    questions: int
    decisive: int
    planned: float
    direct: float
    routed: float
    oracle: float
    p_value: float

    @property
    def helps(self) -> bool:
        """Whether routing is significantly better than always using the same strategy."""
        return self.routed > max(self.planned, self.direct) and self.p_value < 0.05


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    weights: dict[str, float]
    bias: float
    threshold: float
    reads_plan: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """Chooses between a plan and a direct answer.

    Attributes:
        weights: Weight of each feature.
        bias: Intercept of the regression.
        threshold: Minimum probability for choosing a plan.
        reads_plan: Whether the router uses features of the plan. If not, a direct answer needs no planning call.
        report: The evaluation; None for a router that was loaded.
    """

    weights: dict[str, float]
    bias: float
    threshold: float = 0.5
    reads_plan: bool = False
    report: RouterReport | None = None

    @classmethod
    def fit(cls, rows: Sequence[Labelled], *, folds: int = 5, seed: int = 0) -> Router:
        """Train a router on questions that were answered with both strategies, and evaluate it by cross-validation.

        Args:
            rows: The questions: at least 20, with at least 4 for which each strategy is better.
            folds: Number of folds of the cross-validation.
            seed: Seed of the folds.

        Returns:
            A router with its report.

        Raises:
            InvalidInputError: If there are too few questions.
        """
        from sklearn.model_selection import KFold

        reads_plan = all(row.plan is not None for row in rows)
        better = [row for row in rows if row.planned > row.direct]
        worse = [row for row in rows if row.planned < row.direct]
        if len(rows) < max(20, folds) or folds < 2 or len(better) < 4 or len(worse) < 4:
            raise InvalidInputError(
                "a router needs at least 20 questions, of which 4 are answered better with a plan and 4 directly, and "
                f"at least 2 folds; got {len(rows)} questions, {len(better)}, {len(worse)} and {folds} folds"
            )
        chosen = [0.0] * len(rows)
        for train, test in KFold(folds, shuffle=True, random_state=seed).split(list(rows)):
            part = cls._trained([rows[index] for index in train], reads_plan=reads_plan)
            for index in test:
                row = rows[index]
                chosen[index] = row.planned if part.route(row.question, row.plan).strategy == "plan" else row.direct
        trained = cls._trained(rows, reads_plan=reads_plan)
        return cls(weights=trained.weights, bias=trained.bias, reads_plan=reads_plan, report=_report(rows, chosen))

    @classmethod
    def _trained(cls, rows: Sequence[Labelled], *, reads_plan: bool) -> Router:
        import numpy as np
        from sklearn.linear_model import LogisticRegression

        decisive = [row for row in rows if row.planned != row.direct]
        targets = np.array([row.planned > row.direct for row in decisive])
        if len(set(targets.tolist())) < 2:  # one strategy is always better in this fold, so it is always chosen
            return cls(weights={}, bias=4.0 if targets.size and targets[0] else -4.0, reads_plan=reads_plan)
        names, table = _table(decisive, reads_plan=reads_plan)
        gains = np.array([abs(row.planned - row.direct) for row in decisive])
        fitted = LogisticRegression(C=0.5, max_iter=1000).fit(table, targets, sample_weight=gains)
        weights = {name: float(weight) for name, weight in zip(names, fitted.coef_[0], strict=True)}
        return cls(weights=weights, bias=float(fitted.intercept_[0]), reads_plan=reads_plan)

    def route(self, question: str, plan: Plan | None = None) -> Route:
        """Choose a strategy for a question.

        Args:
            question: The question.
            plan: The plan, if the router uses features of the plan.

        Returns:
            The strategy, and the probability that a plan gives the better answer.

        Raises:
            InvalidInputError: If the router needs a plan and there is none.
        """
        if self.reads_plan and plan is None:
            raise InvalidInputError("this router was trained on plans; pass the plan of the question as `plan`")
        features = _features(question, plan if self.reads_plan else None)
        logit = self.bias + sum(self.weights.get(name, 0.0) * value for name, value in features.items())
        probability = 1 / (1 + exp(-max(-50.0, min(50.0, logit))))
        return Route("plan" if probability >= self.threshold else "direct", probability)

    def save(self, path: str | Path) -> None:
        """Save the router as JSON."""
        file = _File(weights=self.weights, bias=self.bias, threshold=self.threshold, reads_plan=self.reads_plan)
        write_atomic(Path(path), with_checksum(file.model_dump_json(indent=1)))

    @classmethod
    def load(cls, path: str | Path) -> Router:
        """Load a router that `save` wrote.

        Returns:
            The router.

        Raises:
            DataFileError: If the file does not contain a router.
        """
        try:
            file = _File.model_validate_json(checked(Path(path).read_bytes()))
        except (OSError, ValueError) as error:
            raise DataFileError(
                Path(path), 0, f"is not a saved router ({error}); pass a file written by Router.save"
            ) from error
        return cls(weights=file.weights, bias=file.bias, threshold=file.threshold, reads_plan=file.reads_plan)


def _features(question: str, plan: Plan | None) -> dict[str, float]:
    return question_features(question) | ({} if plan is None else plan_features(plan))


def _table(rows: Sequence[Labelled], *, reads_plan: bool) -> tuple[list[str], NDArray[np.float64]]:
    import numpy as np

    features = [_features(row.question, row.plan if reads_plan else None) for row in rows]
    names = list(features[0])
    return names, np.array([[each[name] for name in names] for each in features])


def _report(rows: Sequence[Labelled], chosen: Sequence[float]) -> RouterReport:
    from scipy.stats import binomtest

    count = len(rows)
    planned, direct = sum(row.planned for row in rows) / count, sum(row.direct for row in rows) / count
    constant = [row.planned if planned >= direct else row.direct for row in rows]
    wins = sum(mine > other for mine, other in zip(chosen, constant, strict=True))
    losses = sum(mine < other for mine, other in zip(chosen, constant, strict=True))
    return RouterReport(
        questions=count,
        decisive=sum(row.planned != row.direct for row in rows),
        planned=planned,
        direct=direct,
        routed=sum(chosen) / count,
        oracle=sum(max(row.planned, row.direct) for row in rows) / count,
        p_value=float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0,
    )
