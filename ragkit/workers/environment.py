"""Environment variables that must be set before a process starts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

_CHANGING = Lock()


def threads_for_openmp(threads: int) -> dict[str, str]:
    """Return the variables that OpenMP reads when it is loaded, before the process could set them itself.

    Args:
        threads: Threads per process.

    Returns:
        Variables. Waiting threads sleep, because spinning threads would slow down the other workers.
    """
    return {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}


@contextmanager
def environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started in this block, and restore them afterwards."""
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
