"""API models before a server that fails in every way: what is lost, paid twice, or scored although it is no answer.

Most requests meet faults first: rejections with each kind of header, server errors, dropped and hanging connections,
errors inside responses and streams of status 200; some are refused in the end. Afterwards, the time that a call takes
besides the provider's package is measured with many concurrent calls. Results go to ``results/``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

os.environ.pop("OPENAI_API_KEY", None)

from server import answer_to, fate

from ragkit import load_model
from ragkit.errors import BatchError, RagkitError, RefusalError
from ragkit.models import Price, Prices, Retry
from ragkit.protocols import LanguageModel
from ragkit.records import Completion

HERE = Path(__file__).resolve().parent
PRICES = Prices({"openai:m": Price(input=1.0, output=1.0)})
CONCURRENCY = 64
TIMEOUT = 10.0
ROUNDS = 8


class Running:
    """The server in a process of its own."""

    def __enter__(self) -> str:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        return f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def counts(address: str) -> dict[str, dict[str, int]]:
    with urlopen(f"{address}/counts") as reply:  # noqa: S310
        return dict(json.load(reply))


def loaded(address: str, cache: Path) -> LanguageModel:
    retry = Retry(attempts=8, first_wait=0.001, longest_wait=5.0)
    return load_model("openai:m", base_url=f"{address}/v1", retry=retry, prices=PRICES, cache=cache, timeout=TIMEOUT,
                      concurrency=CONCURRENCY)  # fmt: skip


def results(model: LanguageModel, prompts: list[str], streamed: list[str]) -> dict[str, Completion | RagkitError]:
    """Answer prompts as one batch, and others as streams."""

    def stream(prompt: str) -> Completion | RagkitError:
        try:
            pieces: Any = model.stream(prompt, max_tokens=20)
            "".join(pieces)
        except RagkitError as error:
            return error
        return Completion(text=pieces.completion.text)

    try:
        found: list[Completion | RagkitError] = list(model.generate(prompts, max_tokens=20))
    except BatchError as error:
        found = list(error.results)
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        found += pool.map(stream, streamed)
    return dict(zip([*prompts, *streamed], found, strict=True))


def faults(number: int) -> dict[str, Any]:
    """Send prompts through faults, and again to a cache; count what went wrong."""
    prompts = [f"question {index}" for index in range(number)]
    whole, streamed = prompts[number // 4 :], prompts[: number // 4]
    with Running() as address, tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        first = results(loaded(address, Path(folder) / "cache.sqlite"), whole, streamed)
        seconds, before = time.perf_counter() - started, counts(address)
        second = results(loaded(address, Path(folder) / "cache.sqlite"), whole, streamed)
        after = counts(address)
    tally: Counter[str] = Counter({"lost": 0, "paid twice": 0, "refusals scored as answers": 0, "wrong": 0})
    for index, prompt in enumerate(prompts):
        met, last = fate(prompt, stream=index < len(streamed))
        refused = last != "answer"
        for each in (first[prompt], second[prompt]):
            if isinstance(each, Completion):
                tally["refusals scored as answers" if refused else "wrong"] += refused or each.text != answer_to(prompt)
            elif not (refused and isinstance(each, RefusalError)):
                tally["lost"] += 1
                print(f"lost: {prompt}, {met}, {last}: {each!r:.300}", file=sys.stderr)
        tally["paid twice"] += before["answered"].get(prompt, 0) != 1
        tally["paid twice"] += not refused and after["answered"].get(prompt, 0) != 1
    requests = sum(before["requests"].values())
    return {"prompts": number, "requests": requests, "seconds": round(seconds, 1), "faults": before["met"], **tally}


def overhead(number: int) -> dict[str, float]:
    """CPU milliseconds of a call with concurrent calls: ours, besides those of LangChain's chat model.

    Both take turns, and medians count.
    """
    from langchain_openai import ChatOpenAI

    # Prompts whose first request is answered.
    texts = (f"plain {index}" for index in range(10 * number))
    prompts = [text for text in texts if fate(text, stream=False) == ([], "answer")]
    part = number // ROUNDS
    package, whole = [], []
    with Running() as address, tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(CONCURRENCY) as pool:
        chat = ChatOpenAI(model="m", base_url=f"{address}/v1", api_key="none", max_retries=0)
        model = loaded(address, Path(folder) / "cache.sqlite")

        def ask(text: str) -> None:
            chat.bind(max_tokens=20, temperature=0.0, seed=0).invoke([("user", text)])

        for turn in range(ROUNDS + 1):
            asked = prompts[2 * turn * part : 2 * (turn + 1) * part]
            started = time.process_time()
            list(pool.map(ask, asked[:part]))
            between = time.process_time()
            model.generate(asked[part:], max_tokens=20)
            package.append((between - started) / part)
            whole.append((time.process_time() - between) / part)
    # The first turn opens the connections.
    ours = median(two - one for one, two in zip(package[1:], whole[1:], strict=True))
    facts = {"package_ms": median(package[1:]) * 1e3, "ragkit_ms": ours * 1e3}
    return {"calls": number, "concurrency": CONCURRENCY, **{name: round(value, 3) for name, value in facts.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=6_000, help="each is sent about 1.8 times")
    parser.add_argument("--calls", type=int, default=2_000)
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    warnings.simplefilter("ignore")
    found = {"faults": faults(arguments.prompts), "overhead": overhead(arguments.calls)}
    facts = {"python": platform.python_version(), "cores": os.cpu_count(), "machine": platform.machine(),
             "load": {"before": round(before, 1), "after": round(os.getloadavg()[0], 1)}}  # fmt: skip
    print(json.dumps(found, indent=1))
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "api.json").write_text(json.dumps({**found, "environment": facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
