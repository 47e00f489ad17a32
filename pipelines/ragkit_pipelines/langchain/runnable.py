"""Use ragkit pipelines as LangChain runnables, with config, callbacks, events and batches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import Runnable, RunnableConfig
from typing_extensions import override

from ragkit._observation import Observer, observing
from ragkit._text import refuse_bare_string
from ragkit.errors import InvalidInputError
from ragkit.models._concurrency import iterate_cancellable, run_cancellable
from ragkit_pipelines.langchain.tracing import observer_of

_END = object()  # the end of a stream


def as_runnable(pipeline: Any, *, input_key: str | None = None, keywords: Sequence[str] = ()) -> PipelineRunnable:
    """Wrap a pipeline as a LangChain runnable.

    Args:
        pipeline: An object with ``invoke``; its ``batch``, ``stream`` and async methods are used if it has them.
        input_key: The key of the pipeline's input, if the runnable's input is a mapping; None to pass inputs unchanged.
        keywords: Keys of the input mapping that are passed as keyword arguments, such as ``"document"``.

    Returns:
        The runnable, which returns the results of the pipeline. Callbacks receive a run of the pipeline, and below it a
        run for each call of a model, retriever or selector of ragkit.

    Raises:
        InvalidInputError: If the pipeline has no ``invoke``, or `keywords` is a string or is given without `input_key`.

    Examples:
        >>> from ragkit import FewShot, ScriptedModel
        >>> chain = as_runnable(FewShot(ScriptedModel(["light", "music"]), None)) | (lambda answer: answer.text)
        >>> chain.batch(["dim the lamp", "play a song"])
        ['light', 'music']
    """
    if not callable(getattr(pipeline, "invoke", None)):
        raise InvalidInputError(f"`pipeline` must have `invoke`, got {type(pipeline).__name__}")
    refuse_bare_string("keywords", keywords)
    if keywords and input_key is None:
        raise InvalidInputError("`keywords` requires `input_key`, which names the entry that is the input")
    return PipelineRunnable(pipeline, input_key, tuple(keywords))


class PipelineRunnable(Runnable[Any, Any]):
    """A LangChain runnable that calls a pipeline; created by `as_runnable`.

    Attributes:
        pipeline: The pipeline.
        input_key: The key of its input in an input mapping.
        keywords: Keys that are passed as keyword arguments.
    """

    def __init__(self, pipeline: Any, input_key: str | None, keywords: tuple[str, ...]) -> None:
        """Use `as_runnable`."""
        self.pipeline, self.input_key, self.keywords = pipeline, input_key, keywords
        self.name = type(pipeline).__name__

    @override
    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run the pipeline."""
        return self._call_with_config(self._invoke, input, config, **kwargs)

    @override
    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run the pipeline without blocking the event loop."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)

    @override
    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[Any]:
        """Run the pipeline on all inputs in one call, if it has ``batch`` and there are no keyword arguments."""
        if self.keywords or kwargs or not hasattr(self.pipeline, "batch"):
            return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)

        def work(given: list[Any], run_manager: list[CallbackManagerForChainRun]) -> list[Any]:
            with observing(observer_of([each.get_child() for each in run_manager])):
                return self._outputs(given, return_exceptions=return_exceptions)

        return self._batch_with_config(work, inputs, config, return_exceptions=return_exceptions)

    @override
    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[Any]:
        """Do what `batch` does, without blocking the event loop."""
        if self.keywords or kwargs or not hasattr(self.pipeline, "batch"):
            return await super().abatch(inputs, config, return_exceptions=return_exceptions, **kwargs)

        async def work(given: list[Any], run_manager: list[AsyncCallbackManagerForChainRun]) -> list[Any]:
            with observing(observer_of([each.get_sync().get_child() for each in run_manager])):
                return await run_cancellable(partial(self._outputs, given, return_exceptions=return_exceptions))

        return await self._abatch_with_config(work, inputs, config, return_exceptions=return_exceptions)

    @override
    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Yield the pieces of an answer, or the complete answer if the pipeline has no ``stream``."""
        yield from self._transform_stream_with_config(iter([input]), self._pieces, config, **kwargs)

    @override
    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Do what `stream` does, without blocking the event loop."""

        async def given() -> AsyncIterator[Any]:
            yield input

        async for piece in self._atransform_stream_with_config(given(), self._apieces, config, **kwargs):
            yield piece

    def _read(self, input: Any) -> tuple[Any, dict[str, Any]]:
        """Return the input of the pipeline, and its keyword arguments."""
        if self.input_key is None:
            return input, {}
        if not isinstance(input, Mapping):
            raise InvalidInputError(f"the input must be a mapping with {self.input_key!r}, got {type(input).__name__}")
        missing = [name for name in (self.input_key, *self.keywords) if name not in input]
        if missing:
            raise InvalidInputError(f"the input has no {', '.join(map(repr, missing))}; its keys: {sorted(input)}")
        return input[self.input_key], {name: input[name] for name in self.keywords}

    def _invoke(self, input: Any, run_manager: CallbackManagerForChainRun, **kwargs: Any) -> Any:
        with observing(observer_of([run_manager.get_child()])):
            return self._run(input, **kwargs)

    async def _ainvoke(self, input: Any, run_manager: AsyncCallbackManagerForChainRun, **kwargs: Any) -> Any:
        with observing(observer_of([run_manager.get_sync().get_child()])):
            return await self._arun(input, **kwargs)

    def _run(self, input: Any, **kwargs: Any) -> Any:
        value, named = self._read(input)
        return self.pipeline.invoke(value, **named, **kwargs)

    async def _arun(self, input: Any, **kwargs: Any) -> Any:
        value, named = self._read(input)
        if hasattr(self.pipeline, "ainvoke"):
            return await self.pipeline.ainvoke(value, **named, **kwargs)
        return await run_cancellable(partial(self.pipeline.invoke, value, **named, **kwargs))

    def _outputs(self, inputs: list[Any], *, return_exceptions: bool) -> list[Any]:
        """Return all outputs; if errors are returned, a failing batch is repeated one by one."""
        try:
            return list(self.pipeline.batch([self._read(each)[0] for each in inputs]))
        except Exception:
            if not return_exceptions or len(inputs) == 1:
                raise
        return [self._output_or_error(each) for each in inputs]

    def _output_or_error(self, input: Any) -> Any:
        try:
            return self._run(input)
        except Exception as error:  # noqa: BLE001 - returned to the caller
            return error

    def _pieces(self, inputs: Iterator[Any], run_manager: CallbackManagerForChainRun, **kwargs: Any) -> Iterator[Any]:
        observer = observer_of([run_manager.get_child()])
        for each in inputs:
            if hasattr(self.pipeline, "stream"):
                yield from self._streamed(each, observer, **kwargs)
            else:
                yield self._invoke(each, run_manager, **kwargs)

    async def _apieces(
        self, inputs: AsyncIterator[Any], run_manager: AsyncCallbackManagerForChainRun, **kwargs: Any
    ) -> AsyncIterator[Any]:
        observer = observer_of([run_manager.get_sync().get_child()])
        async for each in inputs:
            if hasattr(self.pipeline, "astream"):
                value, named = self._read(each)
                with observing(observer):
                    later = aiter(self.pipeline.astream(value, **named, **kwargs))
                try:
                    while (piece := await _anext(later, observer)) is not _END:
                        yield piece
                finally:
                    if hasattr(later, "aclose"):
                        await later.aclose()
            elif hasattr(self.pipeline, "stream"):
                stream = partial(self._streamed, each, observer, **kwargs)
                async with aclosing(iterate_cancellable(stream)) as pieces:
                    async for piece in pieces:
                        yield piece
            else:
                yield await self._ainvoke(each, run_manager, **kwargs)

    def _streamed(self, input: Any, observer: Observer | None, **kwargs: Any) -> Generator[Any, None, None]:
        """Yield the pieces of an answer, and close the stream of the pipeline if the caller stops early."""
        value, named = self._read(input)
        with observing(observer):
            pieces = iter(self.pipeline.stream(value, **named, **kwargs))
        try:
            while (piece := _next(pieces, observer)) is not _END:
                yield piece
        finally:
            getattr(pieces, "close", lambda: None)()


def _next(pieces: Iterator[Any], observer: Observer | None) -> Any:
    """Return the next piece of a stream or `_END`; the code that generates it is observed, not that of the caller."""
    with observing(observer):
        return next(pieces, _END)


async def _anext(pieces: AsyncIterator[Any], observer: Observer | None) -> Any:
    with observing(observer):
        return await anext(pieces, _END)
