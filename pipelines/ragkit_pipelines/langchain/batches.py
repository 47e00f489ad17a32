"""Chat models that process a batch in one call. By default, LangChain makes one call per input, in threads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager, Callbacks
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_config_list
from typing_extensions import override

from ragkit.models._concurrency import run_cancellable

T = TypeVar("T")
Manager = TypeVar("Manager", CallbackManager, AsyncCallbackManager)
_TRACED = {"ls_structured_output_format"}  # arguments that are only passed to callbacks


def configs_of(config: RunnableConfig | list[RunnableConfig] | None, count: int) -> list[RunnableConfig]:
    """Return a config for each input."""
    return get_config_list(config, count) if count else []


def manager_of(
    kind: type[Manager],
    owner: BaseChatModel | BaseRetriever,
    config: RunnableConfig,
    params: Mapping[str, Any],
    callbacks: Callbacks = None,
    verbose: bool = False,  # noqa: FBT001, FBT002 - as in LangChain
) -> Manager:
    """Return the callback manager of one run of a model or a retriever; ``params`` are added to its metadata."""
    metadata = {**(config.get("metadata") or {}), **params}
    return kind.configure(
        config.get("callbacks"), callbacks, verbose, config.get("tags"), owner.tags, metadata, owner.metadata
    )


def results_or_raise(results: Sequence[T | Exception], *, return_exceptions: bool) -> list[T]:
    """Return the results, or raise the first error unless errors are returned as results."""
    first = next((result for result in results if isinstance(result, Exception)), None)
    if first is not None and not return_exceptions:
        raise first
    return cast("list[T]", list(results))


class BatchingChatModel(BaseChatModel):
    """A chat model that processes a batch in one call if that is faster; callbacks receive every input."""

    @abstractmethod
    def _supports_batches(self) -> bool:
        """Whether one call for many inputs is faster than one call per input."""

    @abstractmethod
    def _generate_batch(
        self, conversations: Sequence[Sequence[BaseMessage]], stop: list[str] | None, options: Mapping[str, Any]
    ) -> list[AIMessage]:
        """Generate the response to each conversation.

        Args:
            conversations: The conversations.
            stop: Stop sequences.
            options: Keyword arguments of the call.

        Returns:
            One response per conversation.
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
        """Generate the response to each input.

        Args:
            inputs: Texts, messages or prompts.
            config: One config for all inputs, or one per input; ``max_concurrency`` is the maximum batch size.
            return_exceptions: Whether to return errors instead of raising the first one.
            stop: Stop sequences.
            **kwargs: Arguments of a single call.

        Returns:
            One response per input.
        """
        if not self._is_one_call(inputs):
            return super().batch(inputs, config, return_exceptions=return_exceptions, stop=stop, **kwargs)
        traced = {name: kwargs.pop(name) for name in _TRACED & kwargs.keys()}
        configs = configs_of(config, len(inputs))
        conversations = [self._convert_input(each).to_messages() for each in inputs]
        runs = [
            self._manager(CallbackManager, each, stop, kwargs).on_chat_model_start(
                {}, [messages], **self._facts(each, stop, kwargs, traced, len(inputs))
            )[0]
            for messages, each in zip(conversations, configs, strict=True)
        ]
        size = configs[0].get("max_concurrency")
        results = self._results(conversations, stop, kwargs, size, return_exceptions=return_exceptions)
        for run, result in zip(runs, results, strict=True):
            if isinstance(result, Exception):
                run.on_llm_error(result, response=LLMResult(generations=[]))
            else:
                run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=result)]]))
        return results_or_raise(results, return_exceptions=return_exceptions)

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
        if not self._is_one_call(inputs):
            return await super().abatch(inputs, config, return_exceptions=return_exceptions, stop=stop, **kwargs)
        traced = {name: kwargs.pop(name) for name in _TRACED & kwargs.keys()}
        configs = configs_of(config, len(inputs))
        conversations = [self._convert_input(each).to_messages() for each in inputs]
        runs = []
        for messages, each in zip(conversations, configs, strict=True):
            manager = self._manager(AsyncCallbackManager, each, stop, kwargs)
            facts = self._facts(each, stop, kwargs, traced, len(inputs))
            runs += await manager.on_chat_model_start({}, [messages], **facts)
        size = configs[0].get("max_concurrency")
        work = partial(self._results, conversations, stop, kwargs, size, return_exceptions=return_exceptions)
        results = await run_cancellable(work)
        for run, result in zip(runs, results, strict=True):
            if isinstance(result, Exception):
                await run.on_llm_error(result, response=LLMResult(generations=[]))
            else:
                await run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=result)]]))
        return results_or_raise(results, return_exceptions=return_exceptions)

    def _is_one_call(self, inputs: Sequence[LanguageModelInput]) -> bool:
        """Whether a batch is one call; LangChain handles inputs if it caches responses or limits the rate."""
        cached = self.cache is not False and (self.cache is not None or get_llm_cache() is not None)
        return len(inputs) > 1 and not cached and self.rate_limiter is None and self._supports_batches()

    def _results(
        self,
        conversations: Sequence[Sequence[BaseMessage]],
        stop: list[str] | None,
        options: Mapping[str, Any],
        batch_size: int | None,
        *,
        return_exceptions: bool,
    ) -> list[AIMessage | Exception]:
        """Return a response or an error for each; if errors are returned, a failing batch is repeated one by one."""
        size, found = batch_size or len(conversations), list[AIMessage | Exception]()
        for part in (conversations[start : start + size] for start in range(0, len(conversations), size)):
            try:
                found += self._generate_batch(part, stop, options)
            except Exception as error:  # noqa: BLE001 - reported to the callbacks, then raised
                if not return_exceptions:
                    return [*found, *[error] * (len(conversations) - len(found))]
                found += [error] if len(part) == 1 else self._results(part, stop, options, 1, return_exceptions=True)
        return found

    def _manager(
        self, kind: type[Manager], config: RunnableConfig, stop: list[str] | None, options: Mapping[str, Any]
    ) -> Manager:
        return manager_of(kind, self, config, self._get_ls_params(stop=stop, **options), self.callbacks, self.verbose)

    def _facts(
        self,
        config: RunnableConfig,
        stop: list[str] | None,
        options: Mapping[str, Any],
        traced: Mapping[str, Any],
        count: int,
    ) -> dict[str, Any]:
        """Return the arguments of a callback at the start of a run, except for the messages."""
        return {
            "invocation_params": self._get_invocation_params(stop=stop, **options),
            "options": {"stop": stop, **traced},
            "name": config.get("run_name"),
            "run_id": config.get("run_id"),
            "batch_size": count,
        }
