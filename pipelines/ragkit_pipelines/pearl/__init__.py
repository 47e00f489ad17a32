"""PEARL: plans of typed steps over a long document (Sun et al., EACL 2024), made by a model and run in parallel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import lazy_names

if TYPE_CHECKING:
    from ragkit.models._concurrency import Cancellation as Cancellation
    from ragkit_pipelines.pearl.pipeline import Pearl as Pearl
    from ragkit_pipelines.pearl.plan.action import Action as Action
    from ragkit_pipelines.pearl.plan.library import ActionLibrary as ActionLibrary
    from ragkit_pipelines.pearl.plan.plan import Plan as Plan
    from ragkit_pipelines.pearl.plan.planner import PromptPlanner as PromptPlanner
    from ragkit_pipelines.pearl.plan.planner import ZeroShot as ZeroShot
    from ragkit_pipelines.pearl.router import Router as Router
    from ragkit_pipelines.pearl.run.context import WholeText as WholeText
    from ragkit_pipelines.pearl.run.context import Windows as Windows
    from ragkit_pipelines.pearl.run.estimate import Estimate as Estimate
    from ragkit_pipelines.pearl.run.executor import PlanExecutor as PlanExecutor
    from ragkit_pipelines.pearl.run.option_mapper import OptionMapper as OptionMapper
    from ragkit_pipelines.pearl.run.retrieval_contexts import GistPages as GistPages
    from ragkit_pipelines.pearl.run.retrieval_contexts import Retrieved as Retrieved
    from ragkit_pipelines.pearl.run.run import Run as Run
    from ragkit_pipelines.pearl.run.trace import Trace as Trace

_HOME_OF = {
    "Action": "plan.action",
    "ActionLibrary": "plan.library",
    "Cancellation": "run.calls",
    "Estimate": "run.estimate",
    "GistPages": "run.retrieval_contexts",
    "OptionMapper": "run.option_mapper",
    "Pearl": "pipeline",
    "Plan": "plan.plan",
    "PlanExecutor": "run.executor",
    "PromptPlanner": "plan.planner",
    "Retrieved": "run.retrieval_contexts",
    "Router": "router",
    "Run": "run.run",
    "Trace": "run.trace",
    "WholeText": "run.context",
    "Windows": "run.context",
    "ZeroShot": "plan.planner",
}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
