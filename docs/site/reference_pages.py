"""Generate the API reference: every public name, on the page of its topic, from its docstring."""

from __future__ import annotations

from functools import cache

import ragkit.langchain

# Topics, and the modules whose names belong to them; the first matching prefix applies.
_TOPICS = {
    "records": (
        "Records, tasks and templates",
        ("ragkit.records", "ragkit.tasks", "ragkit.templates", "ragkit.options"),
    ),
    "errors": ("Errors and warnings", ("ragkit.errors",)),
    "embedders": ("Embedders", ("ragkit.embedders",)),
    "vector-index": ("The vector index", ("ragkit.index",)),
    "ingest": ("Reading documents", ("ragkit.ingest",)),
    "retrievers": ("Retrievers and their evaluation", ("ragkit.retrievers", "ragkit.evaluation")),
    "models": ("Models", ("ragkit.models",)),
    "finetuning": ("Fine-tuning", ("ragkit.finetuning",)),
    "retriever-training": ("Training retrievers", ("ragkit.retriever_training",)),
    "workers": ("Workers", ("ragkit.workers",)),
    "selectors": ("Example selectors and stages", ("ragkit_selectors",)),
    "pearl": ("PEARL", ("ragkit_pipelines.pearl",)),
    "pipelines": (
        "Pipelines",
        (
            "ragkit_pipelines.few_shot",
            "ragkit_pipelines.rag",
            "ragkit_pipelines.extraction",
            "ragkit_pipelines.serving",
        ),
    ),
    "comparison": ("Comparison and advice", ("ragkit_pipelines",)),
}

# Modules that are documented completely, in addition to the names that ragkit exports.
_WHOLE = {
    "protocols": ("Protocols", "ragkit.protocols"),
    "testing": ("Contract suites", "ragkit.testing"),
}


@cache
def pages() -> dict[str, str]:
    """Return the Markdown of each page by its path in docs/."""
    names: dict[str, list[str]] = {topic: [] for topic in _TOPICS}
    for name, home in sorted(ragkit._HOME_OF.items()):
        names[_topic_of(home)].append(f"::: {home}.{name}")
    made = {}
    for topic, (title, _) in _TOPICS.items():
        shown = ["::: ragkit.errors"] if topic == "errors" else names[topic]
        made[f"reference/{topic}.md"] = "\n\n".join([f"# {title}", *shown])
    for topic, (title, module) in _WHOLE.items():
        made[f"reference/{topic}.md"] = f"# {title}\n\n::: {module}"
    adapters = [f"::: {home}.{name}" for name, home in sorted(ragkit.langchain._HOME_OF.items())]
    made["reference/langchain.md"] = "\n\n".join(["# LangChain", *adapters])
    return made


def _topic_of(home: str) -> str:
    for topic, (_, prefixes) in _TOPICS.items():
        if home.startswith(prefixes):
            return topic
    raise LookupError(f"no topic of the reference takes {home}; add it to docs/site/reference_pages.py")
