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

from batch_child import answers
from batch_server import BatchServer

import ragkit.models._batch_model  # noqa: F401 - the processes share the imports

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


def main() -> None:
    """Kill the process at each of the points, start it again, and count."""
    draw = random.Random(0)
    points = [(draw.randint(1, CALLS), draw.choice(MOMENTS)) for _ in range(POINTS)]
    killed = same = twice = lost = batches = 0
    for call, moment in points:
        with BatchServer() as server, tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            server.fates = {"prompt 3": ["expired"]}  # so that there is a second batch
            server.states = ["in_progress", "completed"]
            child = 0

            def kill(number: int, when: str, call: int = call, moment: str = moment) -> None:
                if (number, when) == (call, moment):
                    os.kill(child, signal.SIGKILL)

            server.on_call = kill
            child = started(server.url, folder)
            if moment == "later":
                while len(server.calls) < call and not (folder / "answers.json").exists():
                    time.sleep(0.0005)
                time.sleep(draw.uniform(0, 0.02))
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            killed += os.WIFSIGNALED(status)
            server.on_call = lambda number, when: None
            os.waitpid(started(server.url, folder), 0)
            found = folder / "answers.json"
            same += found.exists() and json.loads(found.read_text()) == EXPECTED
            counts = Counter(server.submitted)
            twice += sum(count - 1 for prompt, count in counts.items() if prompt != "prompt 3")
            twice += max(0, counts["prompt 3"] - 2)  # it expired once
            lost += PROMPTS - len(counts)
            batches += len(server.batches)
    result = {
        "environment": {"python": platform.python_version(), "openai": version("openai")},
        "prompts": PROMPTS, "points": POINTS, "killed": killed, "same_answers": same, "submitted_twice": twice,
        "not_submitted": lost, "batches": batches,
    }  # fmt: skip
    (HERE / "results" / "batch.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
