"""Batch mode killed at random points: is an answer lost, does it differ, or is a request submitted twice?

A process that answers prompts in batch mode is killed at a random call of the batch interface, before or after the
server has handled it, or a few milliseconds later, and is started again until it ends. The server on loopback is that
of the tests. Results go to ``results/batch.json``.
"""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "tests" / "helpers"))  # for the server and the process that the tests use too
os.environ["OPENAI_API_KEY"] = "none"

from batch_child import answers  # noqa: E402
from batch_server import BatchServer  # noqa: E402

import ragkit.models._batch_model  # noqa: E402, F401 - the processes share the imports

POINTS = 20
PROMPTS = 40
CALLS = 8  # of a run without a kill
MOMENTS = ("before", "after", "later")
EXPECTED = [f"answer to prompt {number}" for number in range(PROMPTS)]


def started(url: str, folder: Path) -> int:
    """Start the process, which writes its answers to a file at its end."""
    child = os.fork()
    if child:
        return child
    try:
        found = answers(url, folder, PROMPTS)
        (folder / "answers.json").write_text(json.dumps(found))
    finally:
        os._exit(0)


def run(server: BatchServer, folder: Path, call: int, moment: str, delay: float) -> bool:
    """Kill the process at a point and start it again; return whether it was killed before its end."""
    server.fates = {"prompt 3": ["expired"]}  # so that there is a second batch
    server.states = ["in_progress", "completed"]
    child = 0

    def kill(number: int, when: str) -> None:
        if (number, when) == (call, moment):
            os.kill(child, signal.SIGKILL)

    server.on_call = kill
    child = started(server.url, folder)
    if moment == "later":
        while len(server.calls) < call and not (folder / "answers.json").exists():
            time.sleep(0.0005)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    server.on_call = lambda *_: None
    os.waitpid(started(server.url, folder), 0)
    return os.WIFSIGNALED(status)


def main() -> None:
    """Kill the process at each of the points, and count."""
    draw = random.Random(0)
    points = [(draw.randint(1, CALLS), draw.choice(MOMENTS), draw.uniform(0, 0.02)) for _ in range(POINTS)]
    killed = same = twice = lost = 0
    for point in points:
        with BatchServer() as server, tempfile.TemporaryDirectory() as name:
            killed += run(server, Path(name), *point)
            found = Path(name) / "answers.json"
            same += found.exists() and json.loads(found.read_text()) == EXPECTED
            counts = Counter(server.submitted)
            counts["prompt 3"] -= 1  # it expired once
            twice += sum(max(0, count - 1) for count in counts.values())
            lost += sum(counts[f"prompt {number}"] < 1 for number in range(PROMPTS))
    result = {
        "environment": {"python": platform.python_version(), "openai": version("openai")},
        "prompts": PROMPTS, "points": POINTS, "killed": killed, "same_answers": same, "submitted_twice": twice,
        "not_submitted": lost,
    }  # fmt: skip
    (HERE / "results" / "batch.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
