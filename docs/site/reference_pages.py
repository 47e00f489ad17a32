"""Generate the API reference: every public name, on the page of its topic, from its docstring."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import ragkit

# Topics, and the packages whose names (`__all__`) are public and belong to them.
TOPICS = {
    "records": ("Records, tasks and templates", ("ragkit.records", "ragkit.tasks", "ragkit.templates")),
    "answers": ("Answers and metrics", ("ragkit.answers", "ragkit.metrics")),
    "embedders": ("Embedders", ("ragkit.embedders",)),
    "vector-index": ("The vector index", ("ragkit.index", "ragkit.where")),
    "ingest": ("Reading documents", ("ragkit.ingest",)),
    "retrievers": ("Retrievers and their evaluation", ("ragkit.retrievers", "ragkit.evaluation")),
    "models": ("Models", ("ragkit.models", "ragkit.telemetry")),
    "finetuning": ("Fine-tuning", ("ragkit.finetuning",)),
    "retriever-training": ("Training retrievers", ("ragkit.retriever_training",)),
    "workers": ("Workers", ("ragkit.workers",)),
    "selectors": ("Example selectors and stages", ("ragkit.selectors",)),
    "pearl": ("PEARL", ("ragkit.pearl",)),
    "pipelines": ("Pipelines", ("ragkit.pipelines",)),
    "comparison": ("Comparison and advice", ("ragkit.comparison", "ragkit.tiny.domains")),
    "serving": ("Serving", ("ragkit.serving",)),
    "langchain": ("LangChain", ("ragkit.langchain",)),
    "registry": ("The registry of components", ("ragkit.registry",)),
}

# Classes that are documented with the members of their base classes, which are not public.
WITH_BASES = ("ragkit.Index", "ragkit.index.ShardedIndex")

# Modules that are documented completely.
WHOLE = {
    "errors": ("Errors and warnings", "ragkit.errors"),
    "protocols": ("Protocols", "ragkit.protocols"),
    "testing": ("Contract suites", "ragkit.testing"),
}


@cache
def pages() -> dict[str, str]:
    """Return the Markdown of each page by its path in docs/."""
    made = {}
    for topic, (title, packages) in TOPICS.items():
        paths = {path_of(package, name) for package in packages for name in import_module(package).__all__}
        by_name = sorted(paths, key=lambda path: path.rpartition(".")[2])
        made[f"reference/{topic}.md"] = "\n\n".join([f"# {title}", *map(_entry, by_name)])
    for topic, (title, module) in WHOLE.items():
        made[f"reference/{topic}.md"] = f"# {title}\n\n::: {module}"
    return made


def _entry(path: str) -> str:
    options = "\n    options:\n      inherited_members: true" if path in WITH_BASES else ""
    return f"::: {path}{options}"


def path_of(package: str, name: str) -> str:
    """Return the path from which a name should be imported: `ragkit` if it is exported there."""
    exported = name in ragkit.__all__ and getattr(ragkit, name) is getattr(import_module(package), name)
    return f"ragkit.{name}" if exported else f"{package}.{name}"
