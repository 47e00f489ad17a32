"""What a plan will take, before it runs."""

from __future__ import annotations

from ragkit.models.results import price_of
from ragkit.protocols import LanguageModel
from ragkit.records import Usage
from ragkit_pipelines.pearl.plan.builtins import is_local
from ragkit_pipelines.pearl.plan.plan import Ctx, Plan, Step, Text, Variable
from ragkit_pipelines.pearl.prompts import prefix, step_prompt
from ragkit_pipelines.pearl.run.context import Sizes, View
from ragkit_pipelines.pearl.run.run import Estimate

VALUE_TOKENS = 150  # what a step wrote on average over 3,893 recorded steps


def estimate(
    plan: Plan,
    view: View | None,
    model: LanguageModel,
    *,
    max_tokens: int,
    warm_tokens: int | None,
) -> Estimate:
    """Count calls and tokens; see `Pearl.estimate`.

    Returns:
        The estimate.
    """
    sizes = view.sizes() if view is not None else Sizes(shared=(0,))
    rules = model.count_tokens(prefix(""))
    calls, read, cached, most, written = sizes.once, sizes.once_tokens, 0, sizes.once_tokens, 0
    seen = False  # whether the shared beginning was sent before
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
    # The first wave is cold: what two or more of its calls share is sent once before them.
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
        most_tokens=most,
        cost=price_of(model, usage),
    )


def _own_tokens(step: Step, model: LanguageModel) -> tuple[int, int]:
    """Tokens of a step's own words, and how many values of earlier steps it takes."""
    texts = {
        step.action.parameter(at): argument.value if isinstance(argument, Text) else ""
        for at, argument in enumerate(step.arguments)
        if not isinstance(argument, Ctx | Variable)
    }
    suffix = step_prompt(step, texts, shared="").suffix
    return model.count_tokens(suffix), len(step.reads)
