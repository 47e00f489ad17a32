"""Waiting for what other threads and processes do, however long a busy machine takes for it."""

import time


def wait_for(condition, seconds=60):
    """Wait until a condition holds; fail where it does not in a time that no machine needs."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to it"
        time.sleep(0.005)
