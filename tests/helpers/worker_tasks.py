"""Work for the tests of pools; spawned workers import it by name."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Squares:
    """Squares of numbers; notes every batch and every start in a folder, and does harm where it is told to.

    Attributes:
        folder: Where to note.
        once: Harm done at the first batch that holds this item; the second time all is well.
        always: Harm done at every batch that holds this item.
        harm: "exit", "kill", "raise", "short" (one result too few), "object" (no JSON).
        array: Whether results are an array.
        seconds: How long a batch takes.
        last: An item whose batch takes ten seconds, so that a run can be stopped before its end.
    """

    folder: str
    once: int | None = None
    always: int | None = None
    harm: str = "kill"
    array: bool = True
    seconds: float = 0.0
    last: int | None = None
    fingerprint: str = "squares"

    def start(self):
        note(self.folder, f"start {os.environ.get('OMP_NUM_THREADS')} {os.environ.get('OMP_WAIT_POLICY')}")
        return self.run

    def run(self, items):
        note(self.folder, f"batch {items[0]}")
        time.sleep(10 if self.last in items else self.seconds)
        if self.always in items:
            return self.do_harm(items)
        if self.once in items:
            done = Path(self.folder) / "harmed"
            if not done.exists():
                done.touch()
                return self.do_harm(items)
        values = np.array(items, dtype=np.float32) ** 2
        return values[:, None] if self.array else [{"n": n, "square": float(s)} for n, s in zip(items, values)]  # noqa: B905

    def do_harm(self, items):
        if self.harm == "exit":
            os._exit(7)
        if self.harm == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.harm == "raise":
            raise ValueError("this batch is not liked")
        if self.harm == "object":
            return [object() for _ in items]
        return items[1:]


@dataclass(frozen=True)
class Spill:
    """Squares that need room on the disk of their machine; on one machine, or in the first process, it is full.

    Attributes:
        folder: Where to note.
        node: The Ray node whose disk is full; None for the process that started first.
    """

    folder: str
    node: str | None = None
    fingerprint: str = "squares"

    def start(self):
        note(self.folder, "start")
        return self.run_full if self.is_full() else self.run

    def is_full(self):
        if self.node is None:
            try:
                (Path(self.folder) / "first").touch(exist_ok=False)
            except FileExistsError:
                return False
            return True
        import ray

        return ray.get_runtime_context().get_node_id() == self.node

    def run_full(self, items):
        note(self.folder, f"full {items[0]}")
        with Path("/dev/full").open("wb") as file:  # where the kernel says "No space left on device"
            file.write(b"x")
        return self.run(items)

    def run(self, items):
        note(self.folder, f"batch {items[0]}")
        time.sleep(0.1)
        return np.array(items, dtype=np.float32)[:, None] ** 2


@dataclass(frozen=True)
class NoStart:
    """Work that cannot start."""

    harm: str = "raise"
    fingerprint: str = "no start"

    def start(self):
        if self.harm == "raise":
            raise RuntimeError("there is no model")
        os._exit(3)


def note(folder, line):
    """Append a line; short appends of several processes do not mix."""
    with (Path(folder) / "notes").open("a") as file:
        file.write(line + "\n")


def noted(folder, kind):
    """The rest of every line of one kind."""
    lines = (Path(folder) / "notes").read_text().splitlines() if (Path(folder) / "notes").exists() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(kind + " ")]
