"""Drawing the graph of a plan with Mermaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ragkit_pipelines.pearl.plan.nodes import Step, sinks_of

_LONGEST = 90  # maximum number of characters of a call in the drawing


def mermaid(
    steps: Sequence[Step], notes: Mapping[str, str] | None = None, classes: Mapping[str, str] | None = None
) -> str:
    """Draw the document, the steps, and the answer that consists of their unused values."""
    numbers = {step.out: number for number, step in enumerate(steps, 1)}
    lines = ["flowchart TD", '  document[("document")]']
    for step in steps:
        call = step.call if len(step.call) <= _LONGEST else step.call[: _LONGEST - 1] + "…"
        rows = [f"{numbers[step.out]}. {step.out}", call, *([notes[step.out]] if notes and step.out in notes else [])]
        node = f"s{numbers[step.out]}"
        style = f":::{classes[step.out]}" if classes and step.out in classes else ""
        lines.append(f'  {node}["{"<br/>".join(map(_escaped, rows))}"]{style}')
        if step.reads_document:
            lines.append(f"  document -.-> {node}")
        lines += [f"  s{numbers[name]} --> {node}" for name in step.reads]
    lines += [f"  s{numbers[step.out]} --> answer((answer))" for step in sinks_of(steps)]
    if classes:
        lines += [
            "  classDef done fill:#e8f5e9,stroke:#2e7d32",
            "  classDef failed fill:#ffebee,stroke:#c62828",
            "  classDef skipped fill:#f5f5f5,stroke:#757575,stroke-dasharray:4",
        ]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Escape a text: every character that Mermaid could interpret is written by its number."""
    return "".join(letter if letter.isalnum() or letter in " _.,:()=-…" else f"#{ord(letter)};" for letter in text)
