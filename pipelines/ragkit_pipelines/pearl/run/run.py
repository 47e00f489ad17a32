"""The result of a question: the answer, each step with its inputs and its usage, and an explanation of both."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ragkit._tuples import restore_tuples
from ragkit.errors import UnknownSpecError
from ragkit.records import Diagnostic, Usage
from ragkit_pipelines.pearl.plan.mermaid import mermaid
from ragkit_pipelines.pearl.plan.nodes import Step
from ragkit_pipelines.pearl.plan.plan import Plan
from ragkit_pipelines.pearl.run.passages import Passage

Form = Literal["text", "mermaid", "html"]
_CONTROLS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]")
_EXCERPT = 200  # characters of a value in the text form


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """The result of one step.

    Attributes:
        step: The step.
        status: ``"done"``, ``"failed"``, or ``"skipped"`` if a value that it needs is missing.
        value: The value, exactly as the model wrote it; empty unless the step is done.
        reason: Why the step is not done, or that its value was truncated.
        passages: Passages of the document that only this step read.
        local: Whether the step was computed without a model.
        usage: Tokens of its calls.
        seconds: Sum of the durations of its calls.
        reused: Whether all its responses came from the trace.
        keys: Keys of its calls in the trace.
    """

    step: Step
    status: Literal["done", "failed", "skipped"]
    value: str = ""
    reason: str = ""
    passages: tuple[Passage, ...] = ()
    local: bool = False
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    reused: bool = False
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        restore_tuples(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """The origin of a plan.

    Attributes:
        source: ``"planner"``, ``"given"``, ``"fallback"`` if no plan was accepted, or ``"router"`` if the router chose
            a direct answer.
        reason: Why the plan was not written by the planner.
        rejected: The rejected texts, each with its diagnostics.
    """

    source: Literal["planner", "given", "fallback", "router"] = "given"
    reason: str = ""
    rejected: tuple[tuple[str, tuple[Diagnostic, ...]], ...] = ()

    def __post_init__(self) -> None:
        restore_tuples(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The result of a question.

    Attributes:
        question: The question.
        answer: The answer, exactly as the steps wrote it; incomplete if the run is not done.
        status: ``"done"``, ``"partial"`` if a step failed, ``"failed"`` if there is no answer, or ``"cancelled"``.
        plan: The plan; None if no plan was accepted.
        planning: The origin of the plan.
        steps: The results of the steps, in the order of the plan.
        reasons: The reasons for failures and truncated values.
        usage: Tokens of all calls, including those reused from a trace.
        cost: Cost in US dollars; None if a price is unknown.
        seconds: Elapsed time.
        model_seconds: Sum of the durations of all calls, including those reused from a trace.
        calls: Number of model calls made, including failed calls and calls that warm the prompt cache. Prompts that are
            too long for the model are not sent and do not count.
        failed_calls: Number of these calls without a response, which the trace does not contain.
        reused: Number of calls whose response came from a trace.
        by_purpose: Number of calls made for each purpose.
    """

    question: str
    answer: str
    status: Literal["done", "partial", "failed", "cancelled"]
    plan: Plan | None
    planning: Planning = field(default_factory=Planning)
    steps: tuple[StepRun, ...] = ()
    reasons: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    seconds: float = 0.0
    model_seconds: float = 0.0
    calls: int = 0
    failed_calls: int = 0
    reused: int = 0
    by_purpose: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        restore_tuples(self)

    @property
    def text(self) -> str:
        """The answer without surrounding white space."""
        return self.answer.strip()

    @property
    def values(self) -> dict[str, str]:
        """The values of the steps that are done, by name."""
        return {each.step.out: each.value for each in self.steps if each.status == "done"}

    def explain(self, form: Form = "text") -> str:
        """Show each step with its inputs, its value and its usage.

        Args:
            form: ``"text"``, ``"mermaid"`` or ``"html"`` (a complete page).

        Returns:
            Text in that form.

        Raises:
            UnknownSpecError: If the form is unknown.
        """
        if form not in _FORMS:
            raise UnknownSpecError("form", form, _FORMS)
        return _FORMS[form](self)


def _usage(step: StepRun) -> str:
    if step.local:
        return "no model"
    return f"{_tokens(step.usage)}, {step.seconds:.1f} s{', from the trace' * step.reused}"


def _tokens(usage: Usage) -> str:
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    return f"{usage.prompt_tokens:,} prompt tokens{cached}, {usage.completion_tokens:,} completion tokens"


def _summary(run: Run) -> str:
    calls = f"{run.calls} call{'s' * (run.calls != 1)}"
    calls += f" ({run.failed_calls} failed)" if run.failed_calls else ""
    reused = f", {run.reused} from the trace" if run.reused else ""
    cost = "cost unknown" if run.cost is None else f"${run.cost:.4f}"
    status = str(run.status)
    if run.planning.source == "fallback":
        count = len(run.planning.rejected)
        status += f" without a plan ({count} plan{'s' * (count != 1)} rejected)"
    return f"{status}: {calls}{reused}, {_tokens(run.usage)}, {cost}, {run.seconds:.1f} s"


def _inputs(step: StepRun) -> list[str]:
    """List the inputs of a step, one per line."""
    lines = []
    if step.step.reads:
        lines.append("reads " + ", ".join(step.step.reads))
    if step.step.reads_document:
        spans = [passage.span for passage in step.passages if passage.span]
        where = ", ".join(f"{start}–{end}" for start, end in spans)
        lines.append(f"reads the document{f' at characters {where}' if where else ''}")
    return lines


def _as_text(run: Run) -> str:
    """List the steps for a terminal, on which control characters of a document or a model must have no effect."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", _lines(run))


def _lines(run: Run) -> str:
    lines = [f"Question: {run.question}", _summary(run), f"plan: {run.planning.source}"]
    if run.planning.reason:
        lines[-1] += f" ({run.planning.reason})"
    lines += [f"! {reason}" for reason in run.reasons]
    for number, step in enumerate(run.steps, 1):
        lines.append(f"{number}. {step.step.out} = {step.step.call} : {step.step.note}")
        lines += [f"   {each}" for each in _inputs(step)]
        if step.status == "done":
            value = " ".join(step.value.split())
            lines.append(f"   {_usage(step)}")
            lines.append(f"   = {value if len(value) <= _EXCERPT else value[:_EXCERPT] + '…'}")
        else:
            lines.append(f"   {step.status}: {step.reason}")
    return "\n".join([*lines, "", f"Answer: {run.text}"])


def _as_mermaid(run: Run) -> str:
    if run.plan is None:
        return 'flowchart TD\n  none["no plan"]'
    notes = {each.step.out: each.status if each.status != "done" else _usage(each) for each in run.steps}
    return mermaid(run.plan.steps, notes, {each.step.out: each.status for each in run.steps})


def _as_html(run: Run) -> str:
    rows = []
    for number, each in enumerate(run.steps, 1):
        value = each.value if each.status == "done" else each.reason
        spans = "".join(f"<blockquote>{html.escape(passage.text)}</blockquote>" for passage in each.passages)
        cells = [
            str(number),
            f"<b>{html.escape(each.step.out)}</b><br><code>{html.escape(each.step.call)}</code>",
            html.escape("; ".join(_inputs(each))) + spans,
            each.status,
            html.escape(_usage(each)) if each.status == "done" else "",
            f"<pre>{html.escape(value)}</pre>",
        ]
        rows.append(f'<tr class="{each.status}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in (*run.reasons, run.planning.reason) if reason)
    head = "".join(f"<th>{name}</th>" for name in ("", "step", "inputs", "status", "usage", "value"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>PEARL run</title><style>'
        "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;width:100%}td,th{border:1px solid #ddd;padding:.4rem;vertical-align:top;"
        "text-align:left}pre{white-space:pre-wrap;margin:0}tr.failed{background:#ffebee}tr.skipped{background:#f5f5f5}"
        "blockquote{margin:.4rem 0;padding-left:.6rem;border-left:3px solid #ccc;color:#555}</style></head><body>"
        f"<h1>{html.escape(run.question)}</h1><p>{html.escape(_summary(run))}</p><ul>{reasons}</ul>"
        f"<h2>Answer</h2><pre>{html.escape(run.text)}</pre>"
        f"<h2>Steps</h2><table><tr>{head}</tr>{''.join(rows)}</table>"
        f"<h2>Graph (Mermaid)</h2><pre>{html.escape(_as_mermaid(run))}</pre></body></html>"
    )


_FORMS: dict[str, Callable[[Run], str]] = {"text": _as_text, "mermaid": _as_mermaid, "html": _as_html}
