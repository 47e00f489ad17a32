"""Tools and tool choices of LangChain, converted to those of ragkit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from langchain_core.utils.function_calling import convert_to_openai_tool

from ragkit.errors import InvalidInputError
from ragkit.models._tools import selected_tools
from ragkit.protocols import LanguageModel
from ragkit.records import Tool


def can_call_tools(model: LanguageModel) -> bool:
    """Return whether a model supports tools, or can be constrained to tool calls."""
    able = model.capabilities
    return able.tools or (able.schema and (able.choices or able.score))


def tools_of(tools: Sequence[Any]) -> tuple[Tool, ...]:
    """Convert tools of any form that LangChain accepts.

    Args:
        tools: Functions, pydantic models, LangChain tools, or schemas of OpenAI or Anthropic.

    Returns:
        The tools.

    Raises:
        InvalidInputError: If a tool cannot be converted, its schema is invalid, or two tools have the same name.
    """
    read = tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools))
    names = [tool.name for tool in read]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(f"`tools` has several tools called {twice[0]!r}; give each tool its own name")
    return read


def _tool(tool: Any, place: str) -> Tool:
    try:
        function = convert_to_openai_tool(tool)["function"]
        name, parameters = function["name"], function.get("parameters") or {"type": "object", "properties": {}}
        Draft202012Validator.check_schema(parameters)
    except SchemaError as error:
        raise InvalidInputError(
            f"`{place}` has parameters that are not a valid JSON schema: {error.message} (at {error.json_path})"
        ) from error
    except Exception as error:  # LangChain raises errors of any type for objects that are not tools
        raise InvalidInputError(
            f"`{place}` cannot be converted to a tool ({type(error).__name__}: {error}); expected a function with type "
            "hints and a docstring, a pydantic model, a LangChain tool, or a dictionary in the format of OpenAI"
        ) from error
    if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
        raise InvalidInputError(f"`{place}` has parameters that are not a JSON schema of the type 'object'")
    return Tool(name, function.get("description") or "", json.dumps(parameters, ensure_ascii=False))


def tool_choice_of(choice: Any, tools: Sequence[Tool]) -> str:
    """Convert the `tool_choice` of any provider to that of a `Chat`, or raise `InvalidInputError`."""
    if isinstance(choice, Mapping):
        function = choice.get("function")
        choice = function.get("name") if isinstance(function, Mapping) else choice.get("name") or choice.get("type")
    named = {None: "auto", "any": "required", True: "required", False: "none"}
    read = str(named[choice] if choice is None or isinstance(choice, bool) else named.get(choice, choice))
    selected_tools(tools, read)
    return read
