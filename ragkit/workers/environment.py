"""Variables that a new process reads before its first line of Python runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

_CHANGING = Lock()


def threads_for_openmp(threads: int) -> dict[str, str]:
    """What OpenMP reads when a process loads it, which is before the process could set it itself.

    Args:
        threads: Threads of one process.

    Returns:
        Variables; waiting threads sleep, since spinning ones take the time of the other workers.
    """
    return {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}


@contextmanager
def environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started in this block, and put them back."""
    with _CHANGING:
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
