"""MkDocs hooks that add generated pages: commands, components, reference, plots, CONTRIBUTING and CHANGELOG."""

from __future__ import annotations

import re
from pathlib import Path

import command_pages  # MkDocs imports modules from the folder of its hooks
import component_pages
import plots
import reference_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
_PLOT = re.compile(r"<!-- plot: ([a-z0-9-]+) -->")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated pages to the navigation, before the decisions."""
    decisions = config.nav.pop()
    config.nav += [
        {"Commands": list(command_pages.pages())},
        {"Reference": ["components.md", *reference_pages.pages()]},
        {**decisions, "Decisions": ["decisions/README.md", *_decisions()]},
        {"Project": ["contributing.md", "changes.md"]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and plots that are generated from the code and from the committed results."""
    made: dict[str, str | bytes] = {**command_pages.pages(), **reference_pages.pages()}
    made |= {f"plots/{name}.svg": plots.svg(name) for name in plots.PLOTS}
    made["components.md"] = component_pages.page()
    made["contributing.md"] = _moved("CONTRIBUTING.md")
    made["changes.md"] = _moved("CHANGELOG.md")
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - MkDocs passes them by name
    """Insert the plots that a page requests, and replace links to committed results with their names."""
    shown = _PLOT.sub(lambda found: f"![{plots.PLOTS[found[1]].title}](plots/{found[1]}.svg)", markdown)
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", shown)


def _decisions() -> list[str]:
    return [f"decisions/{path.name}" for path in sorted((ROOT / "docs" / "decisions").glob("0*.md"))]


def _moved(name: str) -> str:
    """Return a page of the root folder with its links adapted to docs/."""
    text = (
        (ROOT / name)
        .read_text(encoding="utf-8")
        .replace("](docs/", "](")
        .replace("](CONTRIBUTING.md", "](contributing.md")
    )
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#|[a-z-]+\.md|decisions/)[^)]+\)", r"\1", text)
