"""Plans drawn for Mermaid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit_pipelines.pearl.plan.plan import Plan

_LONGEST = 90  # characters of a call that are shown


def mermaid(plan: Plan, notes: Mapping[str, str] | None = None, classes: Mapping[str, str] | None = None) -> str:
    """Draw a plan: the document, the steps, and the answer that their unused values make.

    Args:
        plan: The plan.
        notes: A further line for some steps, by name.
        classes: A style for some steps, by name: ``"done"``, ``"failed"`` or ``"skipped"``.

    Returns:
        A flowchart for Mermaid. Texts of the plan are escaped, so that they cannot change the drawing.
    """
    place = {step.out: number for number, step in enumerate(plan.steps, 1)}
    lines = ["flowchart TD", '  document[("document")]']
    for step in plan.steps:
        call = step.call if len(step.call) <= _LONGEST else step.call[: _LONGEST - 1] + "…"
        rows = [f"{place[step.out]}. {step.out}", call, *([notes[step.out]] if notes and step.out in notes else [])]
        node = f"s{place[step.out]}"
        style = f":::{classes[step.out]}" if classes and step.out in classes else ""
        lines.append(f'  {node}["{"<br/>".join(map(_escaped, rows))}"]{style}')
        if step.reads_document:
            lines.append(f"  document -.-> {node}")
        lines += [f"  s{place[name]} --> {node}" for name in step.reads]
    lines += [f"  s{place[step.out]} --> answer((answer))" for step in plan.sinks]
    if classes:
        lines += [
            "  classDef done fill:#e8f5e9,stroke:#2e7d32",
            "  classDef failed fill:#ffebee,stroke:#c62828",
            "  classDef skipped fill:#f5f5f5,stroke:#757575,stroke-dasharray:4",
        ]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """A text in which Mermaid sees nothing but letters: what it might read is written by its number."""
    return "".join(letter if letter.isalnum() or letter in " _.,:()=-…" else f"#{ord(letter)};" for letter in text)
