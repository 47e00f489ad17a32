"""Structured output of the chat model."""

from __future__ import annotations

import json
from operator import itemgetter
from typing import Any, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1

_INSTRUCTION = "Answer only with one JSON object that matches this JSON schema:\n"


def structured(
    model: BaseChatModel, schema: dict[str, Any] | type, *, constrained: bool, include_raw: bool
) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
    """Return a runnable whose output matches a schema.

    Args:
        model: A chat model with the arguments ``schema`` and ``keep_invalid``.
        schema: A pydantic model, a ``TypedDict`` or a JSON schema.
        constrained: Whether the model can be constrained to the schema; otherwise the prompt contains it.
        include_raw: Whether to return a mapping with ``raw``, ``parsed`` and ``parsing_error`` instead of raising.

    Returns:
        The runnable.
    """
    shape = convert_to_json_schema(schema)
    traced = {"kwargs": {"method": "json_schema"}, "schema": shape}
    options: dict[str, Any] = {"schema": shape} if constrained else {}
    if include_raw:
        options["keep_invalid"] = True
    chain: Any = model.bind(ls_structured_output_format=traced, **options)
    if not constrained:
        words = _INSTRUCTION + json.dumps(shape, ensure_ascii=False)
        chain = RunnableLambda(lambda given: [*_messages(given), HumanMessage(content=words)]) | chain
    parser: Any = JsonOutputParser()
    if isinstance(schema, type) and issubclass(schema, BaseModel | BaseModelV1):
        parser = PydanticOutputParser(pydantic_object=schema)
    if include_raw:
        read: Any = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
        unread: Any = RunnablePassthrough.assign(parsed=lambda _: None)
        parser = read.with_fallbacks([unread], exception_key="parsing_error")
        chain = RunnableMap({"raw": chain})
    return cast("Runnable[LanguageModelInput, dict[str, Any] | BaseModel]", chain | parser)


def _messages(given: LanguageModelInput) -> list[BaseMessage]:
    if isinstance(given, PromptValue):
        return given.to_messages()
    if isinstance(given, str):
        return [HumanMessage(content=given)]
    return convert_to_messages(given)
