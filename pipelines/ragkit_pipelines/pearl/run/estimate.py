"""Estimating the calls, tokens and cost of a plan before it runs."""

from __future__ import annotations

from dataclasses import dataclass

from ragkit.models._results import price_of
from ragkit.protocols import LanguageModel
from ragkit.records import Usage
from ragkit_pipelines.pearl.plan.builtins import is_local
from ragkit_pipelines.pearl.plan.nodes import Ctx, Step, Text, Variable
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.prompts import prefix, step_prompt
from ragkit_pipelines.pearl.run.context import Sizes, View

VALUE_TOKENS = 150  # mean length of a value over 3,893 recorded steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The expected calls, tokens and cost of a plan, without retries.

    Attributes:
        calls: Number of model calls, including those that warm the prompt cache.
        critical_path: Number of model calls that must run sequentially.
        prompt_tokens: Prompt tokens, if values have average length.
        cached_tokens: Number of prompt tokens that a prompt cache can provide, if the model has one.
        completion_tokens: Completion tokens, if values have average length.
        max_total_tokens: Upper limit of prompt and completion tokens, if every value has the maximum length.
        cost: Cost in US dollars for average values; None if the price is unknown.
    """

    calls: int
    critical_path: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    max_total_tokens: int
    cost: float | None


def estimate(
    plan: Plan,
    view: View | None,
    model: LanguageModel,
    *,
    max_tokens: int,
    warm_tokens: int | None,
) -> Estimate:
    """Estimate calls and tokens; see `Pearl.estimate`."""
    sizes = view.sizes() if view is not None else Sizes(shared=(0,))
    rules = model.count_tokens(prefix(""))
    calls, read, cached, most, written = sizes.once, sizes.once_tokens, 0, sizes.once_tokens, 0
    seen = False  # whether the shared prefix was sent before
    for step in plan.steps:
        if is_local(step.action):
            continue
        shared = sizes.shared if step.reads_document else (0,)
        before = sizes.before if step.reads_document else 0
        own = sizes.own if step.reads_document else 0
        words, values = _own_tokens(step, model)
        merging = len(shared) > 1
        made = len(shared) + merging + before
        calls += made
        fixed = sum(shared) + shared[0] * before + len(shared) * (rules + words + own) + merging * (rules + words)
        parts = len(shared) * merging
        read += fixed + (len(shared) * values + merging * values + parts) * VALUE_TOKENS
        most += fixed + (len(shared) * values + merging * values + parts) * max_tokens + made * max_tokens
        written += made * VALUE_TOKENS
        if step.reads_document:
            cached += sum(size + rules for size in shared if size) if seen else 0
            seen = True
    # The first wave is cold: a prefix that several of its calls share is sent once before them.
    together = sum(step.reads_document and not is_local(step.action) for step in plan.waves[0]) > 1
    for size in sizes.shared if together else ():
        if size and warm_tokens is not None and size + rules >= warm_tokens:
            calls, read, most = calls + 1, read + size + rules, most + size + rules + 1
            cached += size + rules
    usage = Usage(prompt_tokens=read, cached_tokens=cached, completion_tokens=written)
    return Estimate(
        calls=calls,
        critical_path=plan.critical_path,
        prompt_tokens=read,
        cached_tokens=cached,
        completion_tokens=written,
        max_total_tokens=most,
        cost=price_of(model, usage),
    )


def _own_tokens(step: Step, model: LanguageModel) -> tuple[int, int]:
    """Count the tokens of a step's own part of the prompt, and the values of earlier steps that it uses."""
    texts = {
        step.action.parameter(at): argument.value if isinstance(argument, Text) else ""
        for at, argument in enumerate(step.arguments)
        if not isinstance(argument, Ctx | Variable)
    }
    suffix = step_prompt(step, texts, shared="").suffix
    return model.count_tokens(suffix), len(step.reads)
