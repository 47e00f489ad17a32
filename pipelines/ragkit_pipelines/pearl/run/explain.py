"""Runs shown to a reader: as text, as a graph for Mermaid, or as a page of HTML."""

from __future__ import annotations

import html
from collections.abc import Callable

from ragkit.errors import UnknownSpecError
from ragkit_pipelines.pearl.plan.mermaid import mermaid
from ragkit_pipelines.pearl.run.run import Run, StepRun

_SHORT = 200  # characters of a value that text shows


def explain(run: Run, form: str) -> str:
    """Show a run.

    Returns:
        Text in the form asked for.

    Raises:
        UnknownSpecError: If the form is not known.
    """
    if form not in _FORMS:
        raise UnknownSpecError("form", form, _FORMS)
    return _FORMS[form](run)


def _took(step: StepRun) -> str:
    if step.local:
        return "no model"
    usage = step.usage
    words = f"{usage.prompt_tokens:,} tokens read"
    if usage.cached_tokens:
        words += f" ({usage.cached_tokens:,} from the cache)"
    return f"{words}, {usage.completion_tokens:,} written, {step.seconds:.1f} s{', from the trace' * step.reused}"


def _summary(run: Run) -> str:
    calls = f"{run.calls} call{'s' * (run.calls != 1)}"
    reused = f", {run.reused} from the trace" if run.reused else ""
    tokens = f"{run.usage.prompt_tokens:,} tokens read ({run.usage.cached_tokens:,} from the cache)"
    cost = "cost not known" if run.cost is None else f"${run.cost:.4f}"
    return (
        f"{run.status}: {calls}{reused}, {tokens}, {run.usage.completion_tokens:,} written, {cost}, {run.seconds:.1f} s"
    )


def _shown(step: StepRun) -> list[str]:
    """What a step read, as lines."""
    lines = []
    if step.step.reads:
        lines.append("reads " + ", ".join(step.step.reads))
    if step.step.reads_document:
        spans = [passage.span for passage in step.passages if passage.span]
        where = ", ".join(f"{start}–{end}" for start, end in spans)
        lines.append(f"reads the document{f' at characters {where}' if where else ''}")
    return lines


def _as_text(run: Run) -> str:
    lines = [f"Question: {run.question}", _summary(run), f"plan: {run.planning.source}"]
    if run.planning.reason:
        lines[-1] += f" ({run.planning.reason})"
    lines += [f"! {reason}" for reason in run.reasons]
    for number, step in enumerate(run.steps, 1):
        lines.append(f"{number}. {step.step.out} = {step.step.call} : {step.step.note}")
        lines += [f"   {each}" for each in _shown(step)]
        if step.status == "done":
            value = " ".join(step.value.split())
            lines.append(f"   {_took(step)}")
            lines.append(f"   = {value if len(value) <= _SHORT else value[:_SHORT] + '…'}")
        else:
            lines.append(f"   {step.status}: {step.reason}")
    return "\n".join([*lines, "", f"Answer: {run.text}"])


def _as_mermaid(run: Run) -> str:
    if run.plan is None:
        return 'flowchart TD\n  none["no plan"]'
    notes = {each.step.out: each.status if each.status != "done" else _took(each) for each in run.steps}
    return mermaid(run.plan, notes, {each.step.out: each.status for each in run.steps})


def _as_html(run: Run) -> str:
    rows = []
    for number, each in enumerate(run.steps, 1):
        value = each.value if each.status == "done" else each.reason
        spans = "".join(f"<blockquote>{html.escape(passage.text)}</blockquote>" for passage in each.passages)
        cells = [
            str(number),
            f"<b>{html.escape(each.step.out)}</b><br><code>{html.escape(each.step.call)}</code>",
            html.escape("; ".join(_shown(each))) + spans,
            each.status,
            html.escape(_took(each)) if each.status == "done" else "",
            f"<pre>{html.escape(value)}</pre>",
        ]
        rows.append(f'<tr class="{each.status}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in (*run.reasons, run.planning.reason) if reason)
    head = "".join(f"<th>{name}</th>" for name in ("", "step", "reads", "status", "took", "value"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A plan, run</title><style>'
        "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;width:100%}td,th{border:1px solid #ddd;padding:.4rem;vertical-align:top;"
        "text-align:left}pre{white-space:pre-wrap;margin:0}tr.failed{background:#ffebee}tr.skipped{background:#f5f5f5}"
        "blockquote{margin:.4rem 0;padding-left:.6rem;border-left:3px solid #ccc;color:#555}</style></head><body>"
        f"<h1>{html.escape(run.question)}</h1><p>{html.escape(_summary(run))}</p><ul>{reasons}</ul>"
        f"<h2>Answer</h2><pre>{html.escape(run.text)}</pre>"
        f"<h2>Steps</h2><table><tr>{head}</tr>{''.join(rows)}</table>"
        f"<h2>Graph, for Mermaid</h2><pre>{html.escape(_as_mermaid(run))}</pre></body></html>"
    )


_FORMS: dict[str, Callable[[Run], str]] = {"text": _as_text, "mermaid": _as_mermaid, "html": _as_html}
