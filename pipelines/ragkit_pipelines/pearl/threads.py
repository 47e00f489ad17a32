"""Work on a thread, waited for by an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

from ragkit_pipelines.pearl.gate import Cancellation

T = TypeVar("T")


async def in_thread(work: Callable[[], T], cancellation: Cancellation) -> T:
    """Run some work on a thread of its own: a shared pool would let only a few questions wait at once.

    Args:
        work: The work.
        cancellation: What calls the work off where the task that waits for it is cancelled.

    Returns:
        What the work returned.

    Raises:
        CancelledError: If the task is cancelled.
    """
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            done.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return await asyncio.wrap_future(done)
    except asyncio.CancelledError:
        cancellation.cancel()
        raise
