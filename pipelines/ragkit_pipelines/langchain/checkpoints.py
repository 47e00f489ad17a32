"""The classes of ragkit's results, for the serializers of LangGraph's checkpoints."""

from __future__ import annotations

from importlib import import_module

_RESULTS = {
    "ragkit.records": (
        "Chat", "Completion", "Diagnostic", "Document", "Example", "Hit", "Message", "Prompt", "Selection", "Tool",
        "ToolCall", "Usage",
    ),
    "ragkit_pipelines.extraction": ("Extracted", "Extraction", "Failure"),
    "ragkit_pipelines.few_shot": ("Answer",),
    "ragkit_pipelines.pearl.plan.action": ("Action",),
    "ragkit_pipelines.pearl.plan.plan": ("Ctx", "Plan", "Step", "Text", "TextList", "Variable"),
    "ragkit_pipelines.pearl.run.passages": ("Passage",),
    "ragkit_pipelines.pearl.run.run": ("Planning", "Run", "StepRun"),
    "ragkit_pipelines.rag": ("Citation", "CitedAnswer"),
}  # fmt: skip


def checkpoint_types() -> list[type]:
    """Return the classes of ragkit's results, which a checkpoint of LangGraph may contain.

    With LangGraph's strict setting, checkpoints contain only classes that the serializer allows:
    ``JsonPlusSerializer(allowed_msgpack_modules=checkpoint_types())``.

    Returns:
        The classes. The classes of your own values in them, such as `Completion.parsed`, must be added.

    Examples:
        >>> sorted(each.__name__ for each in checkpoint_types())[:4]
        ['Action', 'Answer', 'Chat', 'Citation']
    """
    return [getattr(import_module(module), name) for module, names in _RESULTS.items() for name in names]
