"""A ``RunnableParallel`` that keeps a batch together, so that each of its steps is called once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import RunnableConfig, RunnableParallel
from langchain_core.runnables.config import get_executor_for_config, patch_config
from typing_extensions import override


class RagkitParallel(RunnableParallel[Any]):
    """Run several steps on the same input; a batch calls ``batch`` of each step once, with all inputs.

    LangChain's ``RunnableParallel``, and a mapping in a chain, divide a batch into calls of ``invoke``, so that a
    retriever embeds and searches each query on its own. Everything else is as in ``RunnableParallel``.

    Examples:
        >>> from langchain_core.runnables import RunnablePassthrough
        >>> from ragkit.langchain import RagkitVectorStore
        >>> retriever = RagkitVectorStore.from_texts(["dim the lamp", "play a song"], "hash:256").as_retriever(k=1)
        >>> chain = RagkitParallel({"context": retriever, "question": RunnablePassthrough()})
        >>> [(found["question"], found["context"][0].page_content) for found in chain.batch(["lamps", "songs"])]
        [('lamps', 'dim the lamp'), ('songs', 'play a song')]
    """

    @classmethod
    @override
    def get_lc_namespace(cls) -> list[str]:
        return ["ragkit", "langchain"]

    @override
    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[dict[str, Any]]:
        """Run each step on all inputs in one call of its ``batch``; the steps run in parallel."""

        def work(
            given: list[Any], run_manager: list[CallbackManagerForChainRun], config: list[RunnableConfig]
        ) -> list[Any]:
            with get_executor_for_config(config[0]) as executor:
                futures = {
                    key: executor.submit(
                        step.batch, given, _children(key, run_manager, config), return_exceptions=return_exceptions
                    )
                    for key, step in self.steps__.items()
                }
                return _joined({key: future.result() for key, future in futures.items()}, len(given))

        return self._batch_with_config(work, inputs, config, return_exceptions=return_exceptions, **kwargs)

    @override
    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[dict[str, Any]]:
        """Do what `batch` does, without blocking the event loop."""

        async def work(
            given: list[Any], run_manager: list[AsyncCallbackManagerForChainRun], config: list[RunnableConfig]
        ) -> list[Any]:
            calls = [
                step.abatch(given, _children(key, run_manager, config), return_exceptions=return_exceptions)
                for key, step in self.steps__.items()
            ]
            found = await asyncio.gather(*calls)
            return _joined(dict(zip(self.steps__, found, strict=True)), len(given))

        return await self._abatch_with_config(work, inputs, config, return_exceptions=return_exceptions, **kwargs)


def _children(
    key: str,
    managers: Sequence[CallbackManagerForChainRun | AsyncCallbackManagerForChainRun],
    configs: Sequence[RunnableConfig],
) -> list[RunnableConfig]:
    """Return the config of a step for each input, with the run of the input as the parent."""
    return [
        patch_config(config, callbacks=manager.get_child(f"map:key:{key}"))
        for manager, config in zip(managers, configs, strict=True)
    ]


def _joined(columns: Mapping[str, Sequence[Any]], count: int) -> list[dict[str, Any] | Exception]:
    """Return the results of each input by step; the error of a step becomes the result of its input."""
    rows = [{key: column[row] for key, column in columns.items()} for row in range(count)]
    errors = [next((each for each in row.values() if isinstance(each, Exception)), None) for row in rows]
    return [row if error is None else error for row, error in zip(rows, errors, strict=True)]
