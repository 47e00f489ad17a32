"""Observers of model calls, retrievals, selections and comparisons, such as the callbacks of LangChain.

An observer is set for a block of code, and applies to all threads that ragkit starts inside it. It receives each call
once; a call can set another observer for the calls inside it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal, Protocol, TypeVar

Kind = Literal["model", "retriever", "selector", "comparison", "strategy"]
R = TypeVar("R", bound=Sequence[Any])
T = TypeVar("T")


class ObservedCall(Protocol):
    """A call in progress, with one result per input."""

    def inside(self) -> AbstractContextManager[None]:
        """Return the context in which the work of the call is done."""
        ...

    def piece(self, text: str) -> None:
        """Report a piece of a streamed answer."""
        ...

    def ended(self, results: Sequence[Any]) -> None:
        """Report the results: completions or errors, lists of hits, or selections."""
        ...

    def failed(self, error: BaseException) -> None:
        """Report the error that ended the call."""
        ...


class Unreported:
    """A call that is not reported; the calls inside it are."""

    def inside(self) -> AbstractContextManager[None]:
        """Return a context that changes nothing."""
        return nullcontext()

    def piece(self, text: str) -> None:
        """Ignore a piece."""

    def ended(self, results: Sequence[Any]) -> None:
        """Ignore the results."""

    def failed(self, error: BaseException) -> None:
        """Ignore the error."""


Observer = Callable[[Kind, Any, Sequence[Any], Mapping[str, Any]], ObservedCall]
"""Is called with the kind, the component, its inputs and its settings when a call begins."""

_OBSERVER: ContextVar[Observer | None] = ContextVar("ragkit_observer", default=None)


@contextmanager
def observing(observer: Observer | None) -> Iterator[None]:
    """Set the observer for a block of code; None for no observer."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def observed(
    kind: Kind,
    component: object,
    inputs: Sequence[Any],
    work: Callable[[], R],
    settings: Mapping[str, Any] | None = None,
) -> R:
    """Do the work of a call, and report it to the observer if there is one."""
    observer = _OBSERVER.get()
    if observer is None or not inputs:
        return work()
    call = observer(kind, component, inputs, settings or {})
    try:
        with call.inside():
            results = work()
    except BaseException as error:
        call.failed(error)
        raise
    call.ended(results)
    return results


async def observed_later(kind: Kind, component: object, inputs: Sequence[Any], work: Callable[[], Awaitable[R]]) -> R:
    """Do what `observed` does for work that is awaited."""
    observer = _OBSERVER.get()
    if observer is None or not inputs:
        return await work()
    call = observer(kind, component, inputs, {})
    try:
        with call.inside():
            results = await work()
    except BaseException as error:
        call.failed(error)
        raise
    call.ended(results)
    return results


def observed_pieces(
    component: object, prompt: object, pieces: Generator[str, None, T], settings: Mapping[str, Any]
) -> Generator[str, None, T]:
    """Return the pieces of a model's answer, and report them to the observer that is set now, if there is one."""
    observer = _OBSERVER.get()
    return pieces if observer is None else _reported(observer, component, prompt, pieces, settings)


def _reported(
    observer: Observer, component: object, prompt: object, pieces: Generator[str, None, T], settings: Mapping[str, Any]
) -> Generator[str, None, T]:
    call = observer("model", component, [prompt], settings)
    while True:
        try:
            with call.inside():  # for each piece, because the caller runs between them
                piece = next(pieces)
        except StopIteration as end:
            call.ended([end.value])
            result: T = end.value
            return result
        except BaseException as error:
            call.failed(error)
            raise
        call.piece(piece)
        try:
            yield piece
        except GeneratorExit as error:  # the caller does not want the rest
            pieces.close()
            call.failed(error)
            raise
