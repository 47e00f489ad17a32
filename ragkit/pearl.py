"""PEARL plans, their execution, and mining of actions: ``from ragkit.pearl import PlanExecutor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import names_of

if TYPE_CHECKING:
    from ragkit_pipelines.pearl import Action as Action
    from ragkit_pipelines.pearl import ActionLibrary as ActionLibrary
    from ragkit_pipelines.pearl import Cancellation as Cancellation
    from ragkit_pipelines.pearl import Estimate as Estimate
    from ragkit_pipelines.pearl import GistPages as GistPages
    from ragkit_pipelines.pearl import OptionMapper as OptionMapper
    from ragkit_pipelines.pearl import Pearl as Pearl
    from ragkit_pipelines.pearl import Plan as Plan
    from ragkit_pipelines.pearl import PlanExecutor as PlanExecutor
    from ragkit_pipelines.pearl import PromptPlanner as PromptPlanner
    from ragkit_pipelines.pearl import Retrieved as Retrieved
    from ragkit_pipelines.pearl import Router as Router
    from ragkit_pipelines.pearl import Run as Run
    from ragkit_pipelines.pearl import Trace as Trace
    from ragkit_pipelines.pearl import WholeText as WholeText
    from ragkit_pipelines.pearl import Windows as Windows
    from ragkit_pipelines.pearl import ZeroShot as ZeroShot
    from ragkit_pipelines.pearl.mine import Mined as Mined
    from ragkit_pipelines.pearl.mine import Refined as Refined
    from ragkit_pipelines.pearl.mine import mine as mine
    from ragkit_pipelines.pearl.mine import refine as refine

__getattr__, __dir__ = names_of("ragkit_pipelines.pearl", "ragkit_pipelines.pearl.mine")
