"""Batches that are one call: LangChain's own way is a call an input, in threads."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_config_list
from typing_extensions import override

T = TypeVar("T")
_TRACED = {"ls_structured_output_format"}  # what a call is given for callbacks alone


def configs_of(config: RunnableConfig | list[RunnableConfig] | None, count: int) -> list[RunnableConfig]:
    """A config for each input."""
    return get_config_list(config, count) if count else []


def results_or_raise(results: Sequence[T | Exception], *, return_exceptions: bool) -> list[T]:
    """Results, errors in their places only where they are wanted there.

    Args:
        results: A result or an error for each input.
        return_exceptions: Whether errors are results.

    Returns:
        The results.

    Raises:
        Exception: The first error, unless errors are results.
    """
    first = next((result for result in results if isinstance(result, Exception)), None)
    if first is not None and not return_exceptions:
        raise first
    return cast("list[T]", list(results))


class BatchingChatModel(BaseChatModel):
    """A chat model whose batches are one call where that is faster; callbacks are told of each input."""

    @abstractmethod
    def _answers_together(self) -> bool:
        """Whether one call answers many inputs, faster than one by one."""

    @abstractmethod
    def _generate_together(
        self, asked: Sequence[Sequence[BaseMessage]], stop: list[str] | None, given: Mapping[str, Any]
    ) -> list[AIMessage]:
        """Answer conversations.

        Args:
            asked: The conversations.
            stop: Sequences at which an answer ends.
            given: What the call was given by name.

        Returns:
            An answer for each.
        """

    @override
    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer many inputs.

        Args:
            inputs: Texts, messages or prompts.
            config: One for all, or one an input; ``max_concurrency`` is how many are answered together at the most.
            return_exceptions: Whether to give an error in the place of what failed, instead of raising it.
            stop: Sequences at which an answer ends.
            **kwargs: What a single call takes.

        Returns:
            For each input its answer.
        """
        if not self._is_one_call(inputs):
            return super().batch(inputs, config, return_exceptions=return_exceptions, stop=stop, **kwargs)
        traced = {name: kwargs.pop(name) for name in _TRACED & kwargs.keys()}
        configs = configs_of(config, len(inputs))
        asked = [self._convert_input(each).to_messages() for each in inputs]
        runs = [
            cast("CallbackManager", self._manager(CallbackManager, each, stop, kwargs)).on_chat_model_start(
                {}, [messages], **self._facts(each, stop, kwargs, traced, len(inputs))
            )[0]
            for messages, each in zip(asked, configs, strict=True)
        ]
        answers = self._answers(asked, stop, kwargs, configs[0].get("max_concurrency"), apart=return_exceptions)
        for run, answer in zip(runs, answers, strict=True):
            if isinstance(answer, Exception):
                run.on_llm_error(answer, response=LLMResult(generations=[]))
            else:
                run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=answer)]]))
        return results_or_raise(answers, return_exceptions=return_exceptions)

    @override
    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """`batch` without blocking the event loop."""
        if not self._is_one_call(inputs):
            return await super().abatch(inputs, config, return_exceptions=return_exceptions, stop=stop, **kwargs)
        traced = {name: kwargs.pop(name) for name in _TRACED & kwargs.keys()}
        configs = configs_of(config, len(inputs))
        asked = [self._convert_input(each).to_messages() for each in inputs]
        runs = []
        for messages, each in zip(asked, configs, strict=True):
            manager = cast("AsyncCallbackManager", self._manager(AsyncCallbackManager, each, stop, kwargs))
            facts = self._facts(each, stop, kwargs, traced, len(inputs))
            runs += await manager.on_chat_model_start({}, [messages], **facts)
        most = configs[0].get("max_concurrency")
        answers = await asyncio.to_thread(self._answers, asked, stop, kwargs, most, apart=return_exceptions)
        for run, answer in zip(runs, answers, strict=True):
            if isinstance(answer, Exception):
                await run.on_llm_error(answer, response=LLMResult(generations=[]))
            else:
                await run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=answer)]]))
        return results_or_raise(answers, return_exceptions=return_exceptions)

    def _is_one_call(self, inputs: Sequence[LanguageModelInput]) -> bool:
        """Whether a batch is one call; what LangChain keeps or holds back goes its own way."""
        kept = self.cache is not False and (self.cache is not None or get_llm_cache() is not None)
        return len(inputs) > 1 and not kept and self.rate_limiter is None and self._answers_together()

    def _answers(
        self,
        asked: Sequence[Sequence[BaseMessage]],
        stop: list[str] | None,
        given: Mapping[str, Any],
        most: int | None,
        *,
        apart: bool,
    ) -> list[AIMessage | Exception]:
        """An answer or an error for each; after an error they are asked one by one where all results are wanted."""
        size, found = most or len(asked), list[AIMessage | Exception]()
        for part in (asked[start : start + size] for start in range(0, len(asked), size)):
            try:
                found += self._generate_together(part, stop, given)
            except Exception as error:  # noqa: BLE001 - callbacks are told, then it is raised
                if not apart:
                    return [*found, *[error] * (len(asked) - len(found))]
                found += [error] if len(part) == 1 else self._answers(part, stop, given, 1, apart=True)
        return found

    def _manager(
        self,
        kind: type[CallbackManager | AsyncCallbackManager],
        config: RunnableConfig,
        stop: list[str] | None,
        given: Mapping[str, Any],
    ) -> CallbackManager | AsyncCallbackManager:
        metadata = {**(config.get("metadata") or {}), **self._get_ls_params(stop=stop, **given)}
        return kind.configure(
            config.get("callbacks"),
            self.callbacks,
            self.verbose,
            config.get("tags"),
            self.tags,
            metadata,
            self.metadata,
        )

    def _facts(
        self,
        config: RunnableConfig,
        stop: list[str] | None,
        given: Mapping[str, Any],
        traced: Mapping[str, Any],
        count: int,
    ) -> dict[str, Any]:
        """What callbacks are told at the start of a run beside its messages."""
        return {
            "invocation_params": self._get_invocation_params(stop=stop, **given),
            "options": {"stop": stop, **traced},
            "name": config.get("run_name"),
            "run_id": config.get("run_id"),
            "batch_size": count,
        }
